"""The images of a form (RFC 7578): its parts named `image`, held in memory.

A form is parsed chunk by chunk. The package multipart finds the boundaries (20 microseconds for one image of 70 KB). No
part is written to a file.
"""

import io
import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote

from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header
from starlette.requests import Request

from ingest.errors import BadParameter, MalformedUpload, NoImage, PayloadTooLarge
from ingest.request_body import Limits, Upload, arrived_body, receiving, refuse_base64

#: The name of the parts that are images.
IMAGE: Final = "image"

#: Most parts that are no images: other fields of the form.
_MAX_OTHER_PARTS: Final = 64
_MAX_HEADERS: Final = 16
_MAX_HEADER_BYTES: Final = 4096
_MAX_NAME_CHARACTERS: Final = 255

#: RFC 7578 forbids this parameter, but some clients send it for names that are not ASCII.
_EXTENDED_FILENAME: Final = re.compile(r"filename\*\s*=\s*([\w-]*)'[^']*'([^;\s]+)", re.IGNORECASE)

#: A boundary that has = and no quotes, which such a value needs (RFC 9110, 5.6.6). Java programs that write their forms
#: themselves often send ===1732936800===, and other servers take it.
_BARE_BOUNDARY: Final = re.compile(r";\s*boundary=([^\s;,\"]+)", re.IGNORECASE)

#: A form's field without a file name that holds no more than this is a path or an address: no image is this small.
_MAX_TYPED: Final = 400


async def read_form(request: Request, limits: Limits, *, elsewhere: Mapping[str, str]) -> list[Upload]:
    """The images of the form in the order sent, at least one.

    `elsewhere` has what may be no part of the form, in lower case and with hyphens, and what to do instead.

    Raises NoImage, MalformedUpload, BadParameter, PayloadTooLarge, RequestTimeout, UnsupportedMediaType, Overloaded,
    and starlette's ClientDisconnect.
    """
    form = Form(boundary_of(request.headers["content-type"]), max_images=limits.max_images, elsewhere=elsewhere)
    arrived = await arrived_body(request, limits)
    if arrived is not None:
        form.feed(arrived)
        return form.uploads()
    async with receiving(request, limits) as body:
        body.upload.free_with(form.clear)
        async for chunk in body.chunks:
            form.feed(chunk)
        return form.uploads()


def boundary_of(content_type: str) -> str:
    """The boundary in a form's Content-Type; raises MalformedUpload if there is none."""
    kind, options = parse_options_header(content_type)
    if kind != "multipart/form-data":
        raise MalformedUpload("The only supported multipart content type is multipart/form-data. Send a form.")
    bare = _BARE_BOUNDARY.search(content_type)
    boundary: str = options.get("boundary") or (bare[1] if bare else "")
    if not 1 <= len(boundary) <= 70:  # RFC 2046, 5.1.1
        raise MalformedUpload(
            "The Content-Type multipart/form-data needs a boundary of 1 to 70 characters. "
            "Let the HTTP library write this header."
        )
    return boundary


