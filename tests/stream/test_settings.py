"""The settings: where they come from, and which combinations are refused."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from stream.settings import Settings, from_command_line


def test_the_option_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """`--x-y` over SLUICE_X_Y over the default."""
    monkeypatch.setenv("SLUICE_PORT", "6000")
    monkeypatch.setenv("SLUICE_MAX_BATCH", "8")
    settings = from_command_line("python -m ingest", ["--port", "7000", "--models-dir", "elsewhere"])
    assert (settings.port, settings.max_batch, settings.models_dir) == (7000, 8, Path("elsewhere"))


@pytest.mark.parametrize(
    ("values", "both"),
    [
        ({"result_ttl_s": 10, "request_timeout_s": 30}, ("10", "30")),
        ({"max_wait_s": 30, "request_timeout_s": 30}, ("30", "30")),
        ({"inference_timeout_s": 2, "max_batch_s": 3}, ("2", "3")),
        ({"lease_s": 1, "redis_timeout_s": 1.5}, ("1", "1.5")),
        ({"device": 2, "provider": "cpu"}, ("2", "cpu")),
    ],
)
def test_knobs_that_contradict_each_other_are_refused(values: dict[str, Any], both: tuple[str, str]) -> None:
    """The message names both settings with their values."""
    with pytest.raises(ValidationError) as caught:
        Settings(**values)
    message = str(caught.value)
    assert all(f"{name} ({value})" in message for name, value in zip(values, both, strict=True))


@pytest.mark.parametrize("arguments", [["--port", "many"], ["--lease-s", "1"], ["--no-such-thing", "1"], ["--port"]])
def test_a_wrong_option_ends_with_status_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """One line for people, no traceback."""
    with pytest.raises(SystemExit) as caught:
        from_command_line("python -m ingest", arguments)
    assert caught.value.code == 2
    assert "python -m ingest" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["../etc", "a b", "{x}", "-x", "x" * 101])
def test_a_model_s_name_must_fit_a_key_and_a_path(name: str) -> None:
    """It stands in Redis keys, URLs and folders."""
    with pytest.raises(ValidationError):
        Settings(model=name)


@pytest.mark.parametrize(
    ("proxies", "fine"),
    [("", True), ("*", True), ("10.0.0.1, fd00::/8", True), ("nginx", False), ("10.0.0.1/8", False), ("::1,*", False)],
)
def test_trusted_proxies_are_addresses_and_networks(proxies: str, fine: bool) -> None:
    """A name, or a network with bits of a host, would match nobody and say nothing."""
    with nullcontext() if fine else pytest.raises(ValidationError):
        assert Settings(trusted_proxies=proxies).trusted_proxies == proxies


def test_settings_do_not_change() -> None:
    """A process that wants other values is started anew."""
    with pytest.raises(ValidationError):
        Settings().port = 1  # type: ignore[misc]
