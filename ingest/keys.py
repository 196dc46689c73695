"""`python -m ingest.keys add|remove NAME`, `list`: look after the file of API keys. Serves nothing.

A running ingest follows the file: what is added or removed here counts there within a second.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ingest.auth.api_keys import BadKey, StoredKey, from_lines, new_key
from stream.settings import IngestSettings

PROGRAM = "python -m ingest.keys"


def main(arguments: Sequence[str]) -> int:
    given = _parser().parse_args(arguments)
    file = given.file or IngestSettings().api_keys_file
    if not file:
        return _complain("say which file with --file FILE or SLUICE_API_KEYS_FILE")
    path = Path(file)
    try:
        match given.command:
            case "add":
                return add(path, given.name)
            case "remove":
                return remove(path, given.name)
            case _:
                return show(path)
    except (BadKey, OSError) as error:
        return _complain(str(error))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(PROGRAM, description="Look after the file of API keys.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    about = {
        "add": "print a new key, once; the file keeps its hash. A name may have several keys",
        "remove": "all keys of this name open no longer",
        "list": "the names, one line for each key",
    }
    for command, does in about.items():
        one = commands.add_parser(command, help=does, description=does)
        if command != "list":
            one.add_argument("name", metavar="NAME", help="whose key: letters, digits, '_' and '-'")
        one.add_argument("--file", metavar="FILE", help="the file; SLUICE_API_KEYS_FILE where it is left out")
    return parser


def add(path: Path, name: str) -> int:
    """Print a new key and append its hash; the file is made where there is none, for its owner to read alone."""
    key = new_key()
    stored = StoredKey.of(name, key)
    before = path.read_text() if path.exists() else ""
    from_lines(before)  # nothing is added to a file that ingest could not read
    _write(path, [*before.splitlines(), stored.encode()])
    sys.stdout.write(f"{key}\n")
    sys.stderr.write(f"This is the key of {name}; it is shown this once. {path} keeps only its hash.\n")
    return 0


def remove(path: Path, name: str) -> int:
    """Take all keys of this name out of the file; 1 where there is none."""
    lines = path.read_text().splitlines()
    kept = [line for line in lines if line.strip().partition(":")[0] != name]
    if len(kept) == len(lines):
        sys.stderr.write(f"{PROGRAM}: {path} has no key of {name}\n")
        return 1
    _write(path, kept)
    return 0


def show(path: Path) -> int:
    """Print the names."""
    sys.stdout.writelines(f"{key.name}\n" for key in from_lines(path.read_text()))
    return 0


def _write(path: Path, lines: Sequence[str]) -> None:
    # Put in place as a whole: a running ingest never reads half a file.
    new = path.with_name(f"{path.name}.new")
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o600
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w") as file:  # noqa: PTH123 (with its mode)
        file.writelines(f"{line}\n" for line in lines)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def _complain(message: str) -> int:
    sys.stderr.write(f"{PROGRAM}: {message}\n")
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
