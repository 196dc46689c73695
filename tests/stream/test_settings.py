"""The settings: where they come from, and which combinations are refused."""

import os
import re
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field, ValidationError

from stream.cli import from_command_line
from stream.settings import ConsumerSettings, IngestSettings, RedisSettings, WebhookSettings


def test_the_option_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """`--x-y` over SLUICE_X_Y over the default."""
    monkeypatch.setenv("SLUICE_PORT", "6000")
    monkeypatch.setenv("SLUICE_MAX_BATCH", "8")
    ingest = from_command_line(IngestSettings, "python -m ingest", ["--port", "7000"])
    consumer = from_command_line(ConsumerSettings, "python -m consumers", ["--models-dir", "elsewhere"])
    assert (ingest.port, consumer.max_batch, consumer.models_dir) == (7000, 8, Path("elsewhere"))


def test_a_process_ignores_the_variables_of_others_but_refuses_their_options(monkeypatch: pytest.MonkeyPatch) -> None:
    """One environment serves all containers; an option is meant for this process."""
    monkeypatch.setenv("SLUICE_MAX_BATCH", "8")
    assert not hasattr(from_command_line(IngestSettings, "python -m ingest", []), "max_batch")
    with pytest.raises(SystemExit) as caught:
        from_command_line(IngestSettings, "python -m ingest", ["--max-batch", "8"])
    assert caught.value.code == 2


