"""Names of the classes: the shipped ImageNet list and a user's own file."""

import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from export.errors import LabelsMismatch, UnreadableFile


def imagenet() -> tuple[str, ...]:
    """The 1000 names in the spelling of Keras's imagenet_class_index.json (`Egyptian_cat`)."""
    text = resources.files("export.artefact").joinpath("imagenet_labels.txt").read_text("utf-8")
    return tuple(text.splitlines())


def read(path: Path) -> tuple[str, ...]:
    """One name per line, a JSON list, or Keras's class index {"0": ["n01440764", "tench"], ...}.

    Raises UnreadableFile for a file that is none of these.
    """
    try:
        text = path.read_text("utf-8-sig")
    except OSError as error:
        raise UnreadableFile(f"can't read the labels {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UnreadableFile(f"the labels {path} are not UTF-8 text: {error}") from error
    labels = _parsed(text, path)
    if not labels:
        raise UnreadableFile(f"the labels {path} are empty: one name per line is needed")
    return labels


def _parsed(text: str, path: Path) -> tuple[str, ...]:
    if path.suffix.lower() == ".json" or text.lstrip().startswith(("[", "{")):
        try:
            return _from_json(json.loads(text))
        except (ValueError, KeyError, TypeError) as error:
            raise UnreadableFile(
                f"the labels {path} are neither a JSON list of names nor Keras's class index"
                f' {{"0": ["n01440764", "tench"], ...}}: {error}'
            ) from error
    # A blank line in between may be a class without a name, which would shift all that follow.
    lines = [line.strip() for line in text.rstrip().splitlines()]
    if "" in lines:
        raise UnreadableFile(f"the labels {path} have an empty line {lines.index('') + 1}")
    return tuple(lines)


def _from_json(value: object) -> tuple[str, ...]:
    if isinstance(value, dict):
        missing = sorted(set(map(str, range(len(value)))) - value.keys(), key=int)
        if missing:
            raise ValueError(f"there are {len(value)} classes, but none has the index {missing[0]}")
        value = [_last(value[str(index)]) for index in range(len(value))]
    if not isinstance(value, list) or not all(isinstance(name, str) and name for name in value):
        raise TypeError("every name must be a text")
    return tuple(value)


def _last(entry: object) -> object:
    """The name in ["n01440764", "tench"]; an index may also map to the name itself."""
    return entry[-1] if isinstance(entry, list) and entry else entry


def check(labels: Sequence[str], *, classes: int, origin: str) -> None:
    """Raises LabelsMismatch unless there is one label for each of the model's outputs."""
    if len(labels) != classes:
        raise LabelsMismatch(
            f"{origin} has {len(labels)} labels, but the model has {classes} outputs:"
            f" pass --labels FILE with {classes} names, in the order of the outputs"
        )
