"""The processes of one system: started together, their CPU time summed, ended together. Linux (/proc)."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent

TICKS_PER_S = os.sysconf("SC_CLK_TCK")

#: The kind of a process that another one started as its helper: an ingest's worker.
WORKER = "worker"

#: Time to end in order, after SIGTERM.
_GRACE_S = 15.0


class Processes:
    """Processes and all that they start; the log of all is one file."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self._roots: list[subprocess.Popen[bytes]] = []

    def start(self, command: list[str], environment: Mapping[str, str]) -> None:
        with self.log.open("ab") as log:
            self._roots.append(
                subprocess.Popen(
                    command,
                    env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
                    cwd=ROOT,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            )

    @property
    def running(self) -> bool:
        return all(root.poll() is None for root in self._roots)

    def cpu_s(self) -> float:
        """CPU seconds, user and system, of all of them so far, those of ended children included."""
        return sum(_cpu_ticks(pid) for pid in self.pids()) / TICKS_PER_S

    def cpu_s_by_kind(self) -> dict[str, float]:
        """CPU seconds so far of the processes of each kind that run now."""
        found: dict[str, float] = {}
        for pid in self.pids():
            kind = _kind(pid)
            found[kind] = found.get(kind, 0.0) + _cpu_ticks(pid) / TICKS_PER_S
        return found

    def resident_by_kind(self) -> dict[str, int]:
        """Resident bytes of the largest process of each kind."""
        found: dict[str, int] = {}
        for pid in self.pids():
            kind = _kind(pid)
            found[kind] = max(found.get(kind, 0), _resident_pages(pid) * os.sysconf("SC_PAGE_SIZE"))
        return found

    def pids(self) -> list[int]:
        """The roots and all their descendants."""
        children: dict[int, list[int]] = {}
        for pid, parent in _parents():
            children.setdefault(parent, []).append(pid)
        found = [root.pid for root in self._roots]
        for pid in found:
            found += children.get(pid, [])
        return found

    def settle(self, *, timeout_s: float = 10.0) -> None:
        """Wait until they rest: what a stopped load left in their queues is worked off."""
        deadline = time.monotonic() + timeout_s
        before = self.cpu_s()
        while time.monotonic() < deadline:
            time.sleep(0.15)
            now = self.cpu_s()
            if now - before < 0.03:
                return
            before = now

    def pause(self) -> None:
        """SIGSTOP: they use no CPU until `resume`."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        for pid in self.pids():
            _send(pid, number)

    def stop(self) -> None:
        """SIGTERM, the last started first; what is left after the grace is killed."""
        self.resume()
        pids = self.pids()
        for root in reversed(self._roots):
            root.terminate()
            try:
                root.wait(_GRACE_S)
            except subprocess.TimeoutExpired:
                root.kill()
                root.wait()
        left = {pid for pid, _ in _parents()}.intersection(pids)
        for pid in left:
            _send(pid, signal.SIGKILL)
        self._roots.clear()


def _send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _stat(pid: int) -> list[str]:
    """The fields of /proc/<pid>/stat from the third on (proc_pid_stat(5)): state, parent... Empty where it ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _parents() -> Iterator[tuple[int, int]]:
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal() and (fields := _stat(int(folder.name))):
            yield int(folder.name), int(fields[1])


def _cpu_ticks(pid: int) -> int:
    # utime, stime, and those of children that were waited for: fields 14 to 17.
    return sum(int(value) for value in _stat(pid)[11:15])


def _resident_pages(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[21]) if fields else 0


def _kind(pid: int) -> str:
    """The program, or the module or the script where that is Python."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return "ended"
    if "-m" in words:
        return words[words.index("-m") + 1]
    if "-c" in words:
        return WORKER  # multiprocessing starts its processes with -c.
    # Valkey writes its address behind its name, into the same word.
    program = Path(words[0].partition(" ")[0]).name
    return Path(words[1]).name if program.startswith("python") else program
