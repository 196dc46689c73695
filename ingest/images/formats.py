"""The accepted image formats. Decoding, the client and the API's description all use this one list."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class ImageFormat:
    """`name` is Pillow's. A file opens with one of `signatures`, in which a dot stands for any byte.

    `title` is how people spell the name. The service ignores the media type and the suffix of a file: its first bytes
    say what it is.
    """

    name: str
    title: str
    media_type: str
    suffixes: tuple[str, ...]
    signatures: tuple[bytes, ...]

    def matches(self, data: bytes) -> int:
        """The length of the signature that `data` opens with, or of which it is the beginning; 0 if there is none."""
        return next((len(signature) for signature in self.signatures if _agrees(data, signature)), 0)


def _agrees(data: bytes, signature: bytes) -> bool:
    return all(wanted in (byte, ord(".")) for byte, wanted in zip(data, signature, strict=False))


#: The sizes of BMP's header. Before it come the file's length and two reserved fields.
_BMP_HEADERS: Final = (12, 16, 40, 52, 56, 64, 108, 124)

FORMATS: Final = (
    ImageFormat("JPEG", "JPEG", "image/jpeg", (".jpg", ".jpeg", ".jpe", ".jfif"), (b"\xff\xd8\xff",)),
    ImageFormat("PNG", "PNG", "image/png", (".png",), (b"\x89PNG\r\n\x1a\n",)),
    ImageFormat("WEBP", "WebP", "image/webp", (".webp",), (b"RIFF....WEBP",)),  # the dots are the file's length
    ImageFormat("GIF", "GIF", "image/gif", (".gif",), (b"GIF87a", b"GIF89a")),
    ImageFormat(
        "BMP", "BMP", "image/bmp", (".bmp", ".dib"), tuple(b"BM............%c\0\0\0" % size for size in _BMP_HEADERS)
    ),
    ImageFormat("TIFF", "TIFF", "image/tiff", (".tif", ".tiff"), (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
)

#: The media type of each format, by Pillow's name.
MEDIA_TYPES: Final = {image_format.name: image_format.media_type for image_format in FORMATS}

#: All suffixes, in lower case.
SUFFIXES: Final = frozenset(suffix for image_format in FORMATS for suffix in image_format.suffixes)

#: The formats as a message names them.
SUPPORTED: Final = ", ".join(image_format.title for image_format in FORMATS[:-1]) + f" and {FORMATS[-1].title}"
