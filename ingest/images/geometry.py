"""Which part of a picture fills the model's input, and at what size. Pure geometry, sees no pixel."""

from dataclasses import dataclass

from ingest.images.orientation import Box, Turn
from stream.model import ModelDescription


@dataclass(frozen=True, slots=True)
class Frame:
    """In the picture as it is stored: `box` (left, top, right, bottom, pixels) is scaled to `width` x `height`.

    `turn` then makes it upright.
    """

    box: Box
    width: int
    height: int
    turn: Turn

    def shrunk(self, divisor: int) -> "Frame":
        """The same frame in a picture whose sides were divided by `divisor`."""
        left, top, right, bottom = self.box
        box = (left / divisor, top / divisor, right / divisor, bottom / divisor)
        return Frame(box, self.width, self.height, self.turn)

    def scale(self) -> float:
        """Pixels of the picture for one of the input, along the side that has fewer."""
        left, top, right, bottom = self.box
        return min((right - left) / self.width, (bottom - top) / self.height)


def frame(width: int, height: int, turn: Turn, model: ModelDescription) -> Frame:
    """The frame of a picture stored as `width` x `height` that `turn` makes upright, as the model wants it."""
    upright_width, upright_height = turn.size(width, height)
    box = _box(upright_width, upright_height, model)
    into_width, into_height = turn.size(model.width, model.height)
    return Frame(turn.stored_box(box, upright_width, upright_height), into_width, into_height, turn)


def _box(width: int, height: int, model: ModelDescription) -> Box:
    if model.resize.mode == "squash":
        return (0.0, 0.0, float(width), float(height))
    # A crop is by definition two steps: scale the shorter side to `shorter_side` (the other one rounded down, as in
    # torchvision, where the evaluation of most models comes from), then cut the centre. The box does both
    # at once: nothing is computed that is cut off, however long a strip the picture is.
    short = min(width, height)
    least = max(-(-model.width * short // width), -(-model.height * short // height))
    shorter_side = max(model.resize.shorter_side or 0, least)
    scaled_width = max(model.width, shorter_side * width // short)
    scaled_height = max(model.height, shorter_side * height // short)
    left = round((scaled_width - model.width) / 2) * width / scaled_width
    top = round((scaled_height - model.height) / 2) * height / scaled_height
    return (
        left,
        top,
        left + model.width * width / scaled_width,
        top + model.height * height / scaled_height,
    )
