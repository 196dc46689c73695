"""The client against the whole service: folders classified, killed, interrupted, refused, and resumed."""

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ingest.client.__main__ import main
from tests.ingest.test_app import png, ranked
from tests.support.images import encoded, scene
from tests.support.processes import ROOT, Process, Processes
from tests.support.redis.requests_direct import random_images
from tests.support.waiting import wait_until

Start = Callable[..., Process]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts clients as processes of their own, and ends what is left of them."""
    started: list[Process] = []

    def client(*arguments: object) -> Process:
        command = [sys.executable, "-m", "ingest.client", *map(str, arguments)]
        process = Process(command, dict(os.environ), tmp_path / f"client-{len(started)}.log")
        started.append(process)
        return process

    yield client
    for process in started:
        process.kill()


def folder_of(count: int, folder: Path) -> Path:
    """Images 0.png, 1.png, ... in folders of a hundred."""
    for number, image in enumerate(random_images(count)):
        path = folder / str(number // 100) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(image))
    return folder


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, strict=True))


def check(found: list[dict[str, str]], count: int, *, top: int = 5) -> None:
    """One row for each image, none twice, each with the labels of that image."""
    assert sorted(int(Path(row["path"]).stem) for row in found) == list(range(count))
    images = random_images(count)
    for row in found:
        labels = [
            {"label": row[f"label_{rank}"], "probability": float(row[f"probability_{rank}"])}
            for rank in range(1, top + 1)
        ]
        assert labels == ranked(images[int(Path(row["path"]).stem)], top)
        assert (row["error"], row["model"], row["version"], len(row["id"])) == ("", "tiny", "1", 32)


def test_a_run_that_is_killed_is_resumed(url: str, start: Start, tmp_path: Path) -> None:
    """SIGKILL half-way through 300 images, an incomplete last line, the same command again: 300 rows, none twice."""
    folder, output = folder_of(300, tmp_path / "photos"), tmp_path / "results.csv"
    first = start(folder, "--url", url, "--output", output, "--jobs", 2)
    wait_until(lambda: output.exists() and output.read_bytes().count(b"\n") > 50, "some rows are written")
    first.kill()
    before = len(rows(output))
    assert 50 <= before < 300
    with output.open("ab") as file:
        file.write(f'"{folder}/0/'.encode())
    assert (again := start(folder, "--url", url, "--output", output)).wait() == 0, again.text
    check(rows(output), 300)
    assert f"classified {300 - before}, failed 0, skipped {before}, retried 0 in" in again.text
    assert start(folder, "--url", url, "--output", output).wait() == 0
    assert len(rows(output)) == 300


def test_an_interrupted_run_leaves_a_whole_file(processes: Processes, start: Start, tmp_path: Path) -> None:
    """Ctrl-C while images are in flight: at once, with a summary, and each row is complete."""
    processes.consumer(rogue="slow", version=1, max_batch=1)
    url = processes.ingest()[1]
    folder, output = folder_of(200, tmp_path / "photos"), tmp_path / "results.csv"
    client = start(folder, "--url", url, "--output", output, "--jobs", 8)
    wait_until(lambda: output.exists() and output.read_bytes().count(b"\n") > 5, "some rows are written")
    client.send(signal.SIGINT)
    assert client.wait() == 130
    assert output.read_bytes().endswith(b"\n")
    written = len(rows(output))
    assert 5 <= written < 200
    assert f"classified {written}, failed 0, skipped 0, not sent {200 - written}, retried" in client.text


def test_a_damaged_image_is_a_row_with_its_error(url: str, tmp_path: Path) -> None:
    """It stops nothing, and the exit status says so. A file that is not an image is not sent."""
    folder, output = folder_of(3, tmp_path / "photos"), tmp_path / "results.csv"
    (folder / "cut.jpg").write_bytes(encoded(scene(), "JPEG")[:-500])
    (folder / "empty.png").touch()
    (folder / "notes.txt").write_text("not an image")
    assert main([str(folder), "--url", url, "--output", str(output)]) == 1
    errors = {Path(row["path"]).name: row["error"] for row in rows(output) if row["error"]}
    assert errors == {"cut.jpg": errors["cut.jpg"], "empty.png": "is empty"}
    assert errors["cut.jpg"].startswith("422 Damaged image: ")
    check([row for row in rows(output) if not row["error"]], 3)


def test_rows_with_an_error_are_sent_again_on_request(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Otherwise they count as done, though not as success."""
    folder, output = folder_of(4, tmp_path / "photos"), tmp_path / "results.csv"
    (good,) = folder.rglob("2.png")
    whole = good.read_bytes()
    good.write_bytes(whole[:90])
    command = [str(folder), "--url", url, "--output", str(output)]
    assert main(command) == 1
    good.write_bytes(whole)
    assert main(command) == 1
    assert "skipped 4 (1 with an error; --retry-errors sends these again)" in capsys.readouterr().err
    assert main([*command, "--retry-errors"]) == 0
    check(rows(output), 4)


