"""Which frames of a video are wanted. Reads no video, and so needs no PyAV."""

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FrameStep:
    """One frame of so many, or one in so many seconds; the other is 0."""

    frames: int = 0
    seconds: float = 0.0


def every(text: str) -> FrameStep:
    """`10` is every tenth frame, `0.5s` one every half second. Raises ValueError."""
    if re.fullmatch(r"[1-9]\d{0,8}", text):
        return FrameStep(frames=int(text))
    if re.fullmatch(r"\d{1,8}(\.\d{1,6})?s", text) and float(text[:-1]) > 0:
        return FrameStep(seconds=float(text[:-1]))
    raise ValueError(f"{text!r} is neither a number of frames (10) nor of seconds (0.5s)")
