"""Draws labels onto copies of pictures, upright and in the same folders. Knows nothing of the service."""

import io
import os
import threading
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont, ImageOps

from ingest.client.decision import Classified
from ingest.client.item import STDIN, Item, UnreadableError
from ingest.images.formats import FORMATS

#: Formats that are written as they came; copies of others become PNG.
_KEPT = frozenset(image_format.name for image_format in FORMATS)
_WITHOUT_ALPHA = frozenset(("JPEG", "BMP"))
_SETTINGS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 92},
    "WEBP": {"quality": 92},
    "TIFF": {"compression": "tiff_lzw"},
}
#: Lines of text that the picture's shorter side has room for, and the least size that can be read, in pixels.
_LINES = 22
_LEAST_SIZE = 10
#: How much of the picture shines through behind the text: white stays readable even over white.
_SHADE = 0.72
_LONGEST_LABEL = 60


class Annotator:
    """Writes copies below `folder`. Few at once: an open picture is a dozen times its JPEG."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._turns = threading.Semaphore(os.cpu_count() or 1)

    def annotate(self, item: Item, data: bytes, by: Classified) -> None:
        """Whole or not at all. Raises UnreadableError."""
        try:
            with self._turns, Image.open(io.BytesIO(data)) as image:
                kind = image.format if image.format in _KEPT else "PNG"
                drawn = drawn_on(image, [f"{label[:_LONGEST_LABEL]}  {value:.1%}" for label, value in by.labels])
            if kind in _WITHOUT_ALPHA and drawn.mode != "RGB":
                drawn = drawn.convert("RGB")
            copy = self._folder / copy_path(item, kind)
            copy.parent.mkdir(parents=True, exist_ok=True)
            unfinished = copy.with_name(f".{copy.name}.{threading.get_ident()}")
            drawn.save(unfinished, kind, icc_profile=image.info.get("icc_profile"), **_SETTINGS.get(kind, {}))
            unfinished.replace(copy)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise UnreadableError(f"classified, but no copy could be drawn: {error}") from error


def copy_path(item: Item, kind: str) -> Path:
    """Where the copy lies below the folder of copies: as the picture below the working folder, or below the root."""
    if item.path == STDIN:
        return Path(f"stdin.{kind.lower()}")
    path = Path(os.path.abspath(item.path))  # noqa: PTH100 (resolve would follow links)
    inner = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path.relative_to(path.anchor)
    return inner if item.frame is None else inner / f"frame_{item.frame:08d}.jpg"


def drawn_on(image: Image.Image, lines: list[str]) -> Image.Image:
    """A copy of the picture, upright, with the lines in its upper left corner."""
    drawn = _plain(ImageOps.exif_transpose(image))
    font = _fitting(drawn, lines)
    text = "\n".join(lines)
    pad = font.size / 3
    _left, _top, right, bottom = ImageDraw.Draw(drawn).multiline_textbbox((pad, pad), text, font, spacing=pad)
    panel = (0, 0, min(drawn.width, round(right + pad)), min(drawn.height, round(bottom + pad)))
    part = drawn.crop(panel)
    drawn.paste(Image.blend(part, Image.new(part.mode, part.size, _black(part.mode)), _SHADE), panel)
    ImageDraw.Draw(drawn).multiline_text((pad, pad), text, "white", font, spacing=pad)
    return drawn


def _plain(image: Image.Image) -> Image.Image:
    """RGB, or RGBA where something shines through; always a copy."""
    if image.mode.startswith(("I", "F")):
        # More than 8 bits: Pillow cuts off what is above 255 instead of scaling. Where the range is not known, as with
        # floats, it ends with the brightest.
        values = image.convert("F")
        white = 65_535.0 if "16" in image.mode else max(1.0, float(values.getextrema()[1]))  # type: ignore[arg-type]
        image = values.point(lambda value: value * (255 / white)).convert("L")
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def _fitting(image: Image.Image, lines: list[str]) -> ImageFont.FreeTypeFont:
    """Pillow's own font in the largest size, up to the usual one, in which the widest line fits."""
    size = max(_LEAST_SIZE, min(image.size) / _LINES)
    font = _font(size)
    widest = max((font.getlength(line) for line in lines), default=0) + size
    return font if widest <= image.width else _font(max(_LEAST_SIZE, size * image.width / widest))


def _font(size: float) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont), "Pillow's wheels have FreeType"
    return font


def _black(mode: str) -> tuple[int, ...]:
    return (0, 0, 0, 255) if mode == "RGBA" else (0, 0, 0)
