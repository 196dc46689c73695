"""The owner of a request: the name of its API key.

A request's id begins with its owner's name (stream/keys.py). So the id alone says who may fetch its result. The owner
is a context variable of the task that answers the request. The auth middleware sets it once, so no endpoint can forget
to pass it on. Without API keys there is no owner, and ids have no prefix.
"""

from contextvars import ContextVar
from typing import Final

from stream import keys

#: The owner of the current request, empty without API keys.
owner: Final[ContextVar[str]] = ContextVar("owner", default="")

#: The marks of the key of the current request. Without API keys, no request has any.
marks: Final[ContextVar[frozenset[str]]] = ContextVar("marks", default=frozenset())


def set_owner(name: str, its_marks: frozenset[str] = frozenset()) -> None:
    """From now on, this task works for the owner of this name, whose key has these marks."""
    owner.set(name)
    if its_marks:
        marks.set(its_marks)


def belongs_to_caller(an_id: str) -> bool:
    """Whether a request with this id can be one of this owner's."""
    return keys.owner_of(an_id) == owner.get()
