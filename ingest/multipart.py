"""A multipart/form-data body (RFC 7578), chunk by chunk, to its images in memory. Knows no request.

python-multipart's parser finds the boundaries (25 microseconds for one image of 70 KB); no part becomes a file.
"""

import logging
import re
from typing import Final
from urllib.parse import unquote

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from ingest.problems import MalformedUpload, PayloadTooLarge

#: What the parts that are images are called.
IMAGE: Final = "image"

#: Parts beside the images: the fields of a form that someone has written around it.
_MOST_OTHER_PARTS: Final = 64
_MOST_HEADERS: Final = 16
_MOST_HEADER_BYTES: Final = 4096
_MOST_NAME_CHARACTERS: Final = 255

#: RFC 7578 forbids this form, and some clients send it all the same for names that are not ASCII.
_EXTENDED_FILENAME: Final = re.compile(rb"filename\*\s*=\s*([\w-]*)'[^']*'([^;\s]+)", re.IGNORECASE)

# The parser warns of each malformed body. Clients send what they like; they are told, the log is not.
logging.getLogger("python_multipart").setLevel(logging.ERROR)


def boundary_of(content_type: str) -> bytes:
    """The boundary that a form's Content-Type names; raises MalformedUpload where it names none."""
    kind, options = parse_options_header(content_type.encode("latin-1", "replace"))
    if kind != b"multipart/form-data":
        raise MalformedUpload("The only multipart content type taken is multipart/form-data. Send a form.")
    boundary = options.get(b"boundary", b"")
    if not 1 <= len(boundary) <= 70:  # RFC 2046, 5.1.1
        raise MalformedUpload(
            "The Content-Type multipart/form-data needs a boundary of 1 to 70 characters. "
            "Let the HTTP library write this header."
        )
    return boundary


class Form:
    """Collects the parts named `image`; passes over the others and remembers their names."""

    def __init__(self, boundary: bytes, *, max_images: int) -> None:
        self.images: list[tuple[str | None, bytes]] = []
        self.other_names: list[str] = []
        self.ended = False
        self._max_images = max_images
        self._headers: dict[bytes, bytes] = {}
        self._field = self._value = b""
        self._filename: str | None = None
        self._chunks: list[bytes] | None = None
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._on_field,
                "on_header_value": self._on_value,
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers_finished,
                "on_part_data": self._on_data,
                "on_part_end": self._on_part_end,
                "on_end": self._on_end,
            },
            max_header_count=_MOST_HEADERS,
            max_header_size=_MOST_HEADER_BYTES,
        )

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the body; raises MalformedUpload and PayloadTooLarge."""
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise MalformedUpload(f"The form can't be read: {error}. Let the HTTP library write it.") from error

    def _begin(self) -> None:
        self._headers.clear()

    def _on_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        self._headers[self._field.lower()] = self._value
        self._field = self._value = b""

    def _on_headers_finished(self) -> None:
        disposition = self._headers.get(b"content-disposition", b"")
        kind, options = parse_options_header(disposition)
        if kind != b"form-data" or b"name" not in options:
            raise MalformedUpload("A part of the form has no Content-Disposition: form-data with a name.")
        self._refuse_encodings()
        if options[b"name"] == IMAGE.encode():
            self._filename = _filename(disposition, options)
            self._chunks = []
            return
        self._chunks = None
        self.other_names.append(_text(options[b"name"])[:40])
        if len(self.other_names) > _MOST_OTHER_PARTS:
            raise PayloadTooLarge(
                f"The form has more than {_MOST_OTHER_PARTS} parts that are no images. Leave them out."
            )

    def _refuse_encodings(self) -> None:
        if self._headers.get(b"content-type", b"").lower().startswith(b"multipart/"):
            raise MalformedUpload("A part of the form is a form again. Send each image as a part of its own.")
        encoding = self._headers.get(b"content-transfer-encoding", b"binary").strip().lower()
        if encoding not in (b"binary", b"8bit", b"7bit"):
            raise MalformedUpload("A part of the form has a transfer encoding. Send the image's own bytes.")

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if self._chunks is not None:
            self._chunks.append(data[start:end])

    def _on_part_end(self) -> None:
        if self._chunks is None:
            return
        image = b"".join(self._chunks)
        self._chunks = None
        if not image and not self._filename:
            # A browser sends this for a file input in which nothing was chosen.
            self.other_names.append("image (empty)")
            return
        if len(self.images) == self._max_images:
            raise PayloadTooLarge(f"The form has more than {self._max_images} images. Send them in several requests.")
        self.images.append((self._filename, image))

    def _on_end(self) -> None:
        self.ended = True


def _filename(disposition: bytes, options: dict[bytes, bytes]) -> str | None:
    extended = _EXTENDED_FILENAME.search(disposition)
    if extended:
        charset, quoted = extended.groups()
        encoding = "latin-1" if charset.lower() == b"iso-8859-1" else "utf-8"
        return unquote(quoted.decode("latin-1"), encoding, "replace")[:_MOST_NAME_CHARACTERS]
    name = options.get(b"filename")
    return None if name is None else _text(name)[:_MOST_NAME_CHARACTERS]


def _text(raw: bytes) -> str:
    """UTF-8, as browsers and curl write names; Latin-1, which never fails, where it is none."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")
