"""The client's output file: written, incomplete, repaired, and never the file of another program."""

import csv
import fcntl
import json
from dataclasses import replace
from pathlib import Path

import pytest

from ingest.client.__main__ import main
from ingest.client.decision import Prediction, Result
from ingest.client.item import Item, key
from ingest.client.output import OutputError, to_file
from ingest.client.row import Csv, JsonLines, Row, RowFormat
from tests.support.scripted_service import Reply, serve

NAMES = ["plain.jpg", 'with, comma and "quotes".jpg', "of\ntwo lines.jpg", "with\rreturn.jpg", "naïve 写真.jpg"]
FORMS: dict[str, RowFormat] = {"csv": Csv(top=2, videos=False), "jsonl": JsonLines(videos=False)}


def row(path: str, error: str = "") -> Row:
    labels = () if error else (Prediction("cat, tabby", 0.75), Prediction("dog", 0.25))
    return Row(path, labels=labels, error=error, model="m", version="1", id="a1")


def written(path: Path, row_format: RowFormat, *rows: Row) -> Path:
    output = to_file(path, row_format, retry_errors=False)
    for each in rows:
        output.write(each)
    output.close()
    return path


def done(path: Path, row_format: RowFormat, *, retry_errors: bool = False) -> dict[tuple[str, int | None], bool]:
    output = to_file(path, row_format, retry_errors=retry_errors)
    output.close()
    return output.done


@pytest.fixture(params=["csv", "jsonl"])
def row_format(request: pytest.FixtureRequest) -> RowFormat:
    return FORMS[request.param]


def test_what_is_written_is_known_to_the_next_run(row_format: RowFormat, tmp_path: Path) -> None:
    """Whatever the files are called."""
    path = written(tmp_path / "out", row_format, *map(row, NAMES), row("bad.jpg", "422 Damaged"))
    assert done(path, row_format) == {key(name): False for name in NAMES} | {key("bad.jpg"): True}


def test_rows_of_another_model_are_refused(row_format: RowFormat, tmp_path: Path) -> None:
    """Each image would have labels of either model; another version of the same model is taken."""
    path = written(tmp_path / "out", row_format, row("a.jpg"), row("bad.jpg", "422 Damaged"))
    before = path.read_bytes()
    output = to_file(path, row_format, retry_errors=False)
    with pytest.raises(OutputError, match="has rows of m, not of flowers; choose another --output"):
        output.write(replace(row("b.jpg"), model="flowers"))
    output.close()
    assert path.read_bytes() == before
    written(path, row_format, replace(row("b.jpg"), version="2"))
    output = to_file(path, row_format, retry_errors=False)
    output.close()
    assert output.made_by == {("m", "1"), ("m", "2")}


def test_an_incomplete_last_line_is_removed_wherever_it_ends(row_format: RowFormat, tmp_path: Path) -> None:
    """After every third byte of the rows and after each row, one with a line feed within quotes."""
    path = written(tmp_path / "out", row_format, row(NAMES[0]))
    whole_after_one = path.stat().st_size
    written(path, row_format, row(NAMES[1]), row(NAMES[2]))
    data = path.read_bytes()
    ends = [len(row_format.header), whole_after_one, whole_after_one + len(row_format.line(row(NAMES[1]))), len(data)]
    for cut in sorted({*range(0, len(data), 3), *ends}):
        path.write_bytes(data[:cut])
        rows = sum(end <= cut for end in ends[1:])
        assert done(path, row_format) == {key(name): False for name in NAMES[:rows]}
        assert path.read_bytes() == data[: ends[rows]]


