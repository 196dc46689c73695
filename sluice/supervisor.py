"""Keeps the processes of one service running: starts them, restarts what crashes, stops them in order.

A process ends in one of three ways:

    status 0 after a stop    the end of a drain
    status 2                 the settings can never work; the supervisor stops everything and returns 2
    status 1                 perhaps a package cannot be imported, which ends as status 2 does; else a crash
    any other status         a crash; the supervisor starts the program again after a delay
"""

import asyncio
import ctypes
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from stream.host.packages import refuse_packages

#: Exit status of a program that its settings keep from ever working.
MISCONFIGURED: Final = 2

#: Exit status after an exception that nothing caught.
_UNCAUGHT: Final = 1

#: Delays before a restart, in seconds. The last one repeats.
_RESTART_DELAYS_S: Final = (0.0, 0.5, 1.0, 2.0, 5.0)

#: A program that ran this long has started well; its next crash counts as its first.
_STABLE_AFTER_S: Final = 30.0

#: PR_SET_PDEATHSIG of Linux's prctl(2): the signal that a child gets when its parent dies.
_PR_SET_PDEATHSIG: Final = 1


@dataclass(frozen=True, slots=True)
class Program:
    """One process to keep running. `stop_s`: how long it may drain after SIGTERM before SIGKILL.

    `modules` are those that it imports.
    """

    name: str
    command: tuple[str, ...]
    stop_s: float
    modules: tuple[str, ...] = ()


class Supervisor:
    """Runs programs until `stop` is called or one of them cannot work as configured.

    The programs start together and stop in reverse order, each after the one behind it has ended.
    """

    def __init__(
        self, programs: Sequence[Program], environment: Mapping[str, str], report: Callable[[str], None]
    ) -> None:
        self._programs = programs
        self._environment = environment
        self._report = report
        self._stopping = asyncio.Event()
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._status = 0

    @property
    def stopping(self) -> bool:
        return self._stopping.is_set()

    def stop(self) -> None:
        self._stopping.set()

    async def run(self) -> int:
        """The exit status: 0 after `stop`, 2 if a program ended with status 2."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.stop)
        tasks = [asyncio.create_task(self._keep(program)) for program in self._programs]
        await self._stopping.wait()
        for program, task in zip(reversed(self._programs), reversed(tasks), strict=True):
            await self._end(program, task)
        return self._status

    async def _keep(self, program: Program) -> None:
        crashes = 0
        while not self.stopping:
            started = time.monotonic()
            status = await self._run_once(program)
            if self.stopping:
                return
            if status == _UNCAUGHT and crashes == 0 and (why := await asyncio.to_thread(_cannot_import, program)):
                self._report(f"{program.name} cannot start: {why}")
                status = MISCONFIGURED
            if status == MISCONFIGURED:
                self._status = MISCONFIGURED
                self.stop()
                return
            crashes = 0 if time.monotonic() - started > _STABLE_AFTER_S else crashes
            delay_s = _RESTART_DELAYS_S[min(crashes, len(_RESTART_DELAYS_S) - 1)]
            crashes += 1
            self._report(f"{program.name} ended ({_describe(status)}); starting it again" + _after(delay_s))
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), delay_s)

    async def _run_once(self, program: Program) -> int:
        # A session of its own: Ctrl-C in the terminal reaches the supervisor alone, which stops them in order.
        process = await asyncio.create_subprocess_exec(
            *program.command, env=dict(self._environment), start_new_session=True, preexec_fn=_die_with_parent
        )
        self._processes[program.name] = process
        return await process.wait()

    async def _end(self, program: Program, task: asyncio.Task[None]) -> None:
        process = self._processes.get(program.name)
        if process is not None and process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), program.stop_s)
            except TimeoutError:
                self._report(f"{program.name} did not stop within {program.stop_s:g} s; killing it")
                process.kill()
                await process.wait()
        await task


def _cannot_import(program: Program) -> str:
    """Why a module of the program cannot be imported, and what to install; empty if all can."""
    return refuse_packages(program.modules, "run") if program.modules else ""


def _die_with_parent() -> None:
    """Ask the kernel for SIGTERM when the supervisor dies, even by SIGKILL; Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _describe(status: int) -> str:
    return f"killed by {signal.Signals(-status).name}" if status < 0 else f"status {status}"


def _after(delay_s: float) -> str:
    return f" in {delay_s:g} s" if delay_s else ""
