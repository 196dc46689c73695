"""The body of a request: received within limits of size and time, decompressed, and parsed if it is JSON."""

import asyncio
import io
import json
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

from starlette.requests import ClientDisconnect, Request

from ingest.errors import BadParameter, PayloadTooLarge, RequestTimeout, UnsupportedMediaType
from ingest.request_trace import current_trace, stage
from ingest.serving.http_protocol import BODY_ARRIVED
from ingest.upload_memory import READ_BYTES, UploadInProgress, UploadMemory, refusal

#: The values of Content-Encoding that are accepted.
CONTENT_CODINGS: Final = frozenset({"identity", "gzip", "deflate"})

#: zlib detects gzip or zlib by the first bytes (zlib's manual, inflateInit2: add 32 to the window's size).
_GZIP_OR_ZLIB: Final = 32 + zlib.MAX_WBITS

#: Bytes decompressed in one go. Other requests run between two steps.
_INFLATE_STEP: Final = 2**18

#: Most bytes of JSON with many values. The parser holds the interpreter for 10 to 20 ms per MB of numbers, and a pixel
#: takes one byte as binary data. Long strings, as of base64, cost little.
MAX_JSON: Final = 4 * 2**20
_MANY_VALUES: Final = 10_000

#: Most objects in JSON: an empty one takes memory thirty times its text.
_MAX_OBJECTS: Final = 10_000


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
    try:
        with stage("upload"):
            async with asyncio.timeout(limits.body_timeout_s) as timeout:
                with limits.memory.begin(timeout, unread_bytes) as upload:
                    yield ArrivingBody(_chunks(request, limits, upload), upload)
    except TimeoutError as error:
        if upload and upload.refused:
            raise refusal() from error
        raise RequestTimeout(
            f"The request did not arrive within {limits.body_timeout_s:g} s. Send smaller images."
        ) from error


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


def parse_json_object(text: bytes, *, smaller: str = "binary data") -> dict[str, Any]:
    """The JSON object; raises BadParameter and PayloadTooLarge. `smaller`: what the API takes instead of numbers."""
    if len(text) > MAX_JSON and text.count(b",") > _MANY_VALUES:
        raise PayloadTooLarge(
            f"The request has {len(text)} bytes of JSON; at most {MAX_JSON} are accepted. "
            f"Send {smaller}, or fewer images at once."
        )
    if text.count(b"{") > _MAX_OBJECTS:
        raise PayloadTooLarge(f"The request has more than {_MAX_OBJECTS} objects of JSON.")
    try:
        document = json.loads(text.decode())
    except (ValueError, RecursionError) as error:
        raise BadParameter(f"The request is no JSON: {str(error).partition(': ')[0]}.") from error
    if not isinstance(document, dict):
        raise BadParameter("The request is no JSON object.")
    return document


def flatten(data: list[Any]) -> list[Any]:
    """The elements of arrays in arrays, in order; raises ValueError if they are not all equally deep."""
    while data and isinstance(data[0], list):
        try:
            data = list(chain.from_iterable(data))
        except TypeError as error:
            raise ValueError("some elements are arrays and some are not") from error
    return data


def whole_numbers(data: list[Any]) -> bytes:
    """Whole numbers from 0 to 255, nested or flat, as one byte each; raises ValueError."""
    numbers = flatten(data)
    if set(map(type, numbers)) != {int}:
        raise ValueError("there is something else than whole numbers")
    try:
        return bytes(numbers)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"a number is {'below 0' if min(numbers) < 0 else 'above 255'}") from error