def test_rows_with_an_error_are_dropped_when_asked_for(row_format: RowFormat, tmp_path: Path) -> None:
    """The others stay as they are."""
    path = written(tmp_path / "out", row_format, row(NAMES[2]), row("bad.jpg", "422 Damaged"), row(NAMES[1]))
    expected = row_format.header + row_format.line(row(NAMES[2])) + row_format.line(row(NAMES[1]))
    assert done(path, row_format, retry_errors=True) == {key(NAMES[2]): False, key(NAMES[1]): False}
    assert path.read_bytes() == expected
    assert [each.name for each in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(
    "foreign", [b"name,score\ncat,1\n", b"no end", b"\x00" * 100, b'{"name": 1}\n', b"[1]\n", b"x" * 100_000]
)
def test_a_file_of_someone_else_is_left_alone(row_format: RowFormat, foreign: bytes, tmp_path: Path) -> None:
    """Not one byte of it changes."""
    path = tmp_path / "out"
    path.write_bytes(foreign)
    with pytest.raises(OutputError):
        to_file(path, row_format, retry_errors=False)
    assert path.read_bytes() == foreign


def test_other_columns_are_refused(tmp_path: Path) -> None:
    """A run with another --top would write rows that do not fit."""
    path = written(tmp_path / "out", Csv(top=2, videos=False), row("a.jpg"))
    for other in (Csv(top=3, videos=False), Csv(top=2, videos=True)):
        with pytest.raises(OutputError, match="other columns"):
            to_file(path, other, retry_errors=False)


def test_two_runs_do_not_write_to_one_file(row_format: RowFormat, tmp_path: Path) -> None:
    """The second is refused while the first is open, also after the first has rewritten the file."""
    path = written(tmp_path / "out", row_format, row("bad.jpg", "422 Damaged"))
    for retry_errors in (False, True):
        output = to_file(path, row_format, retry_errors=retry_errors)
        with pytest.raises(OutputError, match="another run"):
            to_file(path, row_format, retry_errors=False)
        output.close()
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_row_is_on_the_disk_as_soon_as_it_is_written(row_format: RowFormat, tmp_path: Path) -> None:
    """A kill at this moment loses nothing: there is no buffer in the process."""
    output = to_file(tmp_path / "out", row_format, retry_errors=False)
    output.write(row("a.jpg"))
    assert (tmp_path / "out").read_bytes() == row_format.header + row_format.line(row("a.jpg"))
    output.close()


def test_the_columns_are_as_documented() -> None:
    """Fewer labels than columns leave blanks; a video has its frame and time."""
    row_format = Csv(top=3, videos=True)
    lines = (
        (row_format.header + row_format.line(Row("v.mp4", 20, 0.8, (Prediction("cat", 0.5),), "", "m", "2", "a1")))
        .decode()
        .splitlines()
    )
    header, values = csv.reader(lines)
    names = "path frame time_s label_1 probability_1 label_2 probability_2 label_3 probability_3 error model version id"
    assert header == names.split()
    assert values == ["v.mp4", "20", "0.8", "cat", "0.5", "", "", "", "", "", "m", "2", "a1"]
    document = json.loads(
        JsonLines(videos=True).line(Row("v.mp4", 20, 0.8, (Prediction("cat", 0.5),), "", "m", "2", "a1"))
    )
    assert document == {
        "path": "v.mp4", "frame": 20, "time_s": 0.8, "predictions": [{"label": "cat", "probability": 0.5}],
        "error": None, "model": "m", "version": "2", "id": "a1",
    }  # fmt: skip


@pytest.mark.parametrize(("labels", "top", "columns"), [(3, [], 3), (10, [], 5), (3, ["--top", "2"], 2), (None, [], 5)])
def test_a_table_has_a_column_for_each_label_that_the_service_returns(
    labels: int | None, top: list[str], columns: int, tmp_path: Path
) -> None:
    """The service says how many labels its model has. A run that goes on has the columns of the first one."""
    (tmp_path / "a.png").write_bytes(b"an image")
    output = tmp_path / "out.csv"
    models = json.dumps({"models": [{"name": "m", "labels": labels}]}).encode() if labels else b"{}"
    predictions = [{"label": f"l{number}", "probability": 0.1} for number in range(columns)]
    good = json.dumps({"predictions": predictions, "model": "m", "version": "1", "id": "a"}).encode()
    with serve(lambda body: Reply(200, good if body else models)) as script:
        command = [str(tmp_path), "--url", script.url, "--output", str(output)]
        assert main([*command, *top]) == 0
        header, row = output.read_text().splitlines()
        assert (header.count("label_"), ",," in row.removesuffix(",m,1,a")) == (columns, False)
        (tmp_path / "b.png").write_bytes(b"another image")
        models = b'{"models": [{"name": "m", "labels": 1}]}'
        assert main([*command, *top]) == 0
    assert len(output.read_text().splitlines()) == 3


def test_probabilities_of_a_table_have_no_exponent() -> None:
    """Small ones beside large ones, without the zeros at the end."""
    labels = tuple(Prediction("cat", value) for value in (1.0, 0.89, 1.23e-05, 1e-07, 0.0))
    line = Csv(top=5, videos=False).line(Row("a.jpg", None, None, labels, "", "m", "1", "a1")).decode()
    assert line.split(",")[2:12:2] == ["1", "0.89", "0.0000123", "0.0000001", "0"]


def test_a_name_that_is_not_unicode_is_written_as_unicode(row_format: RowFormat, tmp_path: Path) -> None:
    """And found again by the next run."""
    name = b"caf\xe9.jpg".decode("utf-8", "surrogateescape")
    classified = Row.classified(Item(name, bytes), Result((Prediction("cat", 1.0),), "m", "1", "a1"))
    path = written(tmp_path / "out", row_format, classified)
    assert rb"caf\xe9.jpg" in path.read_bytes().replace(rb"\\", b"\\")
    assert done(path, row_format) == {key(name): False}


def test_the_next_run_removes_a_rewrite_that_was_killed(row_format: RowFormat, tmp_path: Path) -> None:
    """A run with --retry-errors writes a second file before it replaces the first."""
    path = written(tmp_path / "out", row_format, row("a.jpg"))
    (tmp_path / ".out.sluice-new").write_bytes(b"half a r")
    assert done(path, row_format) == {key("a.jpg"): False}
    assert [each.name for each in tmp_path.iterdir()] == ["out"]
