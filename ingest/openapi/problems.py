"""The problems that several endpoints declare."""

from typing import Final

from ingest.errors import (
    BadParameter,
    BulkKey,
    Cancelled,
    DamagedImage,
    DamagedInRedis,
    DeadlinePassed,
    InferenceFailed,
    MixedVersions,
    ModelUnloaded,
    NoConsumer,
    Overloaded,
    PayloadTooLarge,
    PreparedForAnother,
    RequestTimeout,
    StreamUnavailable,
    TooManyPixels,
    UnknownModel,
    UnsupportedMediaType,
)

#: Of a body.
BODY_PROBLEMS: Final = (BadParameter, PayloadTooLarge, RequestTimeout, UnsupportedMediaType)

#: Of the model that a path names.
MODEL_PROBLEMS: Final = (UnknownModel, NoConsumer, ModelUnloaded, MixedVersions, StreamUnavailable)

#: Of an image that was accepted.
ACCEPTED_PROBLEMS: Final = (
    Cancelled, InferenceFailed, DamagedInRedis, Overloaded, PreparedForAnother, StreamUnavailable, DeadlinePassed,
)  # fmt: skip

#: Of a request for the outputs of one model.
INFERENCE_PROBLEMS: Final = (
    *BODY_PROBLEMS, *MODEL_PROBLEMS, *ACCEPTED_PROBLEMS, BulkKey, TooManyPixels, DamagedImage,
)  # fmt: skip
