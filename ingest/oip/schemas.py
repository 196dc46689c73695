"""Shapes: the types of the protocol's JSON that clients read and write. Knows nobody who fills them."""

from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict


class ServerLive(TypedDict):
    """The process answers."""

    live: Literal[True]


class ServerReady(TypedDict):
    """Images are taken."""

    ready: Literal[True]


class ModelReady(TypedDict):
    """A consumer of this model is alive."""

    name: str
    ready: Literal[True]


class IndexRequest(TypedDict, total=False):
    """What may be asked of the index; what is served is always ready."""

    ready: bool


class Entry(TypedDict):
    """A version of a model in the index."""

    name: str
    version: str
    state: Literal["READY"]
    reason: Literal[""]


class OutputTensor(TypedDict):
    """Probabilities or labels of all images; `data` is missing where it follows as binary data."""

    name: str
    datatype: Literal["FP32", "BYTES"]
    shape: list[int]
    data: NotRequired[list[Any]]
    parameters: NotRequired[dict[str, int]]


class Inferred(TypedDict):
    """The answer to an inference request."""

    model_name: str
    model_version: NotRequired[str]
    id: NotRequired[str]
    outputs: list[OutputTensor]
