"""Logs that no consumer serves a model, with the command that starts one."""

import logging
import time
from typing import Final

from stream.cli import start_consumer
from stream.settings import IngestSettings

logger = logging.getLogger(__name__)

#: A consumer that starts, or that its supervisor starts again, gets this time without a line.
_AFTER_S: Final = 10.0


class MissingConsumers:
    """Watches the models that this process has seen served, and whether any model is served at all."""

    def __init__(self, settings: IngestSettings) -> None:
        self._settings = settings
        self._after_s = min(_AFTER_S, settings.request_timeout_s)
        self._seen: set[str] = set()
        #: When each model was first seen without a consumer; `logged` are those that have their line.
        self._since: dict[str, float] = {}
        self._logged: set[str] = set()

    def note(self, served: list[str], known: list[str]) -> None:
        """These models have a live consumer, of those that were ever served."""
        if self._settings.accept_without_consumers:
            return  # They are started on demand.
        self._seen.update(served)
        missing = self._seen.difference(served)
        if not served and not missing:
            missing = {self._settings.model or (known[0] if len(known) == 1 else "")}
        for model in self._logged - missing:
            logger.info("consumers serve %s again", model or "a model")
        self._logged &= missing
        now_s = time.monotonic()
        self._since = {model: self._since.get(model, now_s) for model in missing}
        for model, since_s in self._since.items():
            if model not in self._logged and now_s - since_s >= self._after_s:
                self._logged.add(model)
                start = start_consumer(self._settings, model or "NAME")
                logger.warning("no consumer serves %s; start one with: %s", model or "any model", start)
