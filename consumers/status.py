"""`python -m consumers status`: the group at a glance. Looks from outside; loads no model and changes nothing."""

import argparse
import asyncio
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace

from redis.exceptions import RedisError

from consumers.overview import document, lines
from stream import cli as console
from stream import eviction
from stream.connection.clients import Connections
from stream.settings import Settings
from stream.status import Status, read_model

PROGRAM = "python -m consumers status"

_EPILOG = """exit status: 0 healthy; 1 degraded: no consumer is alive, the backlog is too old, a dead consumer holds
entries, or Redis evicts keys when it is full; 2 for wrong usage, or where Redis is away. All other settings come from
the environment (SLUICE_...)."""

_INTERVAL_S = 1.0

#: ANSI (ECMA-48): cursor home; erase the rest of the line; erase the rest of the screen.
_HOME, _REST_OF_LINE, _REST_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"


def main(arguments: Sequence[str]) -> int:
    given = _parser().parse_args(arguments)
    settings = console.settings(PROGRAM, given)
    # Half of the deadline: late enough to be no accident, early enough to act before clients give up.
    max_age_s = settings.request_timeout_s / 2 if given.max_age_s is None else given.max_age_s

    async def work(connections: Connections) -> int:
        watch = Watch(connections, settings, max_age_s=max_age_s, as_json=given.json)
        return await (watch.run() if given.watch else watch.once())

    try:
        return console.run(PROGRAM, settings, work)
    except KeyboardInterrupt:
        return console.OK


def _parser() -> argparse.ArgumentParser:
    about = "The consumers of a model, what they hold, and what waits for them."
    parser = argparse.ArgumentParser(PROGRAM, parents=[console.options()], description=about, epilog=_EPILOG)
    parser.add_argument("--watch", action="store_true", help="look again every second, until Ctrl-C")
    parser.add_argument(
        "--max-age-s",
        type=float,
        metavar="SECONDS",
        help="a backlog whose oldest entry is older counts as degraded. Default: half of request_timeout_s",
    )
    return parser


class Watch:
    """Looks at one partition, once or again and again."""

    def __init__(self, connections: Connections, settings: Settings, *, max_age_s: float, as_json: bool) -> None:
        self._connections = connections
        self._model = settings.model
        self._max_age_s = max_age_s
        self._as_json = as_json
        self._before: Status | None = None

    async def once(self) -> int:
        """Print the status; returns NOT_FOUND where it is degraded."""
        status, text = await self._look()
        sys.stdout.write(text + "\n")
        return console.NOT_FOUND if status.problems(max_age_s=self._max_age_s) else console.OK

    async def run(self) -> int:
        """Print the status every second, in place where that is a terminal, and outlive outages of Redis."""
        in_place = sys.stdout.isatty() and not self._as_json
        while True:
            try:
                _, text = await self._look()
            except (RedisError, console.NoSuchModel) as error:
                text = json.dumps({"error": str(error)}) if self._as_json else console.explain(error)
            sys.stdout.write(_replacing(text) if in_place else text + "\n")
            sys.stdout.flush()
            await asyncio.sleep(_INTERVAL_S)

    async def _look(self) -> tuple[Status, str]:
        partitions = await console.choose(self._connections, self._model)
        found = await read_model(self._connections, partitions[0].model, len(partitions))
        status = replace(found, evicts=await eviction.policy(self._connections.shared))
        rate = None if self._before is None else completed_per_s(self._before, status)
        self._before = status
        if self._as_json:
            return status, json.dumps(document(status, max_age_s=self._max_age_s))
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        return status, "\n".join(lines(status, max_age_s=self._max_age_s, completed_per_s=rate, width=width))


def completed_per_s(before: Status, now: Status) -> float | None:
    """Entries completed in a second between two looks; None where the counter went back: the data is new."""
    done = now.counters.get("completed", 0) - before.counters.get("completed", 0)
    seconds = (now.now_ms - before.now_ms) / 1000
    return done / seconds if done >= 0 and seconds > 0 else None


def _replacing(text: str) -> str:
    """Text that overwrites the screen without flicker: nothing is erased before its replacement is there."""
    return _HOME + "".join(f"{line}{_REST_OF_LINE}\n" for line in text.split("\n")) + _REST_OF_SCREEN


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