class Form:
    """Collects the parts named `image`. Of the others it keeps the names only."""

    def __init__(self, boundary: str, *, max_images: int, elsewhere: Mapping[str, str] | None = None) -> None:
        self.images: list[tuple[str | None, bytes]] = []
        self.other_names: list[str] = []
        self._max_images = max_images
        self._elsewhere = elsewhere or {}
        self._filename: str | None = None
        self._image: io.BytesIO | None = None
        self._is_empty = True
        self._has_empty_image = False
        # Latin-1 keeps each byte of a header. Whether a name is UTF-8 is checked when it is read.
        self._parser = PushMultipartParser(
            boundary.encode("latin-1"),
            max_header_count=_MAX_HEADERS,
            max_header_size=_MAX_HEADER_BYTES,
            header_charset="latin-1",
        )

    def feed(self, chunk: bytes) -> None:
        """Parse the next bytes of the body; raises MalformedUpload, BadParameter and PayloadTooLarge."""
        if not chunk:
            return  # The parser would take it for the end.
        self._is_empty = False
        try:
            for event in self._parser.parse(chunk):
                if event is None:
                    self._end_part()
                elif isinstance(event, MultipartSegment):
                    self._begin_part(event)
                elif self._image is not None:
                    self._add(event)
        except MultipartError as error:
            raise MalformedUpload(f"The form can't be read: {error}. Let the HTTP library write it.") from error

    def end(self) -> None:
        """The body has ended; raises MalformedUpload if the form is not complete."""
        try:
            self._parser.close()
        except MultipartError as error:
            raise MalformedUpload("The form breaks off before its closing boundary. Send all of it.") from error

    def uploads(self) -> list[Upload]:
        """The images, once the body has ended, at least one. Raises NoImage and MalformedUpload."""
        if self._is_empty:
            raise NoImage("The form is empty. Send the image in a part named image.")
        self.end()
        if not self.images and self._has_empty_image:
            raise NoImage("The part image is empty. Send a file in it, as in curl -F image=@cat.jpg.")
        if not self.images:
            named = ", ".join(repr(name) for name in self.other_names[:8]) or "no part at all"
            raise NoImage(
                f"The form has {named}, but no part named image. Name the part image, as in curl -F image=@cat.jpg."
            )
        for filename, data in self.images:
            refuse_base64(data)
            if filename is None:
                _refuse_typed(data)
        return [Upload(filename, data) for filename, data in self.images]

    def clear(self) -> None:
        """Free the images. The form takes no more chunks after that."""
        self.images.clear()
        self._image = None

    def _begin_part(self, part: MultipartSegment) -> None:
        if not part.name:
            raise MalformedUpload("A part of the form has no Content-Disposition: form-data with a name.")
        _refuse_encodings(part)
        if part.name == IMAGE:
            self._filename = _filename(part)
            self._image = io.BytesIO()
            return
        if remedy := self._elsewhere.get(part.name.lower().replace("_", "-")):
            raise BadParameter(f"The form has a part {part.name!r}, which has no effect there. {remedy}")
        self._image = None
        self.other_names.append(_text(part.name)[:40])
        if len(self.other_names) > _MAX_OTHER_PARTS:
            raise PayloadTooLarge(
                f"The form has more than {_MAX_OTHER_PARTS} parts that are no images. Leave them out."
            )

    def _add(self, data: bytes) -> None:
        assert self._image is not None
        if self._image.tell() == 0:
            # A buffer that is made of an object shares its bytes. Most images come in one piece, which is not copied.
            self._image = io.BytesIO(data)
            self._image.seek(0, io.SEEK_END)
        else:
            self._image.write(data)

    def _end_part(self) -> None:
        if self._image is None:
            return
        image = self._image.getvalue()
        self._image = None
        if not image and not self._filename:
            # A browser sends this for a file input without a file.
            self._has_empty_image = True
            return
        if len(self.images) == self._max_images:
            raise PayloadTooLarge(f"The form has more than {self._max_images} images. Send them in several requests.")
        self.images.append((self._filename, image))


def _refuse_encodings(part: MultipartSegment) -> None:
    if part.content_type and part.content_type.startswith("multipart/"):
        raise MalformedUpload("A part of the form is a form again. Send each image as a part of its own.")
    if part.header("Content-Transfer-Encoding", "binary").strip().lower() not in ("binary", "8bit", "7bit"):
        raise MalformedUpload("A part of the form has a transfer encoding. Send the image's own bytes.")


def _filename(part: MultipartSegment) -> str | None:
    if extended := _EXTENDED_FILENAME.search(part.header("Content-Disposition", "")):
        charset, quoted = extended.groups()
        encoding = "latin-1" if charset.lower() == "iso-8859-1" else "utf-8"
        return unquote(quoted, encoding, "replace")[:_MAX_NAME_CHARACTERS]
    return None if part.filename is None else _text(part.filename)[:_MAX_NAME_CHARACTERS]


def _text(latin: str) -> str:
    """UTF-8, as browsers and curl write names, else Latin-1, which never fails."""
    try:
        return latin.encode("latin-1").decode()
    except UnicodeDecodeError:
        return latin


def _refuse_typed(data: bytes) -> None:
    """Raise MalformedUpload if a form's field is a line of text, such as the path of an image."""
    try:
        text = data.decode() if len(data) <= _MAX_TYPED else ""
    except UnicodeDecodeError:
        return
    if text.strip() and text.strip().isprintable():
        raise MalformedUpload(
            f"The part image is the text {text.strip()[:80]!r}, not a file. Send the file: "
            "curl needs an @ before its path, as in curl -F image=@cat.jpg."
        )
