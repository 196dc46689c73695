"""Images for tests, made from nothing and the same in every run: each format, mode and kind of damage."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

from ingest.images.formats import enable_heic
from stream.model import Interpolation, ModelDescription, Resize

EXIF_ORIENTATION = 0x0112

enable_heic()


def model(
    width: int = 64,
    height: int = 48,
    *,
    shorter_side: int | None = None,
    interpolation: Interpolation = "bicubic",
) -> ModelDescription:
    """A model of that input; a crop where `shorter_side` is given, else a squash."""
    mode = "squash" if shorter_side is None else "crop"
    resize = Resize("crop" if mode == "crop" else "squash", interpolation, shorter_side)
    return ModelDescription("tiny", "1", "0" * 64, height, width, resize, ("cat", "dog"))


def scene(width: int = 160, height: int = 120) -> Image.Image:
    """A smooth image whose corners all differ: red grows to the right, green downwards, blue is a disc."""
    down, right = np.mgrid[0:height, 0:width]
    disc = np.hypot(down - height / 3, right - width / 3) < min(width, height) / 4
    channels = (right * 255 / max(1, width - 1), down * 255 / max(1, height - 1), disc * 200.0)
    return Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8))


def noisy_scene(width: int = 500, height: int = 375) -> Image.Image:
    """The scene with the grain of a camera, which makes files as large as an image's."""
    grain = np.random.default_rng(7).normal(0, 8, (height, width, 1))
    pixels = np.asarray(scene(width, height), dtype=float) + grain
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """The image as a file of Pillow's format `kind`."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def stored_turned(image: Image.Image, orientation: int, kind: str = "JPEG") -> bytes:
    """A file that looks like `image` once its EXIF orientation is obeyed."""
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = image.transpose(undo[orientation]) if orientation in undo else image
    options = {"lossless": True} if kind == "WEBP" else {"quality": 95} if kind in ("JPEG", "HEIF", "AVIF") else {}
    return encoded(stored, kind, exif=_exif(orientation), **options)


def _exif(orientation: int) -> bytes:
    """From this, the encoders of HEIC and AVIF also write the orientation of the container."""
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    return exif.tobytes()


def chunk(name: bytes, body: bytes) -> bytes:
    """One chunk of a PNG file."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(width: int, height: int, bits: int, colour: int, rows: bytes, extra: bytes = b"") -> bytes:
    """A PNG written by hand: for depths that Pillow does not write, and for headers that lie."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    parts = (chunk(b"IHDR", header), extra, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def png_of_16_bits(values: "np.ndarray[tuple[int, ...], np.dtype[np.uint16]]") -> bytes:
    """16-bit PNG of [height, width] (grey) or [height, width, 3] (RGB) samples."""
    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return png(width, height, 16, 0 if values.ndim == 2 else 2, rows)


def bomb(kind: str, width: int = 30_000, height: int = 30_000) -> bytes:
    """A small file whose header promises 900 million pixels."""
    if kind == "PNG":
        return png(width, height, 8, 2, b"\0" * 1000)
    if kind == "GIF":
        return b"GIF89a" + struct.pack("<HH", width, height) + encoded(scene(), "GIF")[10:]
    small = bytearray(encoded(scene(), kind))
    if kind in ("HEIF", "AVIF"):
        at = small.index(b"ispe") + 8
        small[at : at + 8] = struct.pack(">II", width, height)
    elif kind == "BMP":
        small[18:26] = struct.pack("<ii", width, height)
    elif kind == "JPEG":
        frame = small.index(b"\xff\xc0")
        small[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    elif kind == "WEBP":
        # 14 bits each: at most 16383 x 16383.
        small[26:30] = struct.pack("<HH", min(width, 16383), min(height, 16383))
    else:
        assert kind == "TIFF", f"write here a small {kind} file whose header promises too many pixels"
        return encoded(Image.new("1", (20_000, 20_000)), "TIFF", compression="group4")
    return bytes(small)


def one_of_each() -> dict[str, bytes]:
    """A valid file of every format and of most of their kinds, small enough to be damaged thousands of times."""
    colour = scene(40, 30)
    palette, grey, alpha = colour.convert("P"), colour.convert("L"), colour.copy()
    alpha.putalpha(grey)
    frames = [colour, colour.transpose(Image.Transpose.ROTATE_180)]
    return {
        "jpeg": encoded(colour, "JPEG"),
        "jpeg progressive": encoded(colour, "JPEG", progressive=True),
        "jpeg grey": encoded(grey, "JPEG"),
        "jpeg cmyk": encoded(colour.convert("CMYK"), "JPEG"),
        "jpeg turned": stored_turned(colour, 6),
        "png": encoded(colour, "PNG"),
        "png palette": encoded(palette, "PNG", transparency=3),
        "png alpha": encoded(alpha, "PNG"),
        "png bits": encoded(grey.convert("1"), "PNG"),
        "png 16 bits": png_of_16_bits(np.asarray(grey, np.uint16) * 257),
        "png animated": encoded(frames[0], "PNG", save_all=True, append_images=frames[1:]),
        "webp": encoded(colour, "WEBP"),
        "webp lossless": encoded(alpha, "WEBP", lossless=True),
        "webp animated": encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:]),
        "heic": encoded(colour, "HEIF"),
        "heic alpha turned": stored_turned(alpha, 6, "HEIF"),
        "heic tiles": encoded(colour, "HEIF", grid_tile_size=16),
        "avif": encoded(colour, "AVIF"),
        "avif alpha turned": stored_turned(alpha, 6, "AVIF"),
        "avif animated": encoded(frames[0], "AVIF", save_all=True, append_images=frames[1:]),
        "gif": encoded(palette, "GIF"),
        "gif animated": encoded(frames[0], "GIF", save_all=True, append_images=frames[1:], comment=b"two"),
        "bmp": encoded(colour, "BMP"),
        "bmp palette": encoded(palette, "BMP"),
        "bmp rle": run_length_bmp(),
        "tiff": encoded(colour, "TIFF"),
        "tiff lzw": encoded(colour, "TIFF", compression="tiff_lzw"),
        "tiff jpeg": encoded(colour, "TIFF", compression="jpeg"),
        "tiff cmyk": encoded(colour.convert("CMYK"), "TIFF", compression="tiff_adobe_deflate"),
        "tiff bits": encoded(grey.convert("1"), "TIFF", compression="group4"),
    }


def run_length_bmp(width: int = 40, height: int = 30) -> bytes:
    """An 8-bit BMP of one run for each row, in the colour of the row's number."""
    palette = b"".join(bytes((n, n, n, 0)) for n in range(256))
    body = b"".join(bytes((width, row % 256, 0, 0)) for row in range(height)) + b"\0\1"
    start = 14 + 40 + len(palette)
    header = struct.pack("<2sIHHI", b"BM", start + len(body), 0, 0, start)
    return header + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(body), 0, 0, 256, 0) + palette + body


def grey_jpeg_of_odd_sampling() -> bytes:
    """16 x 16 pixels of grey 128, the chroma channels sampled in different directions, as no encoder does it.

    Every block is empty: one bit says that its mean is that of the block before, one that nothing follows.
    """
    tables = b"".join(
        struct.pack(">BBHB", 0xFF, 0xC4, 2 + 1 + 16 + 1, kind) + bytes((1, *[0] * 15)) + b"\0" for kind in (0x00, 0x10)
    )
    channels = bytes((1, 0x22, 0, 2, 0x12, 0, 3, 0x21, 0))
    return (
        b"\xff\xd8"
        + struct.pack(">BBHB", 0xFF, 0xDB, 2 + 1 + 64, 0)
        + bytes([1] * 64)
        + struct.pack(">BBHBHHB", 0xFF, 0xC0, 17, 8, 16, 16, 3)
        + channels
        + tables
        + struct.pack(">BBHB", 0xFF, 0xDA, 12, 3)
        + bytes((1, 0, 2, 0, 3, 0, 0, 63, 0))
        + b"\0\0"
        + b"\xff\xd9"
    )
