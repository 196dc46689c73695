"""Decodes frames of videos with PyAV (FFmpeg): every Nth frame, or one frame per time step."""

import io
import math
from collections.abc import Callable, Iterator

import av
from PIL import Image

from ingest.client.command import FrameStep
from ingest.client.item import Item, unreadable

#: Quality of the frames that are sent. The service scales them down, which hides the loss.
_JPEG_QUALITY = 95


def items(path: str, step: FrameStep, *, skip: Callable[[int | None], bool]) -> Iterator[Item]:
    """The chosen frames of a video, numbered from 0, each decoded when it is needed.

    Frames for which `skip` returns true are left out. A video that cannot be read to its end has one more item, without
    a frame number, that says so.
    """
    number = -1
    try:
        with av.open(path) as video:
            if not video.streams.video:
                raise ValueError("has no video track")
            track = video.streams.video[0]
            track.thread_type = "AUTO"
            start_s = float((track.start_time or 0) * (track.time_base or 0))
            due_s = 0.0
            for number, frame in enumerate(video.decode(track)):
                time_s = max(0.0, (frame.time or 0.0) - start_s)
                if step.frames:
                    wanted = number % step.frames == 0
                else:
                    wanted = time_s >= due_s
                    due_s = due_s if not wanted else step.seconds * (math.floor(time_s / step.seconds + 1e-9) + 1)
                if wanted and not skip(number):
                    yield Item(path, _encoder(frame), number, round(time_s, 6))
    except (av.FFmpegError, OSError, ValueError) as error:
        if not skip(None):
            yield unreadable(path, f"cannot be read beyond frame {number}: {error}" if number >= 0 else f"{error}")


def estimate(path: str, step: FrameStep) -> int:
    """About how many frames `items` will return, from the file's header; 0 if that is unknown."""
    try:
        with av.open(path) as video:
            track = video.streams.video[0]
            seconds: float = (video.duration or 0) / av.time_base
            if step.seconds:
                return math.ceil(seconds / step.seconds)
            frames: float = track.frames or seconds * float(track.average_rate or 0)
            return math.ceil(frames / step.frames)
    except (av.FFmpegError, OSError, IndexError):
        return 0


def _encoder(frame: av.VideoFrame) -> Callable[[], bytes]:
    """Encodes the frame as JPEG, in the thread that sends it and not in the one that decodes the video."""

    def encoded() -> bytes:
        image: Image.Image = frame.to_image()
        if frame.rotation:  # phones store the orientation; it counts anticlockwise
            image = image.rotate(frame.rotation, expand=True)
        file = io.BytesIO()
        image.save(file, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
        return file.getvalue()

    return encoded
