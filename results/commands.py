"""The commands of `python -m results`, each from its parsed arguments to its exit status."""

import argparse
import json
import shutil
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from results.dead_letters import AllDeadLetters, DeadLetter, DeadLetters, NotReplayable, newest
from results.deletion import delete_ended
from results.formatting import dead_letter_document, dead_letter_lines, dead_letters_table, state_document, state_lines
from results.outcome import Done
from results.store import Store
from stream.cli import FAILED, NOT_FOUND, OK, complain, program
from stream.connection.clients import Connections
from stream.entry import Entry, MalformedEntry
from stream.keys import Partition, partition_of
from stream.presence import Presence


@dataclass(frozen=True, slots=True)
class CommandContext:
    """What a command works with: the partitions of one or all models, the arguments, and how long a replayed request
    lives."""

    connections: Connections
    partitions: list[Partition]
    given: argparse.Namespace
    request_ttl_s: float

    @property
    def dead_letters(self) -> AllDeadLetters:
        return AllDeadLetters(self.connections, self.partitions)

    def partitions_for(self, request_id: str) -> list[Partition]:
        """Where the request may have been sent to, of each model; the first where there is no such partition."""
        number = partition_of(request_id)
        return [one for one in self.partitions if one.number == number] or self.partitions[:1]


Command = Callable[[CommandContext], Awaitable[int]]


async def get(context: CommandContext) -> int:
    """Where one request stands; NOT_FOUND where nobody knows it (any more)."""
    for partition in context.partitions_for(context.given.id):
        redis = context.connections.client_for(partition)
        try:
            state = await Store(redis, partition).state_or_error(context.given.id)
        except ValueError as error:
            return complain(program("results"), f"the result of {context.given.id} cannot be read: {error}", FAILED)
        if state != "unknown":
            break
    labels: Sequence[str] = ()
    if isinstance(state, Done):
        versions = await Presence(redis, partition).versions()
        labels = versions[state.version].labels if state.version in versions else ()
    show(context, state_document(context.given.id, state, labels), state_lines(context.given.id, state, labels))
    return NOT_FOUND if state == "unknown" else OK


async def delete(context: CommandContext) -> int:
    """Cancel each request that is queued, and delete what is kept of each that has ended, of any API key."""
    status = OK
    for request_id in context.given.ids:
        if action := await _delete(context, request_id):
            show(context, {"request_id": request_id, "action": action}, [f"{action} {request_id}"])
        else:
            status = complain(program("results"), f"there is no request {request_id}, or it has expired", NOT_FOUND)
    return status


async def _delete(context: CommandContext, request_id: str) -> str:
    """What has become of it, of whichever model it is; empty if there is nothing."""
    for partition in context.partitions_for(request_id):
        redis = context.connections.client_for(partition)
        store = Store(redis, partition)
        if await store.cancel(request_id) or await store.state(request_id) == "cancelled":
            return "cancelled"
        if await delete_ended(store, DeadLetters(redis, partition), request_id):
            return "deleted"
    return ""


async def list_dead(context: CommandContext) -> int:
    """A table of all dead letters, cut to the terminal, or in full where the output goes elsewhere."""
    dead_letters = await context.dead_letters.all()
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    lines = dead_letters_table(dead_letters, width=width) if dead_letters else ["No dead letters."]
    show(context, [dead_letter_document(dead_letter) for dead_letter in dead_letters], lines)
    return OK


async def show_dead(context: CommandContext) -> int:
    """All of one dead letter but its pixels, which go into a file on demand."""
    dead_letter = newest(await context.dead_letters.all(), context.given.id)
    if dead_letter is None:
        return _missing(context.given.id)
    show(context, dead_letter_document(dead_letter), dead_letter_lines(dead_letter))
    return OK if context.given.image is None else await _save(context, dead_letter, context.given.image)


async def _save(context: CommandContext, dead_letter: DeadLetter, path: Path) -> int:
    try:
        entry = await context.dead_letters.in_partition_of(dead_letter).image(dead_letter)
        if entry is None:
            return _missing(dead_letter.id)
        _write_image(entry, path)
    except (MalformedEntry, OSError) as error:
        return complain(program("results"), f"no image of {dead_letter.id}: {error}", FAILED)
    return complain(program("results"), f"wrote {path}", OK)


def _write_image(entry: Entry, path: Path) -> None:
    # PPM: three numbers and the pixels as they are. Viewers and Pillow read it, and writing it needs neither.
    path.write_bytes(b"P6 %d %d 255\n" % (entry.width, entry.height) + entry.pixels)


async def replay_dead(context: CommandContext) -> int:
    """Put the named dead letters, or all, back in front of the consumers."""

    async def replay(dead_letter: DeadLetter) -> bool:
        return await context.dead_letters.in_partition_of(dead_letter).replay(
            dead_letter, request_ttl_s=context.request_ttl_s
        )

    return await _each(context, replay, "replayed")


async def drop_dead(context: CommandContext) -> int:
    """Delete the named dead letters for good."""

    async def drop(dead_letter: DeadLetter) -> bool:
        return await context.dead_letters.in_partition_of(dead_letter).drop(dead_letter)

    return await _each(context, drop, "dropped")


async def _each(context: CommandContext, do: Callable[[DeadLetter], Awaitable[bool]], done: str) -> int:
    """Do it to each that was named; says at once what is done, since an error of Redis may end it halfway."""
    dead_letters = await context.dead_letters.all()
    if context.given.all and not dead_letters and not context.given.json:
        sys.stdout.write("No dead letters.\n")
    status = OK
    for reference in [dead_letter.id for dead_letter in dead_letters] if context.given.all else context.given.ids:
        dead_letter = newest(dead_letters, reference)
        try:
            if dead_letter is None or not await do(dead_letter):
                status = _missing(reference)
                continue
        except NotReplayable as error:
            status = complain(program("results"), str(error), NOT_FOUND)
            continue
        document = {"id": dead_letter.id, "request_id": dead_letter.request_id or None, "action": done}
        show(context, document, [f"{done} {dead_letter.id}  request {dead_letter.request_id or '-'}"])
    return status


def show(context: CommandContext, document: Any, lines: Sequence[str]) -> None:  # noqa: ANN401 (whatever JSON can hold)
    """Print the document, or the lines if no JSON is wanted."""
    text = json.dumps(document) if context.given.json else "\n".join(lines)
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _missing(reference: str) -> int:
    return complain(program("results"), f"there is no dead letter {reference}", NOT_FOUND)
