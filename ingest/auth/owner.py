"""The owner of a request: the name of its API key.

A request's id begins with its owner's name. So the id alone says who may fetch its result. The owner is a context
variable of the task that answers the request. The auth middleware sets it once, so no endpoint can forget to pass it
on. Without API keys there is no owner, and ids have no prefix.
"""

from contextvars import ContextVar
from typing import Final

from stream import keys

#: Between the owner and the rest of an id. No name of a key contains it.
_SEPARATOR: Final = "."

_owner: ContextVar[str] = ContextVar("owner", default="")
_marks: ContextVar[frozenset[str]] = ContextVar("marks", default=frozenset())


def owner() -> str:
    """The owner of the current request, empty without API keys."""
    return _owner.get()


def set_owner(name: str, marks: frozenset[str] = frozenset()) -> None:
    """From now on, this task works for the owner of this name, whose key has these marks."""
    _owner.set(name)
    if marks:
        _marks.set(marks)


def has_mark(mark: str) -> bool:
    """Whether the key of the current request has this mark. Without API keys, no request has any."""
    return mark in _marks.get()


def new_id(partition: int = 0) -> str:
    """A new random id for a request of this owner in this partition."""
    name, bare = _owner.get(), keys.new_id(partition)
    return f"{name}{_SEPARATOR}{bare}" if name else bare


def belongs_to_caller(an_id: str) -> bool:
    """Whether a request with this id can be one of this owner's."""
    return an_id.rpartition(_SEPARATOR)[0] == _owner.get()
