"""The images in a request's body, held in memory.

A body is either multipart/form-data with parts named `image`, or one image under any other content type, because
`curl --data-binary @cat.jpg` declares an image as application/x-www-form-urlencoded. The first bytes decide its format.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from starlette.requests import Request

from ingest.errors import NoImage
from ingest.multipart import Form, boundary_of
from ingest.request_body import Limits, receiving


@dataclass(frozen=True, slots=True)
class Upload:
    """One image as it was sent. `filename` is the client's name for it, and never a path to open."""

    filename: str | None
    data: bytes


async def read_uploads(request: Request, limits: Limits) -> list[Upload]:
    """The images of the request in the order sent, at least one.

    Raises NoImage, MalformedUpload, BadParameter, PayloadTooLarge, RequestTimeout, UnsupportedMediaType, Overloaded,
    and starlette's ClientDisconnect.
    """
    async with receiving(request, limits) as chunks:
        if is_form(request):
            return await _read_form(request, limits, chunks)
        return await _read_raw(chunks)


def is_form(request: Request) -> bool:
    return bool(request.headers.get("content-type", "")[:10].lower() == "multipart/")


async def _read_raw(chunks: AsyncIterator[bytes]) -> list[Upload]:
    data = b"".join([chunk async for chunk in chunks])
    if not data:
        raise NoImage("The request has no body. Send an image as the body, or as a form with a part named image.")
    return [Upload(None, data)]


async def _read_form(request: Request, limits: Limits, chunks: AsyncIterator[bytes]) -> list[Upload]:
    form = Form(boundary_of(request.headers["content-type"]), max_images=limits.max_images)
    empty = True
    async for chunk in chunks:
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
