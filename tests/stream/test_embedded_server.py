"""The embedded server: its folder, its socket, what it finds of an earlier run."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from stream.host.private_folder import UnusableFolder, check_private, make_private, socket_path
from tests.support.processes import Processes
from tests.support.redis.embedded import answers, client, started
from tests.support.waiting import wait_until


def test_data_outlives_an_orderly_end(runs: Processes, data_dir: Path) -> None:
    """SIGTERM ends the server with its wrapper; the next run finds what was written."""
    first = started(runs, data_dir)
    client(data_dir).set("kept", "yes")
    assert first.stop() == 0
    assert not answers(data_dir)
    started(runs, data_dir)
    assert client(data_dir).get("kept") == b"yes"


def test_the_server_of_a_killed_run_is_replaced(runs: Processes, data_dir: Path) -> None:
    """SIGKILL of the wrapper leaves the server behind; the next run ends it, keeps its data, and serves."""
    first = started(runs, data_dir)
    leftover = int(client(data_dir).info("server")["process_id"])
    client(data_dir).set("kept", "yes")
    first.kill()
    assert answers(data_dir)
    runs.start("stream", data_dir=data_dir)
    wait_until(lambda: not _exists(leftover), "the leftover server has ended")
    wait_until(lambda: answers(data_dir), "the new server answers")
    assert client(data_dir).get("kept") == b"yes"
    assert int(client(data_dir).info("server")["process_id"]) != leftover


def test_two_runs_do_not_share_a_folder(runs: Processes, data_dir: Path) -> None:
    """The second reports it, and the first is not disturbed."""
    started(runs, data_dir)
    second = runs.start("stream", data_dir=data_dir)
    assert second.wait() == 2
    assert "in use by another run" in second.text
    assert answers(data_dir)


def test_two_folders_are_two_servers(runs: Processes, tmp_path: Path) -> None:
    """Two runs on one machine do not collide."""
    for name in ("one", "two"):
        started(runs, tmp_path / name)
        client(tmp_path / name).set("who", name)
    assert client(tmp_path / "one").get("who") == b"one"


def test_a_deep_folder_still_gets_a_socket(runs: Processes, tmp_path: Path) -> None:
    """A Unix socket's path is short by law; the server moves it, and both sides agree where."""
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    assert len(str(socket_path(deep))) < 104
    started(runs, deep)


def test_the_server_is_private(runs: Processes, data_dir: Path) -> None:
    """It listens on no port, and its socket is for its owner only."""
    started(runs, data_dir)
    assert client(data_dir).config_get("port") == {"port": "0"}
    assert socket_path(data_dir).stat().st_mode & 0o077 == 0
    assert client(data_dir).config_get("appendonly") == {"appendonly": "yes"}


def test_a_server_that_dies_ends_its_wrapper(runs: Processes, data_dir: Path) -> None:
    """With the status that a shell would show; the wrapper's supervisor starts another."""
    wrapper = started(runs, data_dir)
    os.kill(int(client(data_dir).info("server")["process_id"]), signal.SIGKILL)
    assert wrapper.wait() == 137


def test_a_folder_where_others_can_put_a_socket_is_refused(runs: Processes, tmp_path: Path) -> None:
    """A process that puts a socket there could pose as our Redis: every process says so and ends with status 2."""
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o777)
    for module in ("stream", "ingest", "consumers"):
        process = runs.start(module, data_dir=folder)
        assert process.wait() == 2
        assert f"other users can write in {folder}" in process.text


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """In one line, before anything starts, by who needs a server there and by `serve`, which keeps its run there."""
    locked, file = tmp_path / "locked", tmp_path / "file"
    locked.mkdir(mode=0o500)
    file.touch()
    why = {locked: "this user may not write in it", file: "it is no folder"}
    commands = {
        "consumers": (locked, {}),
        "stream": (file, {}),
        "sluice serve": (locked, {"SLUICE_REDIS_URL": "redis://127.0.0.1:1"}),
    }
    for module, (parent, variables) in commands.items():
        folder = parent / ".sluice"
        environment = {**os.environ, **variables, "SLUICE_DATA_DIR": str(folder)}
        command = [*_without_rights_of_root(), sys.executable, "-m", *module.split()]
        done = subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True, check=False)
        assert done.returncode == 2, module
        (line,) = done.stderr.splitlines()
        assert f"cannot make {folder} in {parent}: {why[parent]}. Start this in a folder that you can write in" in line


def _without_rights_of_root() -> list[str]:
    """What root starts a program with, so that the permissions of folders count for it, too."""
    if os.getuid() != 0:
        return []
    if not shutil.which("setpriv"):
        pytest.skip("root needs setpriv (util-linux) to give up its rights")
    return ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]


def test_a_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    """Nor is a link followed that somebody put in the place of the folder."""
    folder = tmp_path / "theirs"
    folder.symlink_to(tmp_path)
    with pytest.raises(UnusableFolder, match="is no folder"):
        check_private(folder)
    own = tmp_path / "own"
    make_private(own)
    assert own.stat().st_mode & 0o777 == 0o700
    if os.getuid() == 0:
        os.chown(own, 12345, 12345)
        with pytest.raises(UnusableFolder, match=r"belongs to the user .*sudo -u"):
            check_private(own)


def _exists(pid: int) -> bool:
    # A killed server has no parent left to collect it but init; where init does not, it stays as a zombie.
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
