"""The images of a request, held in memory: from a form, from the body itself, or from base64.

A body is either multipart/form-data with parts named `image`, or one image under any other content type, because
`curl --data-binary @cat.jpg` declares an image as application/x-www-form-urlencoded. The first bytes decide its format.
"""

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Final

from starlette.requests import Request

from ingest.errors import BadParameter, MalformedUpload, NoImage
from ingest.multipart import Form, boundary_of
from ingest.request_body import ArrivingBody, Limits, receiving

#: How a urlencoded form begins: the name of a field and an equals sign. No image format begins so.
_URL_ENCODED: Final = re.compile(rb"[\w.%+\[\]-]{1,64}=[ -~]{0,64}(?:$|[ -~])")

#: How base64 of a JPEG, PNG, GIF, WebP, TIFF, BMP, or HEIC and AVIF begins, as such or in a data: URI.
_BASE64_IMAGE: Final = re.compile(
    rb"\s{0,8}\"?(?:data:image/[\w.+-]{1,40};base64,"
    rb"|(?:/9j/|iVBORw0KGgo|R0lGOD|UklGR|SUkq|TU0A|Qk|AAAA..Z0eXB)[A-Za-z0-9+/\r\n]{60})"
)

_DATA_URI: Final = re.compile(r"data:[^,;]{0,100}(?:;[^,;]{1,100}){0,8},", re.IGNORECASE)

#: The URL-safe alphabet becomes the standard one, and white space goes.
_TO_STANDARD: Final = {ord("-"): "+", ord("_"): "/", **dict.fromkeys(map(ord, " \t\r\n"))}


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
    async with receiving(request, limits) as body:
        if is_form(request):
            return await _read_form(request, limits, body)
        return await _read_raw(request, body)


def media_type(request: Request) -> str:
    """The Content-Type without its parameters, in lower case; empty if there is none."""
    declared: str = request.headers.get("content-type", "")
    return declared.partition(";")[0].strip().lower()


def is_form(request: Request) -> bool:
    return media_type(request).startswith("multipart/")


async def _read_raw(request: Request, body: ArrivingBody) -> list[Upload]:
    data = await body.read()
    if not data:
        raise NoImage("The request has no body. Send an image as the body, or as a form with a part named image.")
    if media_type(request) == "application/x-www-form-urlencoded" and _URL_ENCODED.match(data):
        raise MalformedUpload(
            "The body is a urlencoded form, which cannot carry a file. Send multipart/form-data, as in "
            "curl -F image=@cat.jpg, or the image itself, as in curl --data-binary @cat.jpg."
        )
    refuse_base64(data)
    return [Upload(None, data)]


async def _read_form(request: Request, limits: Limits, body: ArrivingBody) -> list[Upload]:
    form = Form(boundary_of(request.headers["content-type"]), max_images=limits.max_images)
    body.upload.free_with(form.clear)
    empty = True
    async for chunk in body.chunks:
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
    for _, data in form.images:
        refuse_base64(data)
    return [Upload(filename, data) for filename, data in form.images]


def refuse_base64(data: bytes) -> None:
    """Raise MalformedUpload if an image was sent as base64 text."""
    if _BASE64_IMAGE.match(data):
        raise MalformedUpload(
            "The image is base64 text. Send the bytes of the file, as in curl -F image=@cat.jpg, or send JSON: "
            '{"image": "<base64>"} with Content-Type: application/json.'
        )


def decode_base64(given: object, name: str) -> bytes:
    """The bytes of base64 or of a `data:` URI with base64; raises BadParameter, which begins with the name."""
    if not isinstance(given, str):
        raise BadParameter(f"{name} is no string. Send the image's bytes as base64.")
    if given[:8].lower().startswith(("http://", "https://")):
        raise BadParameter(f"{name} is a URL. Send the image's bytes as base64.")
    text = given
    if found := _DATA_URI.match(given):
        if not found.group().lower().endswith(";base64,"):
            raise BadParameter(f"{name} is a data: URI without base64. Write data:image/jpeg;base64, and then base64.")
        text = given[found.end() :]
    text = text.translate(_TO_STANDARD).rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadParameter(f"{name} is no base64: {error}.") from error
