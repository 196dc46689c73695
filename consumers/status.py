"""`python -m consumers status`: shows the consumers of a model, what they hold, and what waits for them.

It reads Redis only: it loads no model and changes nothing.
"""

import argparse
import asyncio
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace

from redis.exceptions import RedisError

from stream import model_command as console
from stream import server_check
from stream.cli import NOT_FOUND, OK, program, start_consumer
from stream.connection.clients import Connections
from stream.presence import partition_counts
from stream.settings import QueueSettings
from stream.status.formatting import document, lines
from stream.status.reader import read_model
from stream.status.report import Status

_EPILOG = """exit status: 0 healthy; 1 degraded: no consumer is alive, the model is unloaded, the backlog is too old, a
dead consumer holds entries, or something is wrong with the server; 2 for wrong usage, or if Redis is unavailable. All
other settings come from the environment (SLUICE_...)."""

_INTERVAL_S = 1.0

#: ANSI (ECMA-48): cursor home; erase the rest of the line; erase the rest of the screen.
_HOME, _REST_OF_LINE, _REST_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"


def main(arguments: Sequence[str]) -> int:
    given = _parser().parse_args(arguments)
    settings = console.settings(_program(), given, served=True)
    # Half of the deadline: late enough to be no coincidence, early enough to act before clients give up.
    max_age_s = settings.request_timeout_s / 2 if given.max_age_s is None else given.max_age_s

    async def work(connections: Connections) -> int:
        watch = Watch(connections, settings, max_age_s=max_age_s, as_json=given.json)
        return await (watch.run() if given.watch else watch.once())

    try:
        return console.run(_program(), settings, work)
    except KeyboardInterrupt:
        return OK


def _program() -> str:
    return program("consumers status")


def _parser() -> argparse.ArgumentParser:
    about = "The consumers of a model, what they hold, and what waits for them."
    parser = argparse.ArgumentParser(
        _program(),
        parents=[console.options("name of the model; needed only if there are several")],
        description=about,
        epilog=_EPILOG,
    )
    parser.add_argument("--watch", action="store_true", help="read again every second, until Ctrl-C")
    parser.add_argument(
        "--max-age-s",
        type=float,
        metavar="SECONDS",
        help="a backlog whose oldest entry is older counts as degraded. Default: half of request_timeout_s",
    )
    return parser


class Watch:
    """Prints the status of a model, once or every second."""

    def __init__(self, connections: Connections, settings: QueueSettings, *, max_age_s: float, as_json: bool) -> None:
        self._connections = connections
        self._settings = settings
        self._max_age_s = max_age_s
        self._as_json = as_json
        self._before: Status | None = None

    async def once(self) -> int:
        """Print the status; returns NOT_FOUND if it is degraded."""
        status, text = await self._read()
        sys.stdout.write(text + "\n")
        return NOT_FOUND if status.problems(max_age_s=self._max_age_s) else OK

    async def run(self) -> int:
        """Print the status every second, in place on a terminal; outages of Redis do not end it."""
        in_place = sys.stdout.isatty() and not self._as_json
        while True:
            try:
                _, text = await self._read()
            except (RedisError, console.NoSuchModel) as error:
                text = json.dumps({"error": str(error)}) if self._as_json else console.explain(error, self._settings)
            sys.stdout.write(_replacing(text) if in_place else text + "\n")
            sys.stdout.flush()
            await asyncio.sleep(_INTERVAL_S)

    async def _read(self) -> tuple[Status, str]:
        partitions = await console.choose(self._connections, self._settings.model)
        found = await read_model(self._connections, partitions[0].model, len(partitions))
        start = start_consumer(self._settings, found.model)
        status = replace(await self._with_server(found), start=start)
        rate = None if self._before is None else completed_per_s(self._before, status)
        self._before = status
        if self._as_json:
            return status, json.dumps(document(status, max_age_s=self._max_age_s))
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        shown = lines(status, max_age_s=self._max_age_s, completed_per_s=rate, width=width)
        return status, "\n".join([*shown, *await self._others(status.model)])

    async def _others(self, model: str) -> list[str]:
        """A line, if this server knows other models, which `sluice status` would otherwise never mention."""
        others = sorted((await partition_counts(self._connections.shared)).keys() - {model})
        return ["", f"other models of this server: {', '.join(others)} (see one with --model NAME)"] if others else []

    async def _with_server(self, status: Status) -> Status:
        """With what is wrong with the server, or may be."""
        facts = await server_check.read_facts(self._connections.shared)
        durability = self._settings.durability
        return replace(
            status,
            refused_writes=await server_check.refused_writes(self._connections.shared),
            server_problems=tuple(server_check.problems(facts, durability)),
            server_doubts=tuple(server_check.doubts(facts, durability)),
        )


def completed_per_s(before: Status, now: Status) -> float | None:
    """Entries completed in a second between two readings; None if the counter went back, since the data is new."""
    done = now.counters.get("completed", 0) - before.counters.get("completed", 0)
    seconds = (now.now_ms - before.now_ms) / 1000
    return done / seconds if done >= 0 and seconds > 0 else None


def _replacing(text: str) -> str:
    """Text that overwrites the screen without flicker: each line is written before its old rest is erased."""
    return _HOME + "".join(f"{line}{_REST_OF_LINE}\n" for line in text.split("\n")) + _REST_OF_SCREEN


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
