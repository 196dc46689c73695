"""The accepted image formats. Decoding, the client and the API's description all use this one list.

CONTRIBUTING.md says what else a new format needs.
export/images/folder.py repeats the suffixes, because it must not import this package. A test compares the two.
"""

import importlib.util
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class ImageFormat:
    """`name` is Pillow's. A file opens with one of `signatures`, in which a dot stands for any byte.

    Formats with `brands` share a container (ISO 14496-12), which opens with a list of brands. A brand names the codec.
    `title` is how people spell the name. The service ignores the media type and the suffix of a file: its first bytes
    say what it is.
    """

    name: str
    title: str
    media_type: str
    suffixes: tuple[str, ...]
    signatures: tuple[bytes, ...]
    brands: tuple[bytes, ...] = ()

    def matches(self, data: bytes) -> int:
        """The length of the signature that `data` opens with, or of which it is the beginning; 0 if there is none."""
        length = next((len(signature) for signature in self.signatures if _agrees(data, signature)), 0)
        if not self.brands or not length:
            return length
        return _MAJOR_BRAND_END if len(data) < _MAJOR_BRAND_END or _codec_brand(data) in self.brands else 0


def _agrees(data: bytes, signature: bytes) -> bool:
    return all(wanted in (byte, ord(".")) for byte, wanted in zip(data, signature, strict=False))


#: The box `ftyp`: its length, which is below 65,536, its name, the major brand, a version, and compatible brands.
_CONTAINER: Final = (b"\0\0..ftyp",)
_MAJOR_BRAND: Final = 8
_MAJOR_BRAND_END: Final = 12
_COMPATIBLE_BRANDS: Final = 16

#: Compatible brands that are read. Cameras write about six.
_MAX_BRANDS: Final = 64


def _codec_brand(data: bytes) -> bytes:
    """The first brand that names an accepted codec. The major brand often names the container alone (`mif1`)."""
    end = min(int.from_bytes(data[:4]), len(data), _COMPATIBLE_BRANDS + 4 * _MAX_BRANDS)
    starts = (_MAJOR_BRAND, *range(_COMPATIBLE_BRANDS, end - 3, 4))
    brands = (data[start : start + 4] for start in starts)
    return next((brand for brand in brands if brand in _AVIF_BRANDS + _HEIC_BRANDS), b"")


_AVIF_BRANDS: Final = (b"avif", b"avis")
_HEIC_BRANDS: Final = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs")

#: The sizes of BMP's header. Before it come the file's length and two reserved fields.
_BMP_HEADERS: Final = (12, 16, 40, 52, 56, 64, 108, 124)

HEIC: Final = ImageFormat("HEIF", "HEIC", "image/heic", (".heic", ".heif", ".hif"), _CONTAINER, _HEIC_BRANDS)

JPEG_SIGNATURE: Final = b"\xff\xd8\xff"

FORMATS: Final = (
    ImageFormat("JPEG", "JPEG", "image/jpeg", (".jpg", ".jpeg", ".jpe", ".jfif"), (JPEG_SIGNATURE,)),
    ImageFormat("PNG", "PNG", "image/png", (".png",), (b"\x89PNG\r\n\x1a\n",)),
    ImageFormat("WEBP", "WebP", "image/webp", (".webp",), (b"RIFF....WEBP",)),  # the dots are the file's length
    HEIC,
    ImageFormat("AVIF", "AVIF", "image/avif", (".avif",), _CONTAINER, _AVIF_BRANDS),
    ImageFormat("GIF", "GIF", "image/gif", (".gif",), (b"GIF87a", b"GIF89a")),
    ImageFormat(
        "BMP", "BMP", "image/bmp", (".bmp", ".dib"), tuple(b"BM............%c\0\0\0" % size for size in _BMP_HEADERS)
    ),
    ImageFormat("TIFF", "TIFF", "image/tiff", (".tif", ".tiff"), (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
)

#: The media type of each format, by Pillow's name.
MEDIA_TYPES: Final = {image_format.name: image_format.media_type for image_format in FORMATS}

#: How people spell each format, by Pillow's name.
TITLES: Final = {image_format.name: image_format.title for image_format in FORMATS}

#: All suffixes, in lower case.
SUFFIXES: Final = frozenset(suffix for image_format in FORMATS for suffix in image_format.suffixes)

#: The formats as a message names them.
SUPPORTED: Final = ", ".join(image_format.title for image_format in FORMATS[:-1]) + f" and {FORMATS[-1].title}"

#: What to say where HEIC cannot be decoded.
HEIC_NEEDS: Final = "HEIC needs the package pillow-heif (pip install pillow-heif)"


def enable_heic() -> bool:
    """Let Pillow read and write HEIC; False if the package pillow-heif is not installed.

    One thread decodes: the CPU time and the memory of an image are bounded by the process that decodes it.
    """
    if not importlib.util.find_spec("pillow_heif"):
        return False
    from pillow_heif import register_heif_opener  # Not at the top: it is an extra, and few processes need it.

    register_heif_opener(decode_threads=1, thumbnails=False, depth_images=False, aux_images=False)
    return True
