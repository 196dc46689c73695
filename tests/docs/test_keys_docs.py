"""Every key of Redis is in the table of stream/keys.py, in the design, and in the rights of some user."""

import functools
import inspect
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase

import stream.keys
from stream.acl import consumer_rights, ingest_rights, sender_rights
from stream.keys import PREFIX, PRIORITIES, Partition
from tests.support.documents import text


def keys() -> Iterator[str]:
    """Each that the code can name, with an x for what differs."""
    partition = Partition("m")
    for priority in PRIORITIES:
        yield from (partition.stream(priority, version).key for version in ("", "x"))
    for name, one in vars(Partition).items():
        if isinstance(one, functools.cached_property) and not name.startswith("_"):
            yield getattr(partition, name)
        elif _makes_text(one):
            yield getattr(partition, name)("x")
    for one in vars(stream.keys).values():
        found = one(*["x"] * len(inspect.signature(one).parameters)) if _makes_text(one) else one
        if isinstance(found, str) and found.startswith(f"{PREFIX}{{all}}:"):
            yield found


def _makes_text(one: object) -> bool:
    return (
        inspect.isfunction(one) and one.__module__ == stream.keys.__name__ and one.__annotations__.get("return") is str
    )


def test_every_key_has_a_row_and_a_right() -> None:
    """And each row is one that the code can name. Only scripts have rights to all keys."""
    assert stream.keys.__doc__
    table = [line for line in stream.keys.__doc__.splitlines() if line.startswith("| `")]
    assert [line for line in text("docs/design.md").splitlines() if line.startswith("| `sluice:")] == table
    named = {key.replace("{m/0}", "{m/n}") for key in keys()}
    assert named == {re.sub("<.*?>", "x", line.split("`")[1]) for line in table}
    rights = [one for one in (*ingest_rights(), *consumer_rights(), *sender_rights()) if one.commands != "evalsha"]
    patterns = [pattern for one in rights for pattern in (*one.read, *one.write, *one.both)]
    assert [key for key in named if not any(fnmatchcase(key, pattern) for pattern in patterns)] == []
