"""A process that is started by hand next to `sluice serve` learns where that service has its server."""

from pathlib import Path

import pytest

from stream.embedded.run_file import RunFile, missed_service
from stream.model_command import options, settings
from stream.settings import RedisSettings


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.delenv("SLUICE_REDIS_URL", raising=False)
    for port in ("5000", "5001"):
        Path(".sluice", port).mkdir(parents=True)
        Path(".sluice", port, "valkey.sock").touch()
    return tmp_path


def test_the_one_service_that_runs_is_named() -> None:
    """Unless the process has joined it or has a Redis of its own."""
    with RunFile(Path(".sluice/5000/serve.json")).held(port=5000, model="flowers"):
        assert missed_service(RedisSettings()) == Path(".sluice/5000")
        assert missed_service(RedisSettings(data_dir=Path(".sluice/5000"))) is None
        assert missed_service(RedisSettings(redis_url="redis://127.0.0.1:1")) is None
    assert missed_service(RedisSettings()) is None


def test_a_service_whose_server_starts_is_not_sent_to_another() -> None:
    """It warned its own consumer that the server of another run was the right one."""
    Path(".sluice/5001/valkey.sock").unlink()
    starting = RedisSettings(data_dir=Path(".sluice/5001"))
    with RunFile(Path(".sluice/5000/serve.json")).held(port=5000, model="flowers"):
        assert missed_service(starting) == Path(".sluice/5000")
        with RunFile(Path(".sluice/5001/serve.json")).held(port=5001, model="birds"):
            assert missed_service(starting) is None


def test_no_service_is_guessed() -> None:
    """Of two services, none is recommended; nor is one whose server is elsewhere."""
    with RunFile(Path(".sluice/5000/serve.json")).held(port=5000, model="flowers"):
        with RunFile(Path(".sluice/5001/serve.json")).held(port=5001, model="birds"):
            assert missed_service(RedisSettings()) is None
        Path(".sluice/5000/valkey.sock").unlink()
        assert missed_service(RedisSettings()) is None


def test_a_status_command_means_the_model_of_the_run(folder: Path) -> None:
    """Also if its folder is named. Commands about several models mean all of them."""
    given = options("a name").parse_args([])
    with RunFile(Path(".sluice/5000/serve.json")).held(port=5000, model="flowers"):
        for given.data_dir in (None, ".sluice/5000"):
            found = settings("status", given, served=True)
            assert (found.model, found.data_dir) == ("flowers", Path(".sluice/5000"))
            assert settings("results", given).model == ""
        given.model = "roses"
        assert settings("status", given, served=True).model == "roses"
