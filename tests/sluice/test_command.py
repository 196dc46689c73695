"""The command `sluice`: its subcommands, and what it says to a wrong one."""

import pytest

from sluice.command import main
from stream.host.packages import own_version


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
