"""Shapes: the types of the JSON that clients of `/predict` and `/results` read. Knows nobody who fills them."""

from typing import Literal

from typing_extensions import TypedDict

from ingest.errors import ProblemDocument


class Label(TypedDict):
    """A class of the model, and how probable it is."""

    label: str
    probability: float


class Prediction(TypedDict):
    """One image's labels, most probable first, and who gave them."""

    success: Literal[True]
    predictions: list[Label]
    model: str
    version: str
    id: str


class Queued(TypedDict):
    """One image that has no answer yet, and the place where it will be."""

    success: Literal[True]
    status: Literal["queued"]
    id: str
    location: str


class Failure(TypedDict):
    """One image of several that failed."""

    success: Literal[False]
    error: ProblemDocument


class NamedPrediction(Prediction):
    """A prediction under the name that the client gave the file."""

    filename: str | None


class NamedQueued(Queued):
    """A place under the name that the client gave the file."""

    filename: str | None


class NamedFailure(Failure):
    """A failure under the name that the client gave the file."""

    filename: str | None


Named = NamedPrediction | NamedQueued | NamedFailure


class Results(TypedDict):
    """Several images, in the order sent."""

    success: Literal[True]
    results: list[Named]


def named(filename: str | None, answer: Prediction | Queued | Failure) -> Named:
    """The answer to one image of several."""
    return {"filename": filename, **answer}  # type: ignore[return-value]
