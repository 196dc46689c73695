"""The commands of `python -m results`, each from its arguments to its exit status. Parses none of them."""

import argparse
import json
import shutil
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from results.dead_letters import AllLetters, DeadLetter, NotReplayable, newest
from results.formatting import letter_document, letter_lines, letters_table, state_document, state_lines
from results.outcome import Done
from results.store import Store
from stream.cli import FAILED, NOT_FOUND, OK
from stream.connection.clients import Connections
from stream.entry import Entry, MalformedEntry
from stream.keys import Partition
from stream.presence import Presence
from stream.request_id import partition_of


@dataclass(frozen=True, slots=True)
class Desk:
    """What a command works with: a model's partitions, the arguments, and how long a replayed request lives."""

    connections: Connections
    partitions: list[Partition]
    given: argparse.Namespace
    request_ttl_s: float

    @property
    def letters(self) -> AllLetters:
        return AllLetters(self.connections, self.partitions)

    def of(self, request_id: str) -> Partition:
        """Where the request was sent to; the first where there is no such partition, and nobody knows it."""
        number = partition_of(request_id)
        return self.partitions[number if number < len(self.partitions) else 0]


Command = Callable[[Desk], Awaitable[int]]


async def get(desk: Desk) -> int:
    """Where one request stands; NOT_FOUND where nobody knows it (any more)."""
    partition = desk.of(desk.given.id)
    redis = desk.connections.of(partition)
    try:
        state = await Store(redis, partition).state(desk.given.id)
    except ValueError as error:
        return _complain(f"the result of {desk.given.id} cannot be read: {error}", FAILED)
    labels: Sequence[str] = ()
    if isinstance(state, Done):
        versions = await Presence(redis, partition).versions()
        labels = versions[state.version].labels if state.version in versions else ()
    _print(desk, state_document(desk.given.id, state, labels), state_lines(desk.given.id, state, labels))
    return NOT_FOUND if state == "unknown" else OK


async def list_dead(desk: Desk) -> int:
    """A table of all dead letters, cut to the terminal, or in full where the output goes elsewhere."""
    letters = await desk.letters.all()
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    lines = letters_table(letters, width=width) if letters else ["No dead letters."]
    _print(desk, [letter_document(letter) for letter in letters], lines)
    return OK


async def show_dead(desk: Desk) -> int:
    """All of one dead letter but its pixels, which go into a file on demand."""
    letter = newest(await desk.letters.all(), desk.given.id)
    if letter is None:
        return _missing(desk.given.id)
    _print(desk, letter_document(letter), letter_lines(letter))
    return OK if desk.given.image is None else await _save(desk, letter, desk.given.image)


async def _save(desk: Desk, letter: DeadLetter, path: Path) -> int:
    try:
        entry = await desk.letters.of(letter).image(letter)
        if entry is None:
            return _missing(letter.id)
        _write_image(entry, path)
    except (MalformedEntry, OSError) as error:
        return _complain(f"no image of {letter.id}: {error}", FAILED)
    return OK


def _write_image(entry: Entry, path: Path) -> None:
    # PPM: three numbers and the pixels as they are. Viewers and Pillow read it, and writing it needs neither.
    path.write_bytes(b"P6 %d %d 255\n" % (entry.width, entry.height) + entry.pixels)


async def replay_dead(desk: Desk) -> int:
    """Put the named dead letters, or all, back in front of the consumers."""

    async def replay(letter: DeadLetter) -> bool:
        return await desk.letters.of(letter).replay(letter, request_ttl_s=desk.request_ttl_s)

    return await _each(desk, replay, "replayed")


async def drop_dead(desk: Desk) -> int:
    """Delete the named dead letters for good."""

    async def drop(letter: DeadLetter) -> bool:
        return await desk.letters.of(letter).drop(letter)

    return await _each(desk, drop, "dropped")


async def _each(desk: Desk, do: Callable[[DeadLetter], Awaitable[bool]], done: str) -> int:
    """Do it to each that was named; says at once what is done, since an error of Redis may end it halfway."""
    letters = await desk.letters.all()
    status = OK
    for reference in [letter.id for letter in letters] if desk.given.all else desk.given.ids:
        letter = newest(letters, reference)
        try:
            if letter is None or not await do(letter):
                status = _missing(reference)
                continue
        except NotReplayable as error:
            status = _complain(str(error), NOT_FOUND)
            continue
        document = {"id": letter.id, "request_id": letter.request_id or None, "action": done}
        _print(desk, document, [f"{done} {letter.id}  request {letter.request_id or '-'}"])
    return status


def _print(desk: Desk, document: Any, lines: Sequence[str]) -> None:  # noqa: ANN401 (whatever JSON can hold)
    text = json.dumps(document) if desk.given.json else "\n".join(lines)
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _missing(reference: str) -> int:
    return _complain(f"there is no dead letter {reference}", NOT_FOUND)


def _complain(message: str, status: int) -> int:
    sys.stderr.write(f"python -m results: {message}\n")
    return status
