"""Parses a multipart/form-data body (RFC 7578) chunk by chunk into the images in it.

The package multipart finds the boundaries (20 microseconds for one image of 70 KB). No part is written to a file.
"""

import io
import re
from typing import Final
from urllib.parse import unquote

from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header

from ingest.errors import MalformedUpload, PayloadTooLarge

#: The name of the parts that are images.
IMAGE: Final = "image"

#: Most parts that are no images: other fields of the form.
_MAX_OTHER_PARTS: Final = 64
_MAX_HEADERS: Final = 16
_MAX_HEADER_BYTES: Final = 4096
_MAX_NAME_CHARACTERS: Final = 255

#: RFC 7578 forbids this parameter, but some clients send it for names that are not ASCII.
_EXTENDED_FILENAME: Final = re.compile(r"filename\*\s*=\s*([\w-]*)'[^']*'([^;\s]+)", re.IGNORECASE)


def boundary_of(content_type: str) -> str:
    """The boundary in a form's Content-Type; raises MalformedUpload if there is none."""
    kind, options = parse_options_header(content_type)
    if kind != "multipart/form-data":
        raise MalformedUpload("The only supported multipart content type is multipart/form-data. Send a form.")
    boundary: str = options.get("boundary", "")
    if not 1 <= len(boundary) <= 70:  # RFC 2046, 5.1.1
        raise MalformedUpload(
            "The Content-Type multipart/form-data needs a boundary of 1 to 70 characters. "
            "Let the HTTP library write this header."
        )
    return boundary


class Form:
    """Collects the parts named `image`. Of the others it keeps the names only."""

    def __init__(self, boundary: str, *, max_images: int) -> None:
        self.images: list[tuple[str | None, bytes]] = []
        self.other_names: list[str] = []
        self._max_images = max_images
        self._filename: str | None = None
        self._image: io.BytesIO | None = None
        # Latin-1 keeps each byte of a header. Whether a name is UTF-8 is checked when it is read.
        self._parser = PushMultipartParser(
            boundary.encode("latin-1"),
            max_header_count=_MAX_HEADERS,
            max_header_size=_MAX_HEADER_BYTES,
            header_charset="latin-1",
        )

    def feed(self, chunk: bytes) -> None:
        """Parse the next bytes of the body; raises MalformedUpload and PayloadTooLarge."""
        if not chunk:
            return  # The parser would take it for the end.
        try:
            for event in self._parser.parse(chunk):
                if event is None:
                    self._end_part()
                elif isinstance(event, MultipartSegment):
                    self._begin_part(event)
                elif self._image is not None:
                    self._image.write(event)
        except MultipartError as error:
            raise MalformedUpload(f"The form can't be read: {error}. Let the HTTP library write it.") from error

    def end(self) -> None:
        """The body has ended; raises MalformedUpload if the form is not complete."""
        try:
            self._parser.close()
        except MultipartError as error:
            raise MalformedUpload("The form breaks off before its closing boundary. Send all of it.") from error

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
        self._image = None
        self.other_names.append(_text(part.name)[:40])
        if len(self.other_names) > _MAX_OTHER_PARTS:
            raise PayloadTooLarge(
                f"The form has more than {_MAX_OTHER_PARTS} parts that are no images. Leave them out."
            )

    def _end_part(self) -> None:
        if self._image is None:
            return
        image = self._image.getvalue()
        self._image = None
        if not image and not self._filename:
            # A browser sends this for a file input without a file.
            self.other_names.append("image (empty)")
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
