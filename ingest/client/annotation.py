"""Draws labels onto copies of images, which are upright and in the same folders as the originals."""

import io
import os
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont, ImageOps

from ingest.client.decision import Result
from ingest.client.item import STDIN, Item, UnreadableError
from ingest.images.formats import FORMATS, HEIC, HEIC_NEEDS, enable_heic

#: Copies keep these formats. Copies of other formats become PNG.
_KEPT = frozenset(image_format.name for image_format in FORMATS)
_WITHOUT_ALPHA = frozenset(("JPEG", "BMP"))
_SETTINGS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 92},
    "WEBP": {"quality": 92},
    "TIFF": {"compression": "tiff_lzw"},
}
#: Lines of text that fit the image's shorter side, and the smallest readable font size in pixels.
_LINES = 22
_LEAST_SIZE = 10
#: Opacity of the dark panel behind the text: white text stays readable over a white image.
_SHADE = 0.72
_LONGEST_LABEL = 60
#: Folder of the copies that are being written, within the folder of copies: a rename then completes each.
_UNFINISHED = ".unfinished"


class Annotator:
    """Writes copies below `folder`, few at a time: a decoded image is a dozen times as large as its JPEG."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._unfinished = folder / _UNFINISHED
        _remove_leftovers(self._unfinished)
        self._reads_heic = enable_heic()
        self._slots = threading.Semaphore(os.cpu_count() or 1)

    def annotate(self, item: Item, data: bytes, result: Result) -> None:
        """Writes the whole copy or none. Raises UnreadableError."""
        if not self._reads_heic and HEIC.matches(data):
            raise UnreadableError(f"classified, but no copy could be drawn: {HEIC_NEEDS}")
        try:
            with self._slots, Image.open(io.BytesIO(data)) as image:
                kind = image.format if image.format in _KEPT else "PNG"
                drawn = drawn_on(
                    image, [f"{label[:_LONGEST_LABEL]}  {value:.1%}" for label, value in result.predictions]
                )
            if kind in _WITHOUT_ALPHA and drawn.mode != "RGB":
                drawn = drawn.convert("RGB")
            copy = self._folder / copy_path(item, kind)
            copy.parent.mkdir(parents=True, exist_ok=True)
            self._save(drawn, kind, image.info.get("icc_profile")).replace(copy)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise UnreadableError(f"classified, but no copy could be drawn: {error}") from error

    def close(self) -> None:
        """Removes the folder of unfinished copies, unless another run uses it."""
        with suppress(OSError):
            self._unfinished.rmdir()

    def _save(self, drawn: Image.Image, kind: str, icc_profile: bytes | None) -> Path:
        """Saves into a file that no other thread or run uses."""
        self._unfinished.mkdir(parents=True, exist_ok=True)
        path = self._unfinished / f"{os.getpid()}-{threading.get_ident()}"
        drawn.save(path, kind, icc_profile=icc_profile, **_SETTINGS.get(kind, {}))
        return path


def _remove_leftovers(unfinished: Path) -> None:
    """Removes the files of earlier runs that were killed while they wrote a copy."""
    for path in unfinished.glob("*-*"):
        if not _is_running(path.name.partition("-")[0]):
            path.unlink(missing_ok=True)


def _is_running(pid: str) -> bool:
    if sys.platform == "win32" or not pid.isdecimal():
        return True  # os.kill would end a process there
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def copy_path(item: Item, kind: str) -> Path:
    """The copy's path within the folder of copies: the image's path from the working folder, or else from the root."""
    if item.path == STDIN:
        return Path(f"stdin.{kind.lower()}")
    path = Path(os.path.abspath(item.path))  # noqa: PTH100 (resolve would follow links)
    inner = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path.relative_to(path.anchor)
    return inner if item.frame is None else inner / f"frame_{item.frame:08d}.jpg"


def drawn_on(image: Image.Image, lines: list[str]) -> Image.Image:
    """An upright copy with the lines in its upper left corner."""
    drawn = _to_rgb(ImageOps.exif_transpose(image))
    font = _fit_font(drawn, lines)
    text = "\n".join(lines)
    pad = font.size / 3
    _left, _top, right, bottom = ImageDraw.Draw(drawn).multiline_textbbox((pad, pad), text, font, spacing=pad)
    panel = (0, 0, min(drawn.width, round(right + pad)), min(drawn.height, round(bottom + pad)))
    part = drawn.crop(panel)
    drawn.paste(Image.blend(part, Image.new(part.mode, part.size, _black(part.mode)), _SHADE), panel)
    ImageDraw.Draw(drawn).multiline_text((pad, pad), text, "white", font, spacing=pad)
    return drawn


def _to_rgb(image: Image.Image) -> Image.Image:
    """RGB, or RGBA if the image has transparency; always a copy."""
    if image.mode.startswith(("I", "F")):
        # More than 8 bits: Pillow would clip values above 255. If the range is unknown, as with floats, the brightest
        # value becomes white.
        values = image.convert("F")
        white = 65_535.0 if "16" in image.mode else max(1.0, float(values.getextrema()[1]))  # type: ignore[arg-type]
        image = values.point(lambda value: value * (255 / white)).convert("L")
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def _fit_font(image: Image.Image, lines: list[str]) -> ImageFont.FreeTypeFont:
    """Pillow's own font in the usual size, or in the largest size that fits the widest line."""
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
