"""Which of the picture formats that are taken a file has, by its first bytes. Decodes nothing, trusts no name."""

from ingest.errors import DamagedImage, UnsupportedMediaType

#: Pillow's name of each format and the signatures that its files open with. A dot stands for any byte: in WebP
#: the length of the file, in BMP its length and two reserved fields, up to the length of the header.
_SIGNATURES = {
    "JPEG": (b"\xff\xd8\xff",),
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "WEBP": (b"RIFF....WEBP",),
    "GIF": (b"GIF87a", b"GIF89a"),
    "BMP": tuple(b"BM............" + bytes([size, 0, 0, 0]) for size in (12, 16, 40, 52, 56, 64, 108, 124)),
    "TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
}

#: What each is called in a Content-Type. Nobody is held to it: the first bytes say what a file is.
MEDIA_TYPES = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
    "GIF": "image/gif",
    "BMP": "image/bmp",
    "TIFF": "image/tiff",
}

TAKEN = "JPEG, PNG, WebP, GIF, BMP and TIFF"


def format_of(data: bytes) -> str:
    """Pillow's name of the format; DamagedImage where only a part of a signature has arrived."""
    if not data:
        raise DamagedImage("The file is empty. Send the whole file.")
    for name, signatures in _SIGNATURES.items():
        for signature in signatures:
            if _agrees(data, signature):
                if len(data) < len(signature):
                    raise DamagedImage(
                        f"The {name} file ends after {len(data)} bytes, within its header. Send the whole file."
                    )
                return name
    raise UnsupportedMediaType(
        f"The data is not in a picture format that is taken ({TAKEN}). Convert the picture to one of them."
    )


def _agrees(data: bytes, signature: bytes) -> bool:
    return all(want in (have, ord(".")) for have, want in zip(data, signature, strict=False))
