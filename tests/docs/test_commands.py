"""Each command that a document shows exists: its module or subcommand, and each of its options; each make target, too.

Commands with consequences, and those that start services, are run by the tests of what they do. Here only their
words are checked, so that no document shows an option that was renamed.
"""

import functools
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from tests.support.documents import DOCUMENTS, ROOT, code

#: A module or a subcommand of `sluice`, with what follows on the line or in the piece of code.
_COMMAND = re.compile(r"(?:python|python3) -m ((?:export|ingest|consumers|results|stream|bench|tests)\b[\w.]*)(.*)")
_SLUICE = re.compile(r"(?<![-\w/.])(?:\.venv/bin/)?sluice (serve|export|classify|status|results)\b(.*)")
_MAKE = re.compile(r"(?<![-\w])make ([a-z][a-z0-9-]*)(?![\w./])")
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")

#: Where an option of one module is only known to its subcommand.
_SUBCOMMANDS = {
    "results": ("get", "dead-letters list", "dead-letters show", "dead-letters replay", "dead-letters drop"),
    "consumers": ("", "status"),
    "ingest.keys": ("add", "list", "remove"),
    "stream.acl": ("users",),
}


def commands(path: Path) -> list[tuple[str, str]]:
    """Module or `sluice` subcommand, and the words behind it; a line that ends in a backslash goes on."""
    text = code(path).replace("\\\n", " ")
    return [*_COMMAND.findall(text), *((f"sluice {name}", rest) for name, rest in _SLUICE.findall(text))]


@functools.cache
def help_of(command: str) -> str:
    """What the command and its subcommands print for --help. Programs of the tests may have no options at all."""
    if command.startswith("tests."):
        return str(find_spec(command) or "")
    words = ["sluice", *command.split()[1:]] if command.startswith("sluice ") else [command]
    found = []
    for subcommand in _SUBCOMMANDS.get(words[-1], ()) or ("",):
        line = [sys.executable, "-m", *words, *subcommand.split(), "--help"]
        done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
        found.append(done.stdout)
    # `sluice serve` hands what it does not know to the export.
    return "".join(found) + (help_of("export") if command == "sluice serve" else "")


def test_every_command_of_a_document_exists() -> None:
    """One test for all documents, which share most of their commands."""
    found = {(path.name, command, rest) for path in DOCUMENTS for command, rest in commands(path)}
    assert len(found) > 50
    assert not [problem for path, *words in sorted(found) for problem in problems(path, *words)]


def problems(name: str, command: str, rest: str) -> list[str]:
    shown = help_of(command)
    if not shown:
        return [f"{name}: there is no {command}"]
    options = [] if command.startswith("tests.") else _OPTION.findall(rest.partition("#")[0])
    known = set(_OPTION.findall(shown))
    return [f"{name}: {command} has no option {option}" for option in options if option not in known]


def test_every_make_target_exists() -> None:
    targets = set(re.findall(r"^([a-z][a-z0-9-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {target for path in DOCUMENTS for target in _MAKE.findall(code(path))}
    assert named <= targets
