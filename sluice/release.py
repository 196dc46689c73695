"""`sluice release`: try a new version on a share of the requests or as a shadow, then promote it or roll it back."""

import argparse
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

from stream import model_command as console
from stream.cli import FAILED, OK, complain, start_consumer
from stream.connection.clients import Connections
from stream.keys import valid_version
from stream.model import ModelDescription
from stream.presence import ConsumerReport, Presence
from stream.releases import Release, ReleaseError, Releases, ReleaseStatus, read_release

PROGRAM: Final = "sluice release"

_EPILOG: Final = """examples:
  sluice release promote resnet50 1           version 1 answers everything
  sluice release set resnet50 2 --share 5%    version 2 answers 5 % of the requests
  sluice release set resnet50 2 --shadow      version 2 gets the same images; its predictions are only compared
  sluice release promote resnet50             version 2 answers everything
  sluice release rollback resnet50            the version before answers everything again
  sluice release clear resnet50               any version answers, as without a release

Every ingest obeys within a second.
exit status: 0 done; 1 no such model; 2 refused, wrong usage, or Redis is unavailable."""

#: 5%, 5 %, 0.5% or 0.05.
_PERCENT: Final = re.compile(r"(\d+(?:\.\d+)?)\s*%")
_FRACTION: Final = re.compile(r"0?\.\d+|1\.0*|0|1")


class Refused(Exception):
    """The release would not do what was asked for; the message says why."""


class NotServed(Refused):
    """No live consumer serves the version. `stable`: it was to be the stable one."""

    def __init__(self, version: str, live: set[str], *, stable: bool) -> None:
        super().__init__(f"no live consumer serves version {version}; served at present: {_listed(live)}")
        self.version, self.stable = version, stable


@dataclass(frozen=True, slots=True)
class Served:
    """A model's versions: `known` were ever announced, `live` have a live consumer.

    `follows`: a consumer with --watch is alive, which changes to the stable version.
    """

    known: dict[str, ModelDescription]
    live: set[str]
    follows: bool

    @classmethod
    async def read(cls, connections: Connections, model: str) -> Self:
        """Raises NoSuchModel."""
        known: dict[str, ModelDescription] = {}
        alive: list[ConsumerReport] = []
        for partition in await console.choose(connections, model):
            presence = Presence(connections.client_for(partition), partition)
            known |= await presence.versions()
            alive += [one for one in await presence.consumers() if one.alive]
        return cls(known, {one.version for one in alive}, any(one.follows for one in alive))

    def require(self, version: str, *, force: bool, stable: bool = False) -> None:
        """Raise Refused unless a consumer serves this version, or will once it is `stable`; with `force`, unless one
        ever announced it."""
        if version not in self.known:
            raise Refused(f"no consumer has announced version {version}; announced: {_listed(self.known)}")
        if version not in self.live and not force and not (stable and self.follows):
            raise NotServed(version, self.live, stable=stable)

    def only_other(self, candidate: str) -> str:
        """The one live version beside the candidate; raises Refused."""
        others = self.live - {candidate}
        if len(others) == 1:
            return min(others)
        if not others:
            raise Refused(f"version {candidate} is the only one that is served: there is nothing to compare it with")
        raise Refused(
            f"several other versions are served ({_listed(others)}): name the stable one with --stable VERSION"
        )


def main(arguments: Sequence[str]) -> int:
    given = _parser().parse_args(arguments)
    settings = console.settings(PROGRAM, given)

    async def work(connections: Connections) -> int:
        try:
            return await _run(connections, given)
        except NotServed as error:
            start = start_consumer(settings, given.model, error.version)
            restart = f", or start the service with: sluice serve {given.model} --version {error.version}"
            force = "or add --force: consumers without a version load it when they start"
            return complain(PROGRAM, f"{error}. Start one with: {start}{restart * error.stable}, {force}", FAILED)
        except (Refused, ReleaseError) as error:
            return complain(PROGRAM, str(error), FAILED)

    return console.run(PROGRAM, settings, work)


async def _run(connections: Connections, given: argparse.Namespace) -> int:
    releases = Releases(connections.shared)
    if given.command == "show":
        return await _show(connections, given)
    served = await Served.read(connections, given.model)
    before = await releases.of(given.model)
    if given.command == "clear":
        await releases.clear(given.model)
    else:
        release = _next(given, served, before)
        served.require(release.stable, force=given.force, stable=True)
        await releases.write(given.model, release)
    return await _show(connections, given)


