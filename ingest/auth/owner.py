"""The owner of a request: the name of the API key that asks. Knows neither keys nor Redis.

A request's id begins with its owner's name, so that whoever fetches a result knows whose it is without asking
anybody. The owner is a property of the task that answers a request, set once at the entrance: an endpoint cannot
forget to hand it on. Without API keys everything belongs to nobody, and ids are bare.
"""

from contextvars import ContextVar

from stream import request_id as request

#: Stands between the owner and the rest of an id; no name of a key contains it.
_SEPARATOR = "."

_owner: ContextVar[str] = ContextVar("owner", default="")


def owner() -> str:
    """Who asks; empty where nobody need say who they are."""
    return _owner.get()


def enter(name: str) -> None:
    """From here on, this task asks for the owner of that name."""
    _owner.set(name)


def new_id(partition: int = 0) -> str:
    """An id for a request of this owner in this partition, that nobody can guess."""
    name, bare = _owner.get(), request.new_id(partition)
    return f"{name}{_SEPARATOR}{bare}" if name else bare


def is_own(request_id: str) -> bool:
    """Whether a request with this id can be one of this owner's."""
    return request_id.rpartition(_SEPARATOR)[0] == _owner.get()
