"""The options in the query of a request."""

from collections.abc import Collection

from starlette.datastructures import QueryParams

from ingest.errors import BadParameter


def refuse_unknown(query: QueryParams, supported: Collection[str]) -> None:
    """Raise BadParameter for a name that is none of the options of this route: it may be misspelled."""
    if unknown := [name for name in query if name not in supported]:
        raise BadParameter(f"The query has {unknown[0][:40]!r}; supported here: {', '.join(supported)}.")