def _next(given: argparse.Namespace, served: Served, before: Release | None) -> Release:
    """The release that the command asks for; raises Refused or ReleaseError."""
    if given.command == "set" and not (given.promote or given.rollback):
        return _trial(given, served, before)
    promote = given.command == "promote" or getattr(given, "promote", False)
    if promote and given.version and (before is None or before.candidate != given.version):
        served.require(given.version, force=given.force, stable=True)
        if before and before.stable == given.version:
            return Release(given.version, previous=before.previous)
        return Release(given.version, previous=before.stable if before else "")
    if before is None:
        raise Refused(
            f"{given.model} has no release; start one with: sluice release set {given.model} VERSION --share 5%"
        )
    if given.command == "set" and given.rollback and given.version != (before.candidate or before.stable):
        raise Refused(f"version {given.version} of {given.model} is not the one on trial, nor the last one promoted")
    return before.promoted() if promote else before.rolled_back()


def _trial(given: argparse.Namespace, served: Served, before: Release | None) -> Release:
    candidate = given.version
    served.require(candidate, force=given.force)
    stable = given.stable or (before.stable if before else served.only_other(candidate))
    served.require(stable, force=given.force)
    if stable == candidate:
        raise Refused(
            f"version {stable} cannot be stable and candidate at once; name the stable one with --stable VERSION"
        )
    if given.shadow and served.known[stable].preparation != served.known[candidate].preparation:
        raise Refused(
            f"versions {stable} and {candidate} take images prepared differently, and a shadow gets the images that "
            "were prepared for the stable version; try it on a share"
        )
    return Release(
        stable, candidate, share=given.share or 0.0, shadow=given.shadow, previous=before.previous if before else ""
    )


async def _show(connections: Connections, given: argparse.Namespace) -> int:
    names = [given.model] if given.model else sorted(await Releases(connections.shared).all())
    if given.model:
        await console.choose(connections, given.model)  # raises NoSuchModel
    found = {name: await read_release(connections.shared, name) for name in names}
    if given.json:
        sys.stdout.write(
            json.dumps({name: status.document() if status else None for name, status in found.items()}) + "\n"
        )
        return OK
    for name, status in found.items():
        sys.stdout.write(f"{name}: {status.line() if status else 'no release: any version takes an image'}\n")
        if status:
            _say_what_is_missing(status, await Served.read(connections, name))
    if not found:
        sys.stdout.write("No model has a release.\n")
    return OK


def _say_what_is_missing(status: ReleaseStatus, served: Served) -> None:
    stable, live = status.release.stable, set(served.live)
    if served.follows and stable not in live:
        live.add(stable)
        sys.stdout.write(
            f"Consumers with --watch load version {stable} within seconds if their models folder has it.\n"
        )
    for problem in status.problems(live):
        sys.stdout.write(f"! {problem}\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        PROGRAM, description=__doc__, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    about = {
        "set": "try a version on a share of the requests, or as a shadow",
        "promote": "let the candidate, or the version that is named, take everything",
        "rollback": "let the stable version take everything; after a promotion, the one before",
        "clear": "end the release: any version takes an image",
        "show": "print the release of a model, or all releases",
    }
    for name, does in about.items():
        one = commands.add_parser(name, help=does, description=does, parents=[console.options()])
        one.add_argument("model", metavar="MODEL", **({"nargs": "?", "default": ""} if name == "show" else {}))  # type: ignore[arg-type]
        if name == "set":
            _add_trial(one)
        elif name == "promote":
            one.add_argument("version", metavar="VERSION", type=_version, nargs="?",
                             help="default: the candidate")  # fmt: skip
        if name not in {"show", "clear"}:
            one.add_argument("--force", action="store_true", help="also for a version without a live consumer")
    return parser


def _add_trial(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("version", metavar="VERSION", type=_version, help="the candidate")
    parser.add_argument("--stable", metavar="VERSION", type=_version, help="the version that takes all other images")
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument("--share", type=_share, metavar="SHARE", help="its share of the requests, as 5%% or 0.05")
    how.add_argument("--shadow", action="store_true", help="give it the same images, and only compare its predictions")
    # The same as the commands of these names, which --help lists.
    how.add_argument("--promote", action="store_true", help=argparse.SUPPRESS)
    how.add_argument("--rollback", action="store_true", help=argparse.SUPPRESS)


def _version(text: str) -> str:
    if not valid_version(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no version; a version is a whole number")
    return text


def _share(text: str) -> float:
    """A part above 0 and up to 1."""
    if percent := _PERCENT.fullmatch(text.strip()):
        share = float(percent[1]) / 100
    elif _FRACTION.fullmatch(text.strip()):
        share = float(text)
    else:
        raise argparse.ArgumentTypeError(f"{text!r} is no share; write 5% or 0.05")
    if not 0 < share <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is out of range; a share is more than 0 % and at most 100 %")
    return share


def _listed(versions: set[str] | dict[str, ModelDescription]) -> str:
    return ", ".join(sorted(versions, key=int)) or "none"
