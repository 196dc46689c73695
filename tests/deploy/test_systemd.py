"""The units of systemd: systemd itself accepts them, they start and stop Sluice as they should, with few rights."""

import configparser
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from sluice.serve import STOP_S, _parse
from tests.support.containers import ROOT, composed

UNIT = ROOT / "deploy/systemd/sluice.service"
UNITS = sorted(UNIT.parent.glob("*.service"))


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_accepts_the_unit(path: Path, tmp_path: Path) -> None:
    """Every section, name and value; the program is in a folder that exists here."""
    for name in ("sluice", "python"):
        program = tmp_path / ".venv/bin" / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    unit = tmp_path / path.name.replace("@", "@1")
    unit.write_text(path.read_text().replace("/srv/sluice", str(tmp_path)))
    checked = _analyze("verify", "--man=no", str(unit))
    assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_accepts_the_addition_to_the_unit_of_nginx(tmp_path: Path) -> None:
    """It replaces each command of Debian's unit, of which this one has the lines that matter."""
    shutil.copytree(UNIT.parent / "nginx", tmp_path / "nginx.service.d")
    replaced = "".join(f"Exec{name}=/bin/false\n" for name in ("StartPre", "Start", "Reload", "Stop"))
    (tmp_path / "nginx.service").write_text(f"[Service]\nType=forking\nPIDFile=/run/nginx.pid\n{replaced}")
    checked = _analyze("verify", "--man=no", str(tmp_path / "nginx.service"))
    assert (checked.returncode, checked.stderr) == (0, "")
    added = _service(UNIT.parent / "nginx/sluice.conf")
    commands = {name: added[name] for name in added if name.startswith("Exec")}
    assert commands.pop("ExecStop") == "", "any command ends at once, and SIGTERM follows"
    assert all(command.startswith("/usr/sbin/nginx -p /srv/nginx ") for command in commands.values())
    assert added["KillSignal"] == composed()["nginx"]["stop_signal"]
    (waits_s,) = re.findall(r"^worker_shutdown_timeout (\d+)s;", (ROOT / "deploy/nginx/nginx.conf").read_text(), re.M)
    assert int(added["TimeoutStopSec"]) > int(waits_s)


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_rates_a_unit_as_little_exposed(path: Path) -> None:
    """Its scale ends at 100; a unit that gives up nothing but root has 87."""
    rated = _analyze("security", "--offline=true", "--no-pager", "--threshold=20", str(path))
    assert rated.returncode == 0, rated.stdout[-200:]


def _analyze(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["systemd-analyze", *words], capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("path", [UNIT, UNIT.with_name("sluice-consumer@.service")], ids=lambda path: path.stem)
def test_a_consumer_keeps_its_gpu_and_its_folders(path: Path) -> None:
    """These take the devices of NVIDIA from it (`ProtectClock` by its list of devices), or the code that CUDA makes."""
    service = _service(path)
    assert not {"PrivateDevices", "ProtectClock", "DevicePolicy", "DeviceAllow", "MemoryDenyWriteExecute"} & {*service}
    assert service["ReadWritePaths"] == service["WorkingDirectory"]


def test_the_unit_starts_an_exported_model_and_lets_it_drain() -> None:
    """Supervisor, ingest, consumers and queue end one after the other before systemd loses its patience."""
    service = _service(UNIT)
    program, command, *arguments = shlex.split(service["ExecStart"])
    assert (program, command) == (f"{service['WorkingDirectory']}/.venv/bin/sluice", "serve")
    assert (_parse(arguments).model, _parse(arguments).export) == ("flowers", ())
    assert service["KillMode"] == "mixed"
    assert int(service["TimeoutStopSec"]) > 3 * STOP_S
    assert service["RestartPreventExitStatus"] == "2"


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_a_unit_gives_its_process_time_to_drain(path: Path) -> None:
    """And starts it again, unless a setting is wrong."""
    service = _service(path)
    assert (service["Restart"], service["RestartPreventExitStatus"]) == ("always", "2")
    assert int(service["TimeoutStopSec"]) > STOP_S
    assert service["ExecStart"].startswith(f"{service['WorkingDirectory']}/.venv/bin/")


def _service(path: Path) -> configparser.SectionProxy:
    unit = configparser.ConfigParser(interpolation=None, strict=False)
    unit.optionxform = str  # type: ignore[method-assign, assignment]
    unit.read(path)
    return unit["Service"]
