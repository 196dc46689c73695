"""Any of Pillow's colour modes to plain grey or RGB: alpha on white, 16 bits scaled. Knows no file."""

import numpy as np
from PIL import Image

from ingest.errors import UnsupportedMediaType

_WHITE = (255, 255, 255)


def opaque(image: Image.Image, bits: int = 16) -> Image.Image:
    """The loaded image in mode L or RGB. `bits` are the significant ones of a 16-bit sample."""
    if image.mode.startswith("I;16"):
        # Pillow's own conversion would clip at 255 instead of scaling.
        return Image.fromarray((np.asarray(image) >> (bits - 8)).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise UnsupportedMediaType(
            "The picture has 32 bits for each sample, whose white is not known. Save it with 8 or 16 bits."
        )
    if image.has_transparency_data or image.mode == "RGBa":
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, _WHITE), layer).convert("RGB")
    return image.convert("L" if image.mode in ("1", "L") else "RGB")
