"""Which model and which version a path means, and what is served of it. Knows no HTTP answer."""

from collections.abc import Mapping

from ingest.dispatch.model_client import Dispatch
from ingest.dispatch.registry import Catalog
from ingest.errors import UnknownModel


def select(catalog: Catalog, path: Mapping[str, str]) -> tuple[Dispatch, str | None]:
    """The dispatch to the model of a path, and the version it names, if any.

    Raises UnknownModel, StreamUnavailable, and NoConsumer where nobody serves the model at present.
    """
    dispatch = catalog.find(path["model"])
    assert dispatch.model.name == dispatch.name, "it raises where nobody serves the model"
    version = path.get("version")
    served = versions(dispatch)
    if version is not None and version not in served:
        raise UnknownModel(
            f"There is no version {version[:40]!r} of {dispatch.name}. Served at present: {', '.join(served)}."
        )
    return dispatch, version


def versions(dispatch: Dispatch) -> list[str]:
    """The versions that a living consumer serves, oldest first."""
    return sorted({one.version for one in dispatch.consumers}, key=int)
