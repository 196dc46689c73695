"""`python -m results`: show the state of a request, or delete it; list, replay and drop dead letters."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from results import commands, webhook_commands
from results.commands import Command, CommandContext
from stream import model_command as console
from stream.cli import program
from stream.connection.clients import Connections

_EPILOG = """exit status: 0; 1 where something was not found; 2 for wrong usage, or where Redis could not do it.
All other settings come from the environment (SLUICE_...)."""

#: How a dead letter or a dead webhook is named.
_EITHER = "ID|REQUEST"

_Verbs: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001 (it has no public name)


def main(arguments: Sequence[str]) -> int:
    given = _parser().parse_args(arguments)
    command: Command = given.run
    settings = console.settings(program("results"), given)

    async def work(connections: Connections) -> int:
        partitions = await console.choose_all(connections, settings.model)
        ttl_s = settings.result_ttl_s + settings.request_timeout_s
        return await command(CommandContext(connections, partitions, given, request_ttl_s=ttl_s))

    return console.run(program("results"), settings, work)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        program("results"), description="Look at results and dead letters.", epilog=_EPILOG
    )
    shared = [console.options("only what belongs to this model")]
    nouns = parser.add_subparsers(required=True, metavar="COMMAND")
    get = nouns.add_parser("get", parents=shared, help="where a request stands: its labels, queued, cancelled, ...")
    get.add_argument("id", metavar="ID", help="the request's id")
    get.set_defaults(run=commands.get)
    delete = nouns.add_parser("delete", parents=shared, help="cancel requests, or delete what is kept of them")
    delete.add_argument("ids", nargs="+", metavar="ID", help="the request's id, of any API key")
    delete.set_defaults(run=commands.delete)
    dead = nouns.add_parser("dead-letters", help="images that were given up: list, show, replay, drop")
    _add_dead(dead.add_subparsers(required=True, metavar="COMMAND"), shared)
    webhooks = nouns.add_parser("webhooks", help="webhooks that could not be delivered: list, replay, drop")
    _add_webhooks(webhooks.add_subparsers(required=True, metavar="COMMAND"), shared)
    return parser


def _add_list(verbs: _Verbs, shared: list[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    return verbs.add_parser("list", parents=shared, help="a table of all, the oldest first")


def _add_drop(verbs: _Verbs, shared: list[argparse.ArgumentParser], which: str) -> argparse.ArgumentParser:
    drop = verbs.add_parser("drop", parents=shared, help="delete them for good")
    drop.add_argument("ids", nargs="+", metavar=_EITHER, help=which)
    drop.set_defaults(all=False)
    return drop


def _add_dead(verbs: _Verbs, shared: list[argparse.ArgumentParser]) -> None:
    which = "the dead letter's id, or its request's"
    _add_list(verbs, shared).set_defaults(run=commands.list_dead)
    show = verbs.add_parser("show", parents=shared, help="everything about one")
    show.add_argument("id", metavar=_EITHER, help=which)
    show.add_argument("--image", type=Path, metavar="FILE.ppm", help="write its pixels into this file, as PPM")
    show.set_defaults(run=commands.show_dead)
    replay = verbs.add_parser("replay", parents=shared, help="put them back in front of the consumers")
    _add_chosen(replay, which)
    replay.set_defaults(run=commands.replay_dead)
    _add_drop(verbs, shared, which).set_defaults(run=commands.drop_dead)


def _add_webhooks(verbs: _Verbs, shared: list[argparse.ArgumentParser]) -> None:
    which = "the dead webhook's id, or its request's"
    _add_list(verbs, shared).set_defaults(run=webhook_commands.list_webhooks)
    replay = verbs.add_parser("replay", parents=shared, help="deliver them again")
    _add_chosen(replay, which)
    replay.set_defaults(run=webhook_commands.replay_webhooks)
    _add_drop(verbs, shared, which).set_defaults(run=webhook_commands.drop_webhooks)


def _add_chosen(parser: argparse.ArgumentParser, which: str) -> None:
    chosen = parser.add_mutually_exclusive_group(required=True)
    chosen.add_argument("ids", nargs="*", default=[], metavar=_EITHER, help=which)
    chosen.add_argument("--all", action="store_true", help="all there are")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