def test_a_full_service_is_retried_until_all_are_accepted(
    processes: Processes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """More jobs than the queue has room for: 503s, and a row for each image in the end."""
    processes.consumer(version=1, max_batch=1)
    _, url = processes.ingest(max_backlog=1)
    folder, output = folder_of(16, tmp_path / "photos"), tmp_path / "results.csv"
    assert main([str(folder), "--url", url, "--output", str(output), "--jobs", "8", "--top", "2"]) == 0
    check(rows(output), 16, top=2)
    retried = re.search(r"retried (\d+) in", capsys.readouterr().err)
    assert retried
    assert int(retried[1]) > 0


def test_an_ingest_that_restarts_costs_no_row(processes: Processes, start: Start, tmp_path: Path) -> None:
    """SIGKILL to ingest in the middle of the run; it comes back at the same port, and the run succeeds."""
    processes.consumer(version=1)
    ingest, url = processes.ingest()
    folder, output = folder_of(300, tmp_path / "photos"), tmp_path / "results.csv"
    client = start(folder, "--url", url, "--output", output, "--jobs", 4)
    wait_until(lambda: output.exists() and output.read_bytes().count(b"\n") > 20, "some rows are written")
    ingest.kill()
    assert len(rows(output)) < 300
    processes.start("ingest", port=url.rpartition(":")[2])
    assert client.wait() == 0, client.text
    check(rows(output), 300)


def test_json_lines_hold_the_fields_of_responses(url: str, tmp_path: Path) -> None:
    """By the suffix of the output's name."""
    folder, output = folder_of(2, tmp_path / "photos"), tmp_path / "results.jsonl"
    assert main([str(folder), "--url", url, "--output", str(output), "--top", "3", "--model", "tiny"]) == 0
    found = {Path(row["path"]).stem: row for row in map(json.loads, output.read_text().splitlines())}
    for number, image in enumerate(random_images(2)):
        assert found[str(number)]["predictions"] == ranked(image, 3)
        assert found[str(number)]["error"] is None


def test_one_image_comes_by_standard_input(url: str) -> None:
    """`-` is an image. Without --output the rows go to standard output."""
    (image,) = random_images(1)
    command = [sys.executable, "-m", "ingest.client", "-", "--url", url, "--top", "1"]
    done = subprocess.run(command, input=png(image), capture_output=True, cwd=ROOT, check=True)
    (row,) = csv.DictReader(io.StringIO(done.stdout.decode()))
    best = {"label": row["label_1"], "probability": float(row["probability_1"])}
    assert (row["path"], [best]) == ("-", ranked(image, 1))


def test_a_run_that_cannot_go_on_says_why(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 2 and no row, because every image would fail. Only an outage is worth the same command again."""
    folder, output = folder_of(2, tmp_path / "photos"), tmp_path / "results.csv"
    for wrong, why in {
        ("--model", "nope"): "404 Unknown model",
        ("--top", "11"): "400 Bad parameter",
        ("--url", f"{url}/elsewhere"): "404 Not Found",
        ("--url", "http://127.0.0.1:9", "--give-up-after", "0"): "Connection refused",
    }.items():
        assert main([str(folder), "--url", url, "--output", str(output), *wrong]) == 2
        message = capsys.readouterr().err
        assert why in message
        assert ("Run the same command again to resume." in message) is (why == "Connection refused")
        assert rows(output) == []
        output.unlink()
    assert main([str(tmp_path / "nothing"), "--url", url]) == 2
    assert "nothing: no such file or folder" in capsys.readouterr().err


def test_the_client_uses_the_service_by_http_alone() -> None:
    """Of the server's code it imports the list of formats only, and neither Redis nor NumPy."""
    code = "import sys, ingest.client.__main__; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    ours = [name for name in found if name.startswith("ingest.") and not name.startswith("ingest.client")]
    assert set(ours) == {"ingest.images", "ingest.images.formats"}
    foreign = {"redis", "starlette", "uvicorn", "numpy", "stream", "results", "pydantic", "av"}
    assert not foreign & {name.partition(".")[0] for name in found}
