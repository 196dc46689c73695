"""Entries that have their pixels among their own fields, as dead letters have."""

from typing import Any

from stream.entry import Entry


def inline(entry: Entry, due_ms: int = 0) -> dict[Any, Any]:
    """All fields of the entry, as XADD takes them."""
    fields = entry.fields(inline=True)
    return {"due": due_ms, **dict(zip(fields[::2], fields[1::2], strict=True))}
