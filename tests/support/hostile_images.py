"""Small files that are expensive to decode, made from nothing: each names what it costs a decoder without limits."""

import functools
import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image, TiffImagePlugin

from tests.support.image_files import heif_files, jpeg_files
from tests.support.images import chunk, encoded, noisy_scene, png, run_length_bmp, scene

#: The side of a square with just under 50 million pixels, the default of max_pixels.
SIDE = 7071


def _deflated_zeros(size: int) -> bytes:
    packer = zlib.compressobj(9)
    block = bytes(1 << 20)
    parts = [packer.compress(block[: min(len(block), size - start)]) for start in range(0, size, len(block))]
    return b"".join([*parts, packer.flush()])


def _png(side: int, bits: int, colour: int, row_bytes: int, extra: bytes = b"", *, interlaced: bool = False) -> bytes:
    header = struct.pack(">IIBBBBB", side, side, bits, colour, 0, 0, interlaced)
    data = _deflated_zeros((row_bytes + 1) * side * (2 if interlaced else 1))
    parts = (chunk(b"IHDR", header), extra, chunk(b"IDAT", data), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def rgba_png(side: int = SIDE) -> bytes:
    """RGBA, 4 bytes a pixel, and as many again for each copy on the way."""
    return _png(side, 8, 6, 4 * side)


def interlaced_png(side: int = SIDE) -> bytes:
    """Seven passes over RGBA."""
    return _png(side, 8, 6, 4 * side, interlaced=True)


def deep_png(side: int = SIDE) -> bytes:
    """16-bit RGBA, 8 bytes a pixel before they are scaled."""
    return _png(side, 16, 6, 8 * side)


def palette_png(side: int = SIDE) -> bytes:
    """One byte a pixel, which becomes four: a palette with a transparent colour."""
    extra = chunk(b"PLTE", bytes(range(6))) + chunk(b"tRNS", b"\0")
    return _png(side, 8, 3, side, extra)


def png_with_profile(size: int = 15 * 2**20) -> bytes:
    """A colour profile that inflates to hundreds of megabytes."""
    body = b"ICC\0\0" + _deflated_zeros(size * 20)
    return png(64, 64, 8, 2, b"".join(b"\0" + bytes(192) for _ in range(64)), chunk(b"iCCP", body))


def png_with_text(count: int = 200_000) -> bytes:
    """As many text chunks as fit."""
    body = chunk(b"tEXt", b"k\0v") * count
    return png(64, 64, 8, 2, b"".join(b"\0" + bytes(192) for _ in range(64)), body)


def animated_webp(side: int = SIDE) -> bytes:
    """A canvas of 50 megapixels, and a first frame of 8 x 8."""
    frame = encoded(Image.new("RGB", (8, 8)), "WEBP", lossless=True)[12:]
    anmf = _triple(0) + _triple(0) + _triple(7) + _triple(7) + _triple(100) + b"\0" + frame
    vp8x = b"\x12\0\0\0" + _triple(side - 1) + _triple(side - 1)
    body = b"WEBP" + _riff(b"VP8X", vp8x) + _riff(b"ANIM", bytes(6)) + _riff(b"ANMF", anmf)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _triple(value: int) -> bytes:
    return struct.pack("<I", value)[:3]


def _riff(name: bytes, body: bytes) -> bytes:
    return name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


def lossless_webp(side: int = SIDE) -> bytes:
    """RGBA of one colour in some two kilobytes."""
    return encoded(Image.new("RGBA", (side, side), (9, 8, 7, 6)), "WEBP", lossless=True, quality=0, method=0)


def lossy_webp(side: int = SIDE) -> bytes:
    """The same, lossy."""
    return encoded(Image.new("RGB", (side, side), (9, 8, 7)), "WEBP", quality=0, method=0)


def progressive_jpeg(side: int = SIDE, scans: int = 100) -> bytes:
    """Each scan walks over all blocks of the image, and takes a hundred bytes."""
    data = encoded(Image.new("RGB", (side, side)), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * (scans - data.count(b"\xff\xda")) + data[-2:]


def cmyk_jpeg(side: int = SIDE) -> bytes:
    """Four channels that become three."""
    return encoded(Image.new("CMYK", (side, side)), "JPEG", quality=10)


def baseline_jpeg(side: int = SIDE) -> bytes:
    """All pixels in one scan."""
    return encoded(Image.new("RGB", (side, side)), "JPEG", quality=10)


def separate_jpeg(side: int = SIDE) -> bytes:
    """Baseline with a scan for each channel, so that the decoder keeps all coefficients."""
    data = encoded(Image.new("RGB", (side, side)), "JPEG", quality=10, subsampling=0)
    start = data.rindex(b"\xff\xda")
    body = data[start + 14 : -2]
    scans = [
        b"\xff\xda\0\x08\x01" + bytes((number, tables)) + b"\0\x3f\0" + body
        for number, tables in ((1, 0), (2, 0x11), (3, 0x11))
    ]
    return data[:start] + b"".join(scans) + data[-2:]


def tiled_tiff(tile: int = 26_000) -> bytes:
    """An image of 16 x 16 in one tile of 676 megapixels."""
    return _tiff(16, 16, [(322, 4, tile), (323, 4, tile)], zlib.compress(bytes(tile * 1000)), 324, 325)


def _tiff(width: int, height: int, more: list[tuple[int, int, int]], data: bytes, at: int, size: int) -> bytes:
    plain = [(256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 8), (262, 3, 1), (277, 3, 1)]
    tags = sorted([*plain, *more, (at, 4, 8), (size, 4, len(data))])
    directory = struct.pack("<H", len(tags)) + b"".join(
        struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags
    )
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + directory + bytes(4)


def stripped_tiff(side: int = SIDE) -> bytes:
    """One deflated strip of 50 megapixels RGB."""
    image = Image.new("RGB", (side, side))
    return encoded(image, "TIFF", compression="tiff_adobe_deflate", tiffinfo={TiffImagePlugin.ROWSPERSTRIP: side})


def lzw_tiff(side: int = SIDE) -> bytes:
    """RGBA in strips of LZW."""
    return encoded(Image.new("RGBA", (side, side)), "TIFF", compression="tiff_lzw")


def jpeg_tiff(side: int = 5000) -> bytes:
    """JPEG in strips."""
    return encoded(Image.new("RGB", (side, side)), "TIFF", compression="jpeg")


def fax_tiff(side: int = SIDE) -> bytes:
    """One bit a pixel."""
    return encoded(Image.new("1", (side, side)), "TIFF", compression="group4")


def gif(side: int = SIDE) -> bytes:
    """A canvas of 50 megapixels and a first frame of 8 x 8."""
    small = encoded(Image.new("P", (8, 8)), "GIF", transparency=0)
    return small[:6] + struct.pack("<HH", side, side) + small[10:]


def whole_gif(side: int = SIDE) -> bytes:
    """A first frame of 50 megapixels."""
    return encoded(Image.new("L", (side, side)), "GIF", transparency=0)


def avif(side: int = SIDE) -> bytes:
    """All of one colour."""
    return encoded(Image.new("RGB", (side, side)), "AVIF", speed=10)


@functools.cache
def avif_that_lies() -> bytes:
    """12 megapixels of grain behind a header that promises 64 x 48."""
    data = bytearray(encoded(noisy_scene(4000, 3000), "AVIF", speed=10))
    at = data.index(b"ispe") + 8
    data[at : at + 8] = struct.pack(">II", 64, 48)
    return bytes(data)


def large_heic() -> bytes:
    """A grid of 13 x 13 tiles, which all are the same one: 44 megapixels in 900 bytes."""
    return heif_files.grid(13, 13, 13 * heif_files.TILE, 13 * heif_files.TILE)


def heic() -> bytes:
    """As large as the limit of memory allows."""
    return heif_files.grid(10, 10, 10 * heif_files.TILE, 10 * heif_files.TILE)


def heic_of_many_tiles() -> bytes:
    """17 gigapixels of tiles, and an image of 100 x 100."""
    return heif_files.grid(255, 255, 100, 100)


def rle_bmp() -> bytes:
    """Run-length encoding, which Pillow unpacks in Python."""
    return run_length_bmp(255, 15_000)


def noisy_png(side: int = 2400) -> bytes:
    """Almost 20 MB that do not compress."""
    pixels = np.random.default_rng(1).integers(0, 256, (side, side, 3), np.uint8)
    return encoded(Image.fromarray(pixels), "PNG", compress_level=1)


def lossless_jpeg() -> bytes:
    """One bit for each sample, and no way to scale while decoding."""
    return jpeg_files.lossless(3500)


def jpeg_of_hidden_scans() -> bytes:
    """A thousand scans behind five thousand comments."""
    return jpeg_files.with_hidden_scans(2000, 5000, 1000)


def jpeg_with_exif_in_pieces() -> bytes:
    """Almost 20 MB of EXIF. To add each piece to those before takes two seconds."""
    return jpeg_files.with_exif_in_pieces(3000, 6500)


def jpeg_with_profiles() -> bytes:
    """Almost 20 MB of colour profiles."""
    return jpeg_files.with_profiles_in_pieces(300, 65_000)


def jpeg_of_stuffed_bytes() -> bytes:
    """Almost 20 MB in which each second byte could begin a marker."""
    return jpeg_files.progressive_of_one_byte(20_000_000, b"\xff\0")


def jpeg_of_fill_bytes() -> bytes:
    """Almost 20 MB in which each byte could begin a marker."""
    return jpeg_files.progressive_of_one_byte(20_000_000, b"\xff\xff")


def tall_jpeg() -> bytes:
    """Half a megapixel, which is 15 megapixels once its rows are as wide as the input."""
    return encoded(Image.new("RGB", (8, 65_500)), "JPEG")


def multi_image_jpeg() -> bytes:
    """A large and a small image in one file (MPO)."""
    file = io.BytesIO()
    scene(640, 480).save(file, "MPO", save_all=True, append_images=[noisy_scene()])
    return file.getvalue()


#: By name.
ALL: dict[str, Callable[[], bytes]] = {
    "animated webp": animated_webp,
    "lossless webp": lossless_webp,
    "lossy webp": lossy_webp,
    "rgba png": rgba_png,
    "interlaced png": interlaced_png,
    "16-bit png": deep_png,
    "palette png": palette_png,
    "png with a profile": png_with_profile,
    "png with texts": png_with_text,
    "noisy png": noisy_png,
    "progressive jpeg": progressive_jpeg,
    "cmyk jpeg": cmyk_jpeg,
    "baseline jpeg": baseline_jpeg,
    "jpeg of separate scans": separate_jpeg,
    "lossless jpeg": lossless_jpeg,
    "jpeg of hidden scans": jpeg_of_hidden_scans,
    "jpeg with exif in pieces": jpeg_with_exif_in_pieces,
    "jpeg with profiles": jpeg_with_profiles,
    "jpeg of stuffed bytes": jpeg_of_stuffed_bytes,
    "jpeg of fill bytes": jpeg_of_fill_bytes,
    "tall jpeg": tall_jpeg,
    "mpo": multi_image_jpeg,
    "tiff of one tile": tiled_tiff,
    "tiff of one strip": stripped_tiff,
    "tiff lzw": lzw_tiff,
    "tiff jpeg": jpeg_tiff,
    "tiff fax": fax_tiff,
    "avif": avif,
    "avif that lies": avif_that_lies,
    "heic": heic,
    "large heic": large_heic,
    "heic of many tiles": heic_of_many_tiles,
    "gif with a small frame": gif,
    "gif": whole_gif,
    "bmp rle": rle_bmp,
}
