"""Runs an inference request from its parsed message to the answer, whichever transport it came by."""

import asyncio
from collections.abc import Callable, Mapping

from ingest.classification import BulkClassifier, Classifier, Target
from ingest.dispatch.registry import ModelRegistry
from ingest.oip.infer_request import InferRequest, parse_request
from ingest.oip.infer_response import Answer, make_answer
from ingest.oip.wire import Message
from ingest.request_body import in_thread_if_large
from stream.keys import Priority


class InferRunner:
    """The steps that all transports share; each raises a Problem on failure. `timeout_s` bounds a whole request."""

    def __init__(self, registry: ModelRegistry, classifier: Classifier, *, timeout_s: float) -> None:
        self._registry = registry
        self._classifier = classifier
        self._timeout_s = timeout_s
        # To parse takes a core and several times the tensor's size in memory: one request at a time.
        self._parsing = asyncio.Lock()

    def target(self, name: str, version: str | None, priority: Priority, headers: Mapping[str, str]) -> Target:
        """What the request runs on; its headers, or its metadata, may name its client.

        Raises before any image is read if it would be refused in any case.
        """
        client = self._registry.find_served(name, version)
        model, wanted = client.route(headers, version)
        client.refuse_if_full(priority)
        return Target(client, model, version=version, priority=priority, wanted=wanted)

    async def parse(self, read: Callable[[], Message], target: Target, *, size: int) -> InferRequest:
        """The request in the message that `read` returns. `size` is how much of it must be parsed value by value."""
        return await in_thread_if_large(lambda: parse_request(read(), target.model), size=size, lock=self._parsing)

    async def run(self, asked: InferRequest, target: Target, *, remaining_s: float | None = None) -> Answer:
        """Classify all images. Cancelling this call cancels the work, as does the end of the client's `remaining_s`."""
        timeout_s = self._timeout_s if remaining_s is None else max(0.0, min(self._timeout_s, remaining_s))
        client = target.client
        predictions = await BulkClassifier(self._classifier, target, timeout_s=timeout_s).classify(asked.images)
        labels = {done.version: await client.versions.labels_of(done) for done in predictions}
        return await make_answer(asked, client.name, predictions, [labels[done.version] for done in predictions])
