"""The supervisor with real processes: restarts, orderly stops, and no process left behind."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

from sluice.supervisor import MISCONFIGURED, Program, Supervisor
from stream.host.packages import as_typed
from tests.support.processes import ROOT, needs_proc
from tests.support.waiting import wait_until

#: Writes its name to the file ORDER when it gets SIGTERM, and ends.
_ORDERLY = """
import os, signal, sys, threading
def stop(*_):
    with open(os.environ["ORDER"], "a") as order:
        order.write(sys.argv[1] + "\\n")
    os._exit(0)
signal.signal(signal.SIGTERM, stop)
with open(os.environ["STARTED"], "a") as started:
    started.write(sys.argv[1] + "\\n")
while True:
    signal.pause()
"""

#: Ends with the status that its argument says, after it noted that it ran.
_ENDING = """
import os, sys
with open(os.environ["STARTED"], "a") as started:
    started.write("x\\n")
sys.exit(int(sys.argv[1]))
"""


def program(name: str, script: str, *arguments: str, stop_s: float = 10.0, modules: tuple[str, ...] = ()) -> Program:
    return Program(name, (sys.executable, "-c", script, *arguments), stop_s, modules)


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "ORDER": str(folder / "order"), "STARTED": str(folder / "started")}


def lines(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


async def started(folder: Path, count: int) -> None:
    """Wait until programs have started `count` times."""
    await asyncio.to_thread(wait_until, lambda: len(lines(folder / "started")) >= count, f"{count} starts")


def test_programs_stop_in_reverse_order(tmp_path: Path) -> None:
    """What accepts work ends first; what holds the queue ends last."""
    names = ("queue", "consumer", "ingest")

    async def run() -> int:
        supervisor = Supervisor([program(name, _ORDERLY, name) for name in names], environment(tmp_path), print)
        running = asyncio.create_task(supervisor.run())
        await started(tmp_path, len(names))
        supervisor.stop()
        return await running

    assert asyncio.run(run()) == 0
    assert lines(tmp_path / "order") == ["ingest", "consumer", "queue"]


def test_a_crashed_program_is_started_again_and_reported(tmp_path: Path) -> None:
    """The report names the program and how it ended."""
    reports: list[str] = []

    async def run() -> int:
        supervisor = Supervisor([program("consumer", _ENDING, "1")], environment(tmp_path), reports.append)
        running = asyncio.create_task(supervisor.run())
        await started(tmp_path, 3)
        supervisor.stop()
        return await running

    assert asyncio.run(run()) == 0
    assert reports[0] == "consumer ended (status 1); starting it again"
    assert reports[1] == "consumer ended (status 1); starting it again in 0.5 s"


def test_settings_that_can_never_work_end_everything(tmp_path: Path) -> None:
    """Status 2 of one program stops the others and becomes the status of the run."""

    async def run() -> int:
        programs = [program("queue", _ORDERLY, "queue"), program("ingest", _ENDING, str(MISCONFIGURED))]
        return await Supervisor(programs, environment(tmp_path), print).run()

    assert asyncio.run(run()) == MISCONFIGURED
    assert len(lines(tmp_path / "started")) <= 2


def test_a_module_that_cannot_be_imported_ends_everything(tmp_path: Path) -> None:
    """To start the program again would not help. The report says what to install."""
    reports: list[str] = []
    programs = [program("ingest", _ENDING, "1", modules=("json", "absent_package"))]
    supervisor = Supervisor(programs, environment(tmp_path), reports.append)
    assert asyncio.run(supervisor.run()) == MISCONFIGURED
    install = f"Install what is needed with: {as_typed(Path(sys.executable))} -m pip install 'sluice-serving[run]'"
    assert reports == [f"ingest cannot start: No module named 'absent_package'. {install}"]
    assert len(lines(tmp_path / "started")) == 1


def test_a_program_that_does_not_drain_is_killed(tmp_path: Path) -> None:
    """After `stop_s` it gets SIGKILL, and the report says so."""
    reports: list[str] = []
    deaf = _ORDERLY.replace("signal.signal(signal.SIGTERM, stop)", "signal.signal(signal.SIGTERM, signal.SIG_IGN)")

    async def run() -> int:
        programs = [program("ingest", deaf, "ingest", stop_s=0.1)]
        supervisor = Supervisor(programs, environment(tmp_path), reports.append)
        running = asyncio.create_task(supervisor.run())
        await started(tmp_path, 1)
        supervisor.stop()
        return await running

    assert asyncio.run(run()) == 0
    assert reports == ["ingest did not stop within 0.1 s; killing it"]


@needs_proc
def test_a_killed_supervisor_leaves_no_process(tmp_path: Path) -> None:
    """The kernel sends SIGTERM to its programs, so the port and the data folder are free for the next run."""
    script = (
        "import asyncio, os, sys\n"
        "from sluice.supervisor import Program, Supervisor\n"
        f"child = Program('queue', (sys.executable, '-c', {_ORDERLY!r}, 'queue'), 1.0)\n"
        "asyncio.run(Supervisor([child], os.environ, print).run())\n"
    )
    running = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, env=environment(tmp_path))
    wait_until(lambda: lines(tmp_path / "started") == ["queue"], "the program runs")
    running.send_signal(signal.SIGKILL)
    running.wait()
    wait_until(lambda: lines(tmp_path / "order") == ["queue"], "the program has ended")
