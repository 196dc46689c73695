"""The commands of `python -m results webhooks`: list, replay and drop webhooks that could not be delivered."""

import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict

from results.commands import CommandContext, show
from results.deliveries import DeadWebhook, DeadWebhooks
from stream.cli import NOT_FOUND, OK, complain, program
from stream.host.text import Column, table
from stream.keys import Partition

_COLUMNS = (Column("ID"), Column("REQUEST"), Column("ATTEMPTS", right=True), Column("URL", cut=True), Column("REASON"))


async def list_webhooks(context: CommandContext) -> int:
    """A table of all dead webhooks, the oldest of each partition first."""
    found = [dead for partition in context.partitions for dead in await _of(context, partition).all()]
    rows = [(dead.id, dead.request_id or "-", str(dead.attempts), dead.url or "-", dead.reason) for dead in found]
    lines = table(_COLUMNS, rows) if rows else ["No dead webhooks."]
    show(context, [asdict(dead) for dead in found], lines)
    return OK


async def replay_webhooks(context: CommandContext) -> int:
    """Deliver the named ones, or all, again."""
    return await _each(context, DeadWebhooks.replay, "replayed")


async def drop_webhooks(context: CommandContext) -> int:
    """Delete the named ones for good."""
    return await _each(context, DeadWebhooks.drop, "dropped")


async def _each(context: CommandContext, do: Callable[[DeadWebhooks, DeadWebhook], Awaitable[bool]], done: str) -> int:
    left = set(context.given.ids)
    found = False
    for partition in context.partitions:
        of = _of(context, partition)
        for dead in await of.all():
            named = left & {dead.id, dead.request_id}
            if (named or context.given.all) and await do(of, dead):
                left -= named
                found = True
                document = {"id": dead.id, "request_id": dead.request_id or None, "action": done}
                show(context, document, [f"{done} {dead.id}  request {dead.request_id or '-'}"])
    if context.given.all and not found and not context.given.json:
        sys.stdout.write("No dead webhooks.\n")
    for reference in sorted(left):
        complain(program("results"), f"there is no dead webhook {reference}", NOT_FOUND)
    return NOT_FOUND if left else OK


def _of(context: CommandContext, partition: Partition) -> DeadWebhooks:
    return DeadWebhooks(context.connections.client_for(partition), partition)
