"""A variable that no setting has is reported once, with the nearest name."""

import re
from pathlib import Path

import pytest

from consumers.status import main
from stream.settings.variables import OTHER_VARIABLES, all_fields, unknown_variables
from tests.support.processes import ROOT
from tests.support.redis.servers import Server


def test_a_misspelt_variable_is_reported_with_the_nearest_name() -> None:
    """In any case; settings, other variables of Sluice and those of other programs are not."""
    given = {"SLUICE_MAXIMAGES": "3", "sluice_port": "1", "SLUICE_API_KEY": "x", "PATH": "/bin", "SLUICE_ZZ": "1"}
    assert unknown_variables(given) == {
        "SLUICE_MAXIMAGES": "did you mean SLUICE_MAX_IMAGES?",
        "SLUICE_ZZ": "unset it",
    }


def test_variables_that_kubernetes_sets_for_a_service_are_not_reported() -> None:
    """Of a service named `sluice-web`."""
    beginning = "SLUICE_WEB_"
    given = {beginning + end: "x" for end in ("SERVICE_HOST", "SERVICE_PORT", "PORT", "PORT_80_TCP_ADDR")}
    assert unknown_variables(given) == {}
    assert list(unknown_variables({"SLUICE_WEB_PORT": "1"})) == ["SLUICE_WEB_PORT"]


@pytest.mark.parametrize("folder", ["consumers", "export", "ingest", "results", "sluice", "stream"])
def test_every_variable_that_the_code_reads_is_known(folder: str) -> None:
    """A setting, or in the list of other variables."""
    code = "".join(path.read_text() for path in Path(ROOT, folder).rglob("*.py"))
    read = set(re.findall(r'"(SLUICE_[A-Z_]*[A-Z])"', code))
    assert read <= OTHER_VARIABLES | {f"SLUICE_{name.upper()}" for name in all_fields()}


def test_a_command_about_a_model_reports_them(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On standard error, so that JSON stays whole."""
    monkeypatch.setenv("SLUICE_REDIS_ULR", "x")
    main(["--redis-url", server.url, "--json"])
    assert "SLUICE_REDIS_ULR is no setting and has no effect: did you mean SLUICE_REDIS_URL?" in capsys.readouterr().err
