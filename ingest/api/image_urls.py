"""Fetches images that a request names by URL."""

import asyncio
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import httpcore
import httpx

from ingest.errors import (
    RETRY_S,
    ImageNotFetched,
    Overloaded,
    PayloadTooLarge,
    Problem,
    UnsupportedMediaType,
    UrlNotAllowed,
)
from ingest.metrics import URL_FETCHES
from ingest.outbound.client import OutboundClient, Resolve, Unavailable, Unreachable
from ingest.outbound.policy import Policy, UrlRefused
from ingest.request_body import Limits, Upload
from ingest.request_trace import stage
from ingest.upload_memory import UploadInProgress, refusal
from stream.settings import IngestSettings

#: Redirects that are followed.
_MAX_REDIRECTS: Final = 3
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})

#: Connections of one process to servers of images.
_CONNECTIONS: Final = 64

#: Content types that may be an image. As with uploads, the first bytes decide.
_BINARY: Final = frozenset({"", "application/octet-stream", "binary/octet-stream"})

_HEADERS: Final = {"Accept": "image/*"}


class ImageUrls:
    """Fetches the images of one request at a time, all of them within `fetch_timeout_s`."""

    def __init__(self, settings: IngestSettings, *, resolve: Resolve | None = None) -> None:
        policy = Policy.of(settings, settings.fetch_hosts)
        self._client = OutboundClient(policy, connections=_CONNECTIONS, resolve=resolve)
        self._timeout_s = settings.fetch_timeout_s

    async def aclose(self) -> None:
        await self._client.aclose()

    async def fetch(self, texts: Sequence[str], limits: Limits) -> list[Upload]:
        """The images behind these URLs, in order. All together have the size and the memory of one request body.

        One that cannot be fetched has a problem: UrlNotAllowed, ImageNotFetched or UnsupportedMediaType. Raises
        PayloadTooLarge and Overloaded.
        """
        fetching: list[asyncio.Task[Upload]] = []
        upload: UploadInProgress | None = None
        try:
            with stage("fetch"):
                async with asyncio.timeout(self._timeout_s) as timeout:
                    with limits.memory.begin(timeout) as upload:
                        budget = _Budget(limits.max_bytes, upload)
                        async with asyncio.TaskGroup() as tasks:
                            fetching += [tasks.create_task(self._fetch_one(text, budget)) for text in texts]
        except TimeoutError as error:
            if upload and upload.refused:
                raise refusal() from error
        except ExceptionGroup as group:
            raise next((one for one in group.exceptions if isinstance(one, Problem)), group.exceptions[0]) from group
        return [self._late() if one.cancelled() else one.result() for one in fetching]

    def _late(self) -> Upload:
        URL_FETCHES.labels("failed").inc()
        detail = f"image_url did not arrive within {self._timeout_s:g} s. Send it again later, or the image itself."
        return Upload(None, b"", ImageNotFetched(detail, retry_after_s=RETRY_S))

    async def _fetch_one(self, text: str, budget: "_Budget") -> Upload:
        try:
            data = await self._follow(_checked(self._client.policy, text), budget)
        except (Unreachable, Problem) as error:
            URL_FETCHES.labels("refused" if isinstance(error, UrlNotAllowed | Overloaded) else "failed").inc()
            if isinstance(error, PayloadTooLarge | Overloaded):
                raise  # It concerns the images together.
            may_pass = isinstance(error, Unavailable)
            return Upload(None, b"", error if isinstance(error, Problem) else _not_fetched(error, may_pass=may_pass))
        URL_FETCHES.labels("fetched").inc()
        return Upload(None, data)

    async def _follow(self, url: httpx.URL, budget: "_Budget") -> bytes:
        for _ in range(_MAX_REDIRECTS + 1):
            async with self._client.request("GET", url, headers=_HEADERS) as response:
                if response.status not in _REDIRECTS:
                    return await _image(response, budget)
                url = _redirected(self._client.policy, url, _header(response, b"location"))
        raise ImageNotFetched(f"image_url redirects more than {_MAX_REDIRECTS} times.")


@dataclass(slots=True)
class _Budget:
    """The bytes that the images of one request may still have together."""

    left: int
    upload: UploadInProgress

    def take(self, size: int) -> None:
        """Raises PayloadTooLarge, and Overloaded if too many uploads are in progress."""
        self.left -= size
        if self.left < 0:
            raise PayloadTooLarge("The images behind image_url are larger than a request may be. Send smaller ones.")
        self.upload.add(size)


def _not_fetched(why: object, *, may_pass: bool = False) -> ImageNotFetched:
    """It has the time of another try only if that may succeed."""
    return ImageNotFetched(f"image_url could not be fetched: {why}.", retry_after_s=RETRY_S if may_pass else None)


def _checked(policy: Policy, text: str) -> httpx.URL:
    if text[:5].lower() == "data:":
        raise UrlNotAllowed("image_url is a data: URI, which needs no fetching. Send it in image.")
    try:
        return policy.check_url(text)
    except UrlRefused as error:
        raise UrlNotAllowed(f"image_url cannot be used: {error}.") from error


def _redirected(policy: Policy, url: httpx.URL, location: str) -> httpx.URL:
    """Where the server sends us, checked like a URL of the client."""
    try:
        return policy.check_url(str(url.join(location)))
    except (UrlRefused, httpx.InvalidURL, ValueError, TypeError) as error:
        raise UrlNotAllowed("image_url redirects to a URL that cannot be used.") from error


async def _image(response: httpcore.Response, budget: _Budget) -> bytes:
    if response.status != 200:
        raise _not_fetched(f"its server responded with {response.status}", may_pass=response.status >= 500)
    kind = _header(response, b"content-type").partition(";")[0].strip().lower()
    if kind not in _BINARY and not kind.startswith("image/"):
        raise UnsupportedMediaType(f"image_url leads to {kind[:60]!r}, not to an image.")
    if _header(response, b"content-encoding").lower() not in {"", "identity"}:
        raise _not_fetched("its server compresses the image, unasked")
    declared = _header(response, b"content-length")
    if declared.isdecimal() and (len(declared) > 18 or int(declared) > budget.left):
        budget.take(budget.left + 1)
    with io.BytesIO() as buffer:
        async for chunk in response.aiter_stream():
            budget.take(len(chunk))
            buffer.write(chunk)
        if not buffer.tell():
            raise _not_fetched("its server sent an empty body")
        return buffer.getvalue()


def _header(response: httpcore.Response, name: bytes) -> str:
    return next((value.decode("latin-1") for given, value in response.headers if given.lower() == name), "")
