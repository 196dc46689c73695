"""`python -m ingest.keys add|remove NAME`, `list`: manages the file of API keys.

A running ingest reads the file again within a second of a change.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ingest.auth.api_keys import ADMIN, BULK, BadKey, StoredKey, from_lines, new_key, why_unreadable
from stream.cli import complain, from_command_line, write_atomically
from stream.settings import IngestSettings

PROGRAM = "python -m ingest.keys"


#: What each mark of a key does.
_MARKS = {ADMIN: "the key may also load and unload models", BULK: "all images of this key are bulk images"}


def main(arguments: Sequence[str]) -> int:
    given = _parser().parse_args(arguments)
    file = given.file or from_command_line(IngestSettings, PROGRAM, []).api_keys_file
    if not file:
        return complain(PROGRAM, "say which file with --file FILE or SLUICE_API_KEYS_FILE", 2)
    path = Path(file)
    try:
        match given.command:
            case "add":
                return add(path, given.name, marks=given.marks)
            case "remove":
                return remove(path, given.name, but_newest=given.but_newest)
            case _:
                return show(path)
    except (BadKey, OSError) as error:
        return complain(PROGRAM, why_unreadable(error), 2)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(PROGRAM, description="Manage the file of API keys.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    about = {
        "add": "print a new key, once; the file keeps its hash. A name may have several keys",
        "remove": "remove all keys of this name, or all but the newest",
        "list": "print the names, one line for each key, the oldest first",
    }
    for command, does in about.items():
        one = commands.add_parser(command, help=does, description=does)
        if command != "list":
            one.add_argument("name", metavar="NAME", help="the owner's name: letters, digits, '_' and '-'")
        if command == "add":
            one.set_defaults(marks=[])
            for mark, about_it in _MARKS.items():
                one.add_argument(f"--{mark}", dest="marks", action="append_const", const=mark, help=about_it)
        if command == "remove":
            keep = "keep the key that was added last: the end of a rotation"
            one.add_argument("--but-newest", action="store_true", help=keep)
        one.add_argument("--file", metavar="FILE", help="the file; default: SLUICE_API_KEYS_FILE")
    return parser


def add(path: Path, name: str, *, marks: Sequence[str] = ()) -> int:
    """Print a new key and append its hash. A new file can be read by its owner only; its folder is made if needed."""
    key = new_key()
    stored = StoredKey.of(name, key, marks)
    before = path.read_text() if path.exists() else ""
    from_lines(before)  # nothing is added to a file that ingest could not read
    path.parent.mkdir(parents=True, exist_ok=True)
    _write(path, [*before.splitlines(), stored.encode()])
    sys.stderr.write(f"This is the key of {name}. It is shown only once: {path} keeps only its hash.\n")
    sys.stdout.write(f"{key}\n")
    return 0


def remove(path: Path, name: str, *, but_newest: bool = False) -> int:
    """Remove all keys of this name from the file, or all but the last; returns 1 if there is none to remove."""
    lines = path.read_text().splitlines()
    of_name = [number for number, line in enumerate(lines) if line.strip().partition(":")[0] == name]
    removed = of_name[:-1] if but_newest else of_name
    if not removed:
        found = f"only one key of {name}" if of_name else f"no key of {name}"
        return complain(PROGRAM, f"{path} has {found}", 1)
    _write(path, [line for number, line in enumerate(lines) if number not in removed])
    return 0


def show(path: Path) -> int:
    """Print the names, each with the marks of its key, and which key it is if the name has several."""
    keys = from_lines(path.read_text())
    several = Counter(key.name for key in keys)
    shown: Counter[str] = Counter()
    for key in keys:
        shown[key.name] += 1
        number, count = shown[key.name], several[key.name]
        which = f"(key {number} of {count}{', the newest' if number == count else ''})"
        sys.stdout.write(" ".join([key.name, *sorted(key.marks), *([which] if count > 1 else [])]) + "\n")
    return 0


def _write(path: Path, lines: Sequence[str]) -> None:
    before = path.stat() if path.exists() else None
    mode = before.st_mode & 0o777 if before else 0o600
    write_atomically(path, "".join(f"{line}\n" for line in lines), mode=mode)
    if before and path.stat().st_uid != before.st_uid:
        complain(PROGRAM, f"{path} has another owner now; give it back: sudo chown {before.st_uid} {path}", 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
