"""The body of a request: received within limits of size and time, decompressed, and checked if it is one image.

What endpoints do with large bodies runs in a thread.
"""

import asyncio
import io
import re
import time
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from typing import Final, TypeVar

from starlette.requests import ClientDisconnect, Request

from ingest.errors import (
    BadParameter,
    MalformedUpload,
    NoImage,
    PayloadTooLarge,
    Problem,
    RequestTimeout,
    UnsupportedMediaType,
)
from ingest.request_trace import current_trace
from ingest.serving.http_protocol import BODY_ARRIVED
from ingest.upload_memory import READ_BYTES, UploadInProgress, UploadMemory, refusal

T = TypeVar("T")

#: The values of Content-Encoding that are accepted.
CONTENT_CODINGS: Final = frozenset({"identity", "gzip", "deflate"})

#: zlib detects gzip or zlib by the first bytes (zlib's manual, inflateInit2: add 32 to the window's size).
_GZIP_OR_ZLIB: Final = 32 + zlib.MAX_WBITS

#: Bytes decompressed in one go. Other requests run between two steps.
_INFLATE_STEP: Final = 2**18

#: Bytes of JSON, or numbers, that are parsed in the event loop. It takes a millisecond, and a thread a tenth of that.
_MAX_INLINE: Final = 2**16

#: How a urlencoded form begins: the name of a field and an equals sign. No image format begins so.
_URL_ENCODED: Final = re.compile(rb"[\w.%+\[\]-]{1,64}=[ -~]{0,64}(?:$|[ -~])")

#: How base64 of a JPEG, PNG, GIF, WebP, TIFF, BMP, or HEIC and AVIF begins, as such or in a data: URI.
_BASE64_IMAGE: Final = re.compile(
    rb"\s{0,8}\"?(?:data:image/[\w.+-]{1,40};base64,"
    rb"|(?:/9j/|iVBORw0KGgo|R0lGOD|UklGR|SUk[qr]|TU0A|Qk|AA[A-D]...Z0eXB)[A-Za-z0-9+/\r\n]{60})"
)

#: What `curl -d` removes from a file. Each image has at least one of these bytes among its first ones.
_STRIPPED: Final = (b"\0", b"\r", b"\n")
_TELLING_BYTES: Final = 64


