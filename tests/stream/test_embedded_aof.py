"""The embedded server's append-only file: its levels of durability, its length, and who may read it."""

import os
from pathlib import Path

import pytest

from stream.embedded.aof import REWRITE_FROM_BYTES
from stream.settings import Durability
from tests.support.processes import Process, Processes
from tests.support.redis.embedded import answers, client, started
from tests.support.waiting import wait_until


@pytest.mark.parametrize(("durability", "appendfsync"), [("memory", "everysec"), ("process", "no"), ("disk", "always")])
def test_each_level_has_its_way_of_writing(
    durability: Durability, appendfsync: str, runs: Processes, data_dir: Path
) -> None:
    """What the level needs of the server, and a file that the server itself keeps short."""
    runs.start("stream", data_dir=data_dir, durability=durability)
    wait_until(lambda: answers(data_dir), "the embedded server answers")
    found = client(data_dir).config_get("append*")
    assert (found["appendonly"], found["appendfsync"]) == ("yes", appendfsync)
    assert client(data_dir).config_get("auto-aof-rewrite*") == {
        "auto-aof-rewrite-min-size": str(REWRITE_FROM_BYTES),
        "auto-aof-rewrite-percentage": "100",
    }


def test_what_was_written_survives_the_end_of_the_server(runs: Processes, data_dir: Path) -> None:
    """Also after a rewrite; the next run has only the file."""
    runs.share(SLUICE_DURABILITY="process")
    first = started(runs, data_dir)
    with client(data_dir) as embedded:
        embedded.set("image", b"a" * 100_000)
        embedded.bgrewriteaof()
        wait_until(lambda: not embedded.info("persistence")["aof_rewrite_in_progress"], "the file is rewritten")
        embedded.set("later", "yes")
        os.kill(int(embedded.info("server")["process_id"]), 9)
    assert first.wait() != 0
    started(runs, data_dir)
    with client(data_dir) as embedded:
        assert embedded.mget("image", "later") == [b"a" * 100_000, b"yes"]


@pytest.mark.parametrize("copied", [False, True])
def test_a_deleted_file_is_shortened_unless_it_has_another_name(
    copied: bool, runs: Processes, data_dir: Path, tmp_path: Path
) -> None:
    """The file system would free a long one at once, which holds up the server's writes."""
    process = started(runs, data_dir)
    (path,) = (data_dir / "appendonlydir").glob("*.incr.aof")
    if copied:
        os.link(path, tmp_path / "copy")
    with client(data_dir) as embedded, path.open("rb") as file:
        embedded.set("image", b"a" * 40_000_000)
        wait_until(lambda: _has_open(process, path), "the file is kept open")
        length = os.fstat(file.fileno()).st_size
        embedded.bgrewriteaof()
        wait_until(lambda: not path.exists() and not _has_open(process, path), "the file is released")
        assert length > 40_000_000
        assert os.fstat(file.fileno()).st_size == (length if copied else 0)


def _has_open(process: Process, path: Path) -> bool:
    return any(str(link.resolve()).startswith(str(path)) for link in Path(f"/proc/{process.pid}/fd").iterdir())


def test_nobody_else_reads_the_images(runs: Processes, data_dir: Path) -> None:
    """All files are their owner's, those of an earlier version too, and so are the folders."""
    (data_dir / "appendonlydir").mkdir(parents=True, mode=0o755)
    (data_dir / "valkey.log").touch(mode=0o644)
    data_dir.chmod(0o755)
    started(runs, data_dir)
    with client(data_dir) as embedded:
        embedded.set("image", b"a" * 100_000)
        embedded.bgrewriteaof()
        wait_until(lambda: not embedded.info("persistence")["aof_rewrite_in_progress"], "the file is rewritten")
    paths = [data_dir, *data_dir.rglob("*")]
    assert len(paths) > 5
    assert {str(path.relative_to(data_dir)): oct(path.stat().st_mode & 0o077) for path in paths} == {
        str(path.relative_to(data_dir)): "0o0" for path in paths
    }
