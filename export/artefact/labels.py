"""Reads the names of the classes from a user's file; has ImageNet's."""

import json
import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from export.errors import LabelsMismatch, UnreadableFile

#: What --labels takes instead of a file.
IMAGENET = "imagenet"

OUTPUT_ORDER = "in the order of the outputs"

_FORMS = (
    'one name per line, a JSON list of names, {"0": "cat", "1": "dog"}, Keras\'s class_indices {"cat": 0, "dog": 1},'
    ' its class index {"0": ["n01440764", "tench"], ...} or the config.json of a Hugging Face model'
)


def imagenet() -> tuple[str, ...]:
    """The 1000 names in the spelling of Keras's imagenet_class_index.json (`Egyptian_cat`)."""
    text = resources.files("export.artefact").joinpath("imagenet_labels.txt").read_text("utf-8")
    return tuple(text.splitlines())


def read(path: Path) -> tuple[str, ...]:
    """The names in the order of the model's outputs, from any of the forms above. Raises UnreadableFile."""
    try:
        text = path.read_text("utf-8-sig")
    except OSError as error:
        raise UnreadableFile(f"can't read the labels {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UnreadableFile(f"the labels {path} are not UTF-8 text; what is needed is {_FORMS}") from error
    labels = parse(text, str(path), is_json=path.suffix.lower() == ".json")
    if not labels:
        raise UnreadableFile(f"the labels {path} are empty; what is needed is {_FORMS}")
    return labels


def parse(text: str, origin: str, *, is_json: bool = False) -> tuple[str, ...]:
    """The names in a text; raises UnreadableFile."""
    if is_json or text.lstrip().startswith(("[", "{")):
        try:
            return _from_json(json.loads(text, object_pairs_hook=_without_duplicates))
        except (ValueError, KeyError, TypeError) as error:
            raise UnreadableFile(f"the labels {origin} can't be read: {error}; what is needed is {_FORMS}") from error
    # A blank line in between may be a class without a name, which would shift all that follow.
    lines = [line.strip() for line in text.rstrip().splitlines()]
    if "" in lines:
        raise UnreadableFile(
            f"the labels {origin} have an empty line {lines.index('') + 1}: delete it, or name that class"
        )
    return _without_numbers(lines, origin)


def _without_numbers(lines: list[str], origin: str) -> tuple[str, ...]:
    """Teachable Machine numbers its lines, `0 cat`; lines that all begin with a number are taken for such a list."""
    numbered = [re.fullmatch(r"(\d+)[\s:,]+(.+)", line) for line in lines]
    if not lines or not all(numbered):
        return tuple(lines)
    found = [(int(match[1]), match[2]) for match in numbered if match]
    if [number for number, _ in found] != list(range(len(found))):
        raise UnreadableFile(
            f"every line of the labels {origin} begins with a number, but not in the order 0, 1, 2, ...: sort the"
            " lines, or put them into a JSON list if the numbers belong to the names"
        )
    return tuple(name for _, name in found)


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    keys = [key for key, _ in pairs]
    twice = next((key for key in keys if keys.count(key) > 1), None) if len(set(keys)) < len(keys) else None
    if twice is not None:
        raise ValueError(f"the key {twice!r} is there twice")
    return dict(pairs)


def _from_json(value: object) -> tuple[str, ...]:
    if isinstance(value, dict) and isinstance(value.get("id2label"), dict):
        value = value["id2label"]
    if isinstance(value, dict):
        value = _in_order(value)
    if not isinstance(value, list) or not all(isinstance(name, str) and name for name in value):
        raise TypeError("every name must be a text")
    return tuple(value)


def _in_order(value: dict[str, object]) -> list[object]:
    """The names of {"0": "cat"} or of {"cat": 0}, by their index."""
    names_to_indices = all(isinstance(index, int) for index in value.values())
    if names_to_indices and all(key.isdecimal() for key in value):
        raise ValueError("both the keys and the values are numbers, so that names and indices look the same")
    by_index = {str(index): name for name, index in value.items()} if names_to_indices else value
    if len(by_index) < len(value):
        raise ValueError("two names have the same index")
    missing = sorted(set(map(str, range(len(value)))) - by_index.keys(), key=int)
    if missing:
        raise ValueError(f"there are {len(value)} classes, but none has the index {missing[0]}")
    return [_last(by_index[str(index)]) for index in range(len(value))]


def _last(entry: object) -> object:
    """The name in ["n01440764", "tench"]; an index may also map to the name itself."""
    return entry[-1] if isinstance(entry, list) and entry else entry


def check(labels: Sequence[str], *, classes: int, origin: str, order: str = OUTPUT_ORDER) -> None:
    """Raises LabelsMismatch unless there is one label for each class. `order` says in which one they must be."""
    if len(labels) != classes:
        # It shows a line of headings, and names with commas between them.
        first = f". The first is now {labels[0]!r}" if labels else ""
        raise LabelsMismatch(
            f"{origin} has {len(labels)} labels, but the model has {classes} classes:"
            f" pass --labels FILE with {classes} names, one per line, {order}{first}"
        )
