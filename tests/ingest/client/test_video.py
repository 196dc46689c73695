"""Videos by the client: which frames are used, when they were, and which way up."""

import csv
import io
import json
import struct
from argparse import ArgumentTypeError
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from ingest.client import video
from ingest.client.__main__ import main
from ingest.client.command import FrameStep, frame_step
from tests.support.scripted_service import Reply, Script, serve

FRAMES = 30
RATE = 10


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Three seconds at 10 frames per second: the left half grows brighter by 8 with each frame, the right is blue."""
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as film:
        track = film.add_stream("mpeg4", rate=RATE)
        track.width, track.height, track.pix_fmt, track.bit_rate = 64, 48, "yuv420p", 2_000_000
        for number in range(FRAMES):
            pixels = np.zeros((48, 64, 3), np.uint8)
            pixels[:, :32], pixels[:, 32:] = number * 8, (0, 0, 255)
            film.mux(track.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        film.mux(track.encode(None))
    return path


def brightness(data: bytes) -> float:
    with Image.open(io.BytesIO(data)) as image:
        return float(np.asarray(image.convert("L"))[:, :24].mean())


@pytest.mark.parametrize(
    ("step", "numbers"),
    [
        ("1", range(FRAMES)),
        ("10", [0, 10, 20]),
        ("100", [0]),
        ("0.5s", [0, 5, 10, 15, 20, 25]),
        ("1s", [0, 10, 20]),
        ("0.25s", [0, 3, 5, 8, 10, 13, 15, 18, 20, 23, 25, 28]),
        ("0.01s", range(FRAMES)),
    ],
)
def test_frames_are_taken_by_number_or_by_time(clip: Path, step: str, numbers: list[int]) -> None:
    """The very frames, with the time at which they are shown."""
    items = list(video.items(str(clip), frame_step(step), skip=lambda _: False))
    assert [item.frame for item in items] == list(numbers)
    for item in items:
        assert item.frame is not None
        assert item.time_s == pytest.approx(item.frame / RATE)
        assert brightness(item.read()) == pytest.approx(item.frame * 8, abs=5)
    if step != "0.01s":
        assert video.estimate(str(clip), frame_step(step)) == len(items)


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "0s", "s", "1m", "", "1e3s", "nan", "99999999999"])
def test_a_step_that_cannot_be_used_is_refused(text: str) -> None:
    """With both forms in the message."""
    with pytest.raises(ArgumentTypeError, match=r"neither a number of frames \(10\) nor of seconds \(0.5s\)"):
        frame_step(text)


def test_frames_that_are_known_already_are_skipped(clip: Path) -> None:
    """`skip` gets the number of each."""
    items = video.items(str(clip), FrameStep(frames=10), skip=lambda number: number == 10)
    assert [item.frame for item in items] == [0, 20]


def test_a_video_that_was_filmed_sideways_is_rotated(clip: Path) -> None:
    """By the matrix in its track's header (ISO/IEC 14496-12, 8.3.2), as phones write it."""
    data = bytearray(clip.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40
    data[matrix : matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)
    clip.write_bytes(data)
    item = next(video.items(str(clip), FrameStep(frames=1), skip=lambda _: False))
    with Image.open(io.BytesIO(item.read())) as image:
        assert image.size == (48, 64)
        top, bottom = np.asarray(image, int)[8, 24], np.asarray(image, int)[56, 24]
    # Rotated by 90 degrees clockwise, the left half is above.
    assert top[2] < 60
    assert bottom[2] > 200


def replies() -> Iterator[Reply]:
    number = 0
    while True:
        number += 1
        document = {
            "predictions": [{"label": "cat", "probability": 0.5}],
            "model": "m",
            "version": "1",
            "id": f"{number}",
        }
        yield Reply(200, json.dumps(document).encode())


@pytest.fixture
def service() -> Iterator[Script]:
    """Every image is a cat."""
    script = replies()
    with serve(lambda _: next(script)) as served:
        yield served


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return sorted(csv.DictReader(file), key=lambda row: (row["path"], float(row["time_s"] or -1)))


def test_a_time_line_is_written_and_resumed(clip: Path, service: Script, tmp_path: Path) -> None:
    """A folder with an image, a video and a broken one. With half of the rows, the next run adds the others once."""
    Image.new("RGB", (20, 20)).save(tmp_path / "a.png")
    (tmp_path / "broken.mp4").write_bytes(b"no video" * 100)
    output = tmp_path / "out.csv"
    command = f"{tmp_path} --url {service.url} --output {output} --top 1 --every 0.5s --jobs 1".split()
    assert main(command) == 1
    first = rows(output)
    assert [(Path(row["path"]).name, row["frame"], row["time_s"], row["label_1"]) for row in first] == [
        ("a.png", "", "", "cat"),
        ("broken.mp4", "", "", ""),
        *[("clip.mp4", str(5 * step), f"{step / 2:g}", "cat") for step in range(6)],
    ]
    assert "Invalid data" in first[1]["error"]
    output.write_bytes(b"".join(output.read_bytes().splitlines(keepends=True)[:4]))
    sent = len(service.got)
    assert main(command) == 1
    assert [(row["path"], row["frame"]) for row in rows(output)] == [(row["path"], row["frame"]) for row in first]
    assert len(service.got) - sent == len(first) - 3