@pytest.mark.parametrize(
    ("kind", "values", "both"),
    [
        (IngestSettings, {"result_ttl_s": 10, "request_timeout_s": 30}, ("10", "30")),
        (IngestSettings, {"max_wait_s": 30, "request_timeout_s": 30}, ("30", "30")),
        (ConsumerSettings, {"inference_timeout_s": 2, "max_batch_s": 3}, ("2", "3")),
        (ConsumerSettings, {"lease_s": 1, "redis_timeout_s": 1.5}, ("1", "1.5")),
        (ConsumerSettings, {"device": 2, "provider": "cpu"}, ("2", "cpu")),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    kind: type[RedisSettings], values: dict[str, Any], both: tuple[str, str]
) -> None:
    """The message names both settings with their values."""
    with pytest.raises(ValidationError) as caught:
        kind(**values)
    message = str(caught.value)
    assert all(f"{name} ({value})" in message for name, value in zip(values, both, strict=True))


@pytest.mark.parametrize(
    "arguments", [["--metrics-port", "many"], ["--lease-s", "1"], ["--no-such-thing", "1"], ["--metrics-port"]]
)
def test_a_wrong_option_ends_with_status_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """One line for people, no traceback."""
    with pytest.raises(SystemExit) as caught:
        from_command_line(ConsumerSettings, "python -m consumers", arguments)
    assert caught.value.code == 2
    assert "python -m consumers" in capsys.readouterr().err


class Greeted(IngestSettings):
    """A text with a limit, of which there is none yet."""

    greeting: str = Field("Hello", max_length=70)


@pytest.mark.parametrize(
    ("kind", "arguments", "environment", "message"),
    [
        (IngestSettings, [], {"KEEP_ALIVE_S": "0"},
         "SLUICE_KEEP_ALIVE_S is 0: it must be a whole number (at least 1, at most 3600)"),
        (IngestSettings, ["--keep-alive-s", "0"], {"KEEP_ALIVE_S": "5"},
         "--keep-alive-s is 0: it must be a whole number (at least 1, at most 3600)"),
        (IngestSettings, [], {"MAX_PIXELS": "a\nb"},
         "SLUICE_MAX_PIXELS is 'a\\nb': it must be a whole number (at least 1)"),
        (IngestSettings, [], {"MAX_WAIT_S": "nan"},
         "SLUICE_MAX_WAIT_S is nan: it must be a number (more than 0, at most 86400)"),
        (IngestSettings, [], {"WEBHOOKS": ""}, "SLUICE_WEBHOOKS is '': it must be true or false"),
        (IngestSettings, [], {"LOG_FORMAT": "xml"}, "SLUICE_LOG_FORMAT is xml: it must be human or json"),
        (IngestSettings, [], {"MODEL": "a b"}, "SLUICE_MODEL is a b: a model name consists of letters, digits"),
        (IngestSettings, [], {"TRUSTED_PROXIES": "nginx"},
         "SLUICE_TRUSTED_PROXIES: 'nginx' does not appear to be an IPv4 or IPv6 network"),
        (IngestSettings, [], {"REDIS_URL": "redis://:hunter2@h:abc/0"},
         "SLUICE_REDIS_URL: the URL names no host:port"),
        (WebhookSettings, [], {"WEBHOOK_SECRET": "hunter2"}, "SLUICE_WEBHOOK_SECRET: secret 1 must be whsec_ and "),
        (WebhookSettings, ["--webhook-retries-s", "5,x"], {}, "--webhook-retries-s is 5,x: x is no number of seconds"),
        (ConsumerSettings, ["--device", "-1"], {},
         "--device is -1: it must be auto or a whole number (at least 0, at most 1023)"),
        (Greeted, ["--greeting", "x" * 71], {},
         f"--greeting is {'x' * 60}...: the string should have at most 70 characters"),
    ],
)  # fmt: skip
def test_a_wrong_setting_has_one_line(
    kind: type[RedisSettings],
    arguments: list[str],
    environment: dict[str, str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With its name where it was set, its value and what it may be, in words for people. No secret is shown."""
    for name, value in environment.items():
        monkeypatch.setenv(f"SLUICE_{name}", value)
    with pytest.raises(SystemExit):
        from_command_line(kind, "program", arguments)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"program: {message}")
    assert "hunter2" not in line


@pytest.mark.parametrize(
    ("origins", "fine"),
    [
        ("", True),
        ("*", True),
        ("https://a.example, http://localhost:3000,http://[::1]:1", True),
        ("x", False),
        ("https://a.example/", False),
        ("https://A.example", False),
        ("https://a.example,b.example", False),
    ],
)
def test_origins_are_as_browsers_send_them(origins: str, fine: bool) -> None:
    """Any other would match no page and say nothing."""
    with nullcontext() if fine else pytest.raises(ValidationError):
        assert IngestSettings(cors_origins=origins).cors_origins == origins


def test_no_process_starts_with_a_wrong_url(tmp_path: Path) -> None:
    """Each says so in one line and ends with status 2, after a line on the variable that is misspelt."""
    environment = {**os.environ, "SLUICE_REDIS_URL": "redis://h:abc/0", "SLUICE_REDIS_ULR": "x", "SLUICE_WORKERS": "2"}
    programs = ["ingest", "ingest.health", "ingest.webhooks", "consumers", "results get x", "sluice serve"]
    started = {
        program: subprocess.Popen(
            [sys.executable, "-m", *program.split()], cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True
        )
        for program in programs
    }
    for program, process in started.items():
        with process:
            _, error = process.communicate(timeout=60)
        assert process.returncode == 2, program
        misspelt, wrong = error.splitlines()
        assert "SLUICE_REDIS_ULR is no setting and has no effect: did you mean SLUICE_REDIS_URL?" in misspelt
        assert "SLUICE_REDIS_URL: the URL names no host:port" in wrong


@pytest.mark.parametrize("name", ["../etc", "a b", "{x}", "-x", "x" * 101])
def test_a_model_s_name_must_fit_a_key_and_a_path(name: str) -> None:
    """It stands in Redis keys, URLs and folders."""
    with pytest.raises(ValidationError):
        IngestSettings(model=name)


@pytest.mark.parametrize(
    ("proxies", "fine"),
    [("", True), ("*", True), ("10.0.0.1, fd00::/8", True), ("nginx", False), ("10.0.0.1/8", False), ("::1,*", False)],
)
def test_trusted_proxies_are_addresses_and_networks(proxies: str, fine: bool) -> None:
    """A name, or a network with bits of a host, would match nobody and say nothing."""
    with nullcontext() if fine else pytest.raises(ValidationError):
        assert IngestSettings(trusted_proxies=proxies).trusted_proxies == proxies


def test_settings_do_not_change() -> None:
    """Other values need a new process."""
    with pytest.raises(ValidationError):
        IngestSettings().port = 1  # type: ignore[misc]


def test_help_shows_each_value_by_a_word_and_defaults_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    """No name of a Python type, no empty default, no Python spelling of true and false."""
    for kind in (IngestSettings, ConsumerSettings, WebhookSettings):
        with pytest.raises(SystemExit):
            from_command_line(kind, "python -m program", ["--help"])
        shown = " ".join(capsys.readouterr().out.split())
        assert not re.findall(r"\(default: ?\)|\b(?:str|int|float|bool|Path)\b|default: (?:True|False)", shown)
        assert "--redis-timeout-s SECONDS longest wait" in shown
        assert "counts as unavailable (default: 1.5)" in shown
