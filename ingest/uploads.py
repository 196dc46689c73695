"""The images in a request's body, read within limits of size, number and time. Decodes nothing, writes no file.

A body is either multipart/form-data with parts named `image`, or the image itself under any other content type:
`curl --data-binary @cat.jpg` calls a photograph application/x-www-form-urlencoded. What it is, its bytes say.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from starlette.requests import Request

from ingest.errors import NoImage, PayloadTooLarge, RequestTimeout
from ingest.multipart import Form, boundary_of
from ingest.request_trace import Stage


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes of the whole body, number of images in it, and seconds for all of it to arrive."""

    max_bytes: int
    max_images: int
    body_timeout_s: float


@dataclass(frozen=True, slots=True)
class Upload:
    """One image as it was sent. `filename` is what the client calls it: never a path to open."""

    filename: str | None
    data: bytes


async def read_uploads(request: Request, limits: Limits) -> list[Upload]:
    """The images of the request in the order sent, at least one.

    Raises NoImage, MalformedUpload, PayloadTooLarge, RequestTimeout, and starlette's ClientDisconnect.
    """
    _refuse_declared_size(request, limits)
    try:
        with Stage("upload"):
            async with asyncio.timeout(limits.body_timeout_s):
                if request.headers.get("content-type", "")[:10].lower() == "multipart/":
                    return await _read_form(request, limits)
                return await _read_raw(request, limits)
    except TimeoutError as error:
        raise RequestTimeout(
            f"The request did not arrive within {limits.body_timeout_s:g} s. Send smaller images."
        ) from error


def _refuse_declared_size(request: Request, limits: Limits) -> None:
    """By the header alone, so that a client that waits for `100 Continue` never sends the body."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and (len(declared) > 18 or int(declared) > limits.max_bytes):
        raise _too_large(limits)


def _too_large(limits: Limits) -> PayloadTooLarge:
    return PayloadTooLarge(
        f"The request has more than {limits.max_bytes} bytes. Send fewer images at once, or smaller ones."
    )


async def _chunks(request: Request, limits: Limits) -> AsyncIterator[bytes]:
    """The body as it arrives; raises PayloadTooLarge as soon as it is larger than it may be."""
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limits.max_bytes:
            raise _too_large(limits)
        yield chunk


async def _read_raw(request: Request, limits: Limits) -> list[Upload]:
    data = b"".join([chunk async for chunk in _chunks(request, limits)])
    if not data:
        raise NoImage("The request has no body. Send an image as the body, or as a form with a part named image.")
    return [Upload(None, data)]


async def _read_form(request: Request, limits: Limits) -> list[Upload]:
    form = Form(boundary_of(request.headers["content-type"]), max_images=limits.max_images)
    empty = True
    async for chunk in _chunks(request, limits):
        empty = empty and not chunk
        form.feed(chunk)
    if empty:
        raise NoImage("The form is empty. Send the image in a part named image.")
    form.end()
    if not form.images:
        named = ", ".join(repr(name) for name in form.other_names[:8]) or "no part at all"
        raise NoImage(
            f"The form has {named}, but no part named image. Name the part image, as in curl -F image=@cat.jpg."
        )
    return [Upload(filename, data) for filename, data in form.images]
