"""The command `sluice`: its subcommands, and what it says to a wrong one."""

import shlex
import subprocess

import pytest

from sluice.command import main
from sluice.serve import _parse
from stream.host.packages import own_version
from tests.support.processes import ROOT


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    """`sluice --help` succeeds; `sluice` alone shows the same and fails."""
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert main([]) == 2
    assert capsys.readouterr().out == shown
    assert all(f"sluice {command}" in shown for command in ("serve", "export", "classify", "status", "results"))


def test_the_version_is_that_of_the_api(capsys: pytest.CaptureFixture[str]) -> None:
    """What is installed, as the metadata of the Open Inference Protocol name it."""
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"sluice {own_version()}\n"


def test_an_unknown_command_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """One line on stderr, with the nearest command if one is near, and status 2."""
    for typed, said in (("server", "'server': did you mean serve?"), ("x", "'x';")):
        assert main([typed]) == 2
        assert capsys.readouterr().err == f"sluice: there is no command {said} `sluice --help` lists them\n"


@pytest.mark.parametrize("command", ["serve", "export", "classify", "status", "results"])
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Arguments reach the package that does the work."""
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert "usage:" in capsys.readouterr().out


def test_make_passes_a_model_and_its_labels() -> None:
    """`make run MODEL=... LABELS=...` names the model first; what only the export knows follows, in any number."""
    variables = ["MODEL=my flowers.keras", "LABELS=flowers.txt", "EXPORT=--preprocess unit"]
    shown = subprocess.run(["make", "-n", "run", *variables], check=True, cwd=ROOT, capture_output=True, text=True)
    command = next(line for line in shown.stdout.splitlines() if "sluice serve" in line)
    options = _parse(shlex.split(command.partition("sluice serve ")[2]))
    assert (options.model, options.port, options.consumers) == ("my flowers.keras", 5000, 1)
    assert options.export == ("--labels", "flowers.txt", "--preprocess", "unit")


def test_a_model_behind_options_of_the_export_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """Its place tells it from the value of an option."""
    with pytest.raises(SystemExit) as ended:
        _parse(["--labels", "flowers.txt", "flowers.keras"])
    assert ended.value.code == 2
    assert "MODEL comes first" in capsys.readouterr().err