@dataclass(frozen=True, slots=True)
class Upload:
    """One image as it was sent. `filename` is the client's name for it, and never a path to open.

    `problem` is what its preparation fails with, if it could not be fetched.
    """

    filename: str | None
    data: bytes
    problem: Problem | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes of the whole body after decompression, images in it, and seconds until all of it has arrived.

    `memory` limits all bodies of this process together.
    """

    max_bytes: int
    max_images: int
    body_timeout_s: float
    memory: UploadMemory


@dataclass(frozen=True, slots=True)
class ArrivingBody:
    """The chunks of a body, of which some may be empty, and its share of the memory for uploads."""

    chunks: AsyncIterator[bytes]
    upload: UploadInProgress

    async def read(self) -> bytes:
        """All chunks, in a buffer that grows in place. The bytes are held once, and a single chunk is not copied."""
        with io.BytesIO(await anext(self.chunks, b"")) as buffer:
            self.upload.free_with(buffer.close)
            buffer.seek(0, io.SEEK_END)
            async for chunk in self.chunks:
                buffer.write(chunk)
            return buffer.getvalue()


async def arrived_body(request: Request, limits: Limits) -> bytes | None:
    """The whole body if it is here already, as most bodies are; None if it must be received or decompressed.

    Nothing has to be limited meanwhile. Raises PayloadTooLarge, UnsupportedMediaType and starlette's ClientDisconnect.
    """
    if BODY_ARRIVED not in request.scope or content_coding(request):
        return None
    message = await request.receive()
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    if trace := current_trace.get():
        trace.end_stage("upload", 0.0)
    body: bytes = message["body"]
    if len(body) > limits.max_bytes:
        raise _too_large(limits)
    return body


@asynccontextmanager
async def receiving(request: Request, limits: Limits) -> "AsyncIterator[ArrivingBody]":
    """Receive the chunks of the body within this block, decompressed.

    Raises PayloadTooLarge as soon as the body exceeds its limit, BadParameter, UnsupportedMediaType, RequestTimeout,
    Overloaded, and starlette's ClientDisconnect.
    """
    unread_bytes = READ_BYTES if content_coding(request) else _declared_bytes(request, limits)
    upload: UploadInProgress | None = None
    began_s = time.perf_counter()
    try:
        async with asyncio.timeout(limits.body_timeout_s) as timeout:
            with limits.memory.begin(timeout, unread_bytes) as upload:
                yield ArrivingBody(_chunks(request, limits, upload), upload)
    except TimeoutError as error:
        if upload and upload.refused:
            raise refusal() from error
        raise RequestTimeout(
            f"The request did not arrive within {limits.body_timeout_s:g} s. Send it again, or smaller images."
        ) from error
    finally:
        if trace := current_trace.get():
            trace.end_stage("upload", time.perf_counter() - began_s)


def _declared_bytes(request: Request, limits: Limits) -> int:
    """What the header says, at most the limit.

    Raises PayloadTooLarge by the header alone, so that a client that waits for `100 Continue` never sends the body.
    """
    declared = request.headers.get("content-length", "")
    if not declared.isdecimal():
        return limits.max_bytes
    if len(declared) > 18 or int(declared) > limits.max_bytes:
        raise _too_large(limits)
    return int(declared)


def _too_large(limits: Limits) -> PayloadTooLarge:
    return PayloadTooLarge(
        f"The request has more than {limits.max_bytes} bytes. Send fewer images at once, or smaller ones."
    )


def content_coding(request: Request) -> str:
    """How the body is compressed, empty if it is not; raises UnsupportedMediaType."""
    coding: str = request.headers.get("content-encoding", "").strip().lower()
    if coding and coding not in CONTENT_CODINGS:
        raise UnsupportedMediaType(f"Content-Encoding is {coding[:40]!r}; supported are gzip and deflate.")
    return "" if coding == "identity" else coding


async def read_body(request: Request, limits: Limits) -> bytes:
    """The whole body, decompressed, empty if there is none.

    Raises BadParameter, PayloadTooLarge, RequestTimeout, UnsupportedMediaType, Overloaded, and starlette's
    ClientDisconnect.
    """
    arrived = await arrived_body(request, limits)
    if arrived is not None:
        return arrived
    async with receiving(request, limits) as body:
        return await body.read()


async def read_image(request: Request, limits: Limits) -> Upload:
    """The image that is the whole body.

    Whatever content type it has: `curl --data-binary @cat.jpg` declares an image as application/x-www-form-urlencoded.
    The first bytes decide its format. Raises as `read_body` does, and NoImage and MalformedUpload.
    """
    return _raw_image(await read_body(request, limits), media_type(request))


def media_type(request: Request) -> str:
    """The Content-Type without its parameters, in lower case; empty if there is none."""
    declared: str = request.headers.get("content-type", "")
    return declared.partition(";")[0].strip().lower()


def is_form(request: Request) -> bool:
    return media_type(request).startswith("multipart/")


def _raw_image(data: bytes, kind: str) -> Upload:
    """The image that is the whole body, of this media type."""
    if not data:
        raise NoImage("The request has no body. Send an image as the body, or as a form with a part named image.")
    if kind == "application/x-www-form-urlencoded" and _URL_ENCODED.match(data):
        raise MalformedUpload(
            "The body is a urlencoded form, which cannot carry a file. Send multipart/form-data, as in "
            "curl -F image=@cat.jpg, or the image itself, as in curl --data-binary @cat.jpg."
        )
    if kind == "application/x-www-form-urlencoded" and _is_stripped(data):
        raise MalformedUpload(
            "The file has lost its zero bytes and line breaks on the way, as curl -d removes them. "
            "Send it with curl -F image=@cat.jpg or curl --data-binary @cat.jpg."
        )
    refuse_base64(data)
    return Upload(None, data)


def _is_stripped(data: bytes) -> bool:
    """Whether it is a file without any of the bytes that `curl -d` removes, and long enough to have had some."""
    return len(data) >= _TELLING_BYTES and not (data.isascii() or any(one in data for one in _STRIPPED))


def refuse_base64(data: bytes) -> None:
    """Raise MalformedUpload if an image was sent as base64 text."""
    if _BASE64_IMAGE.match(data):
        raise MalformedUpload(
            "The image is base64 text. Send the bytes of the file, as in curl -F image=@cat.jpg, or send JSON: "
            '{"image": "<base64>"} with Content-Type: application/json.'
        )


async def _chunks(request: Request, limits: Limits, upload: UploadInProgress) -> AsyncIterator[bytes]:
    size = 0
    async for chunk in _decompressed(request) if content_coding(request) else request.stream():
        size += len(chunk)
        if size > limits.max_bytes:
            raise _too_large(limits)
        upload.add(len(chunk))
        yield chunk
    upload.add(0)  # It may have been refused after its last chunk.


async def _decompressed(request: Request) -> AsyncIterator[bytes]:
    inflater = zlib.decompressobj(_GZIP_OR_ZLIB)
    try:
        async for chunk in request.stream():
            for part in _inflate(inflater, chunk):
                yield part
                await asyncio.sleep(0)
    except zlib.error as error:
        raise BadParameter("The body is not compressed as Content-Encoding says.") from error
    if not inflater.eof or inflater.unused_data:
        raise BadParameter("The compressed body breaks off, or something follows it.")


def _inflate(inflater: "zlib._Decompress", chunk: bytes) -> Iterator[bytes]:
    while chunk:
        yield inflater.decompress(chunk, _INFLATE_STEP)
        chunk = inflater.unconsumed_tail


async def in_thread_if_large(work: Callable[[], T], *, size: int, lock: asyncio.Lock | None = None) -> T:
    """What `work` returns. It takes as long as parsing `size` bytes of JSON does.

    Large work with the same lock runs one at a time.
    """
    if size <= _MAX_INLINE:
        return work()
    async with lock or nullcontext():
        return await asyncio.to_thread(work)
