"""What can go wrong in an export, as one tree.

ExportError                     exit status 2, the message says what to do
├── BadArgument                 options that don't fit together, or don't fit the model
├── SizeUnclear                 nothing tells the size of the training's images
├── NormalisationUnclear        nothing tells how the pixels were normalised
├── ResizeUnclear               labelled images can't tell resizes apart whose answers differ
├── OutputUnclear               nothing tells what the outputs mean
├── WeightsUnavailable          ImageNet weights neither cached nor to be downloaded
├── UnreadableFile              a model, weights, checkpoint or labels file
├── UnsafeFile                  a file that would run code, or read or write other files
│   └── OwnCode                 a model with code of its owner's, which a SavedModel would have as operations
├── NotAClassifier              one image in, one row of numbers out is what is needed
├── LabelsMismatch              labels that don't fit the model's output
├── ConversionFailed            the network has something that ONNX or tf2onnx lacks
├── ImagesUnusable              a folder of images
├── TooFarFromFp32              an int8 or fp16 network that answers too differently
├── BeyondTolerance             the artefact doesn't answer what the owner's model answers
└── OutputRefused               the artefact can't be written, or is there already
"""

import os


def program() -> str:
    """The command that the user typed, which begins each message; `sluice` sets the variable."""
    return os.environ.get("SLUICE_PROGRAM", "python -m export")


def command() -> str:
    """How the user may start another export: `sluice serve` exports, too."""
    return "sluice export" if "SLUICE_PROGRAM" in os.environ else "python -m export"


class ExportError(Exception):
    """Something the user can put right; the message says how."""

    exit_status = 2


class BadArgument(ExportError):
    pass


class SizeUnclear(ExportError):
    pass


class NormalisationUnclear(ExportError):
    pass


class ResizeUnclear(ExportError):
    pass


class OutputUnclear(ExportError):
    pass


class WeightsUnavailable(ExportError):
    """`summary` says what is missing, for use with a fallback; the message has both."""

    def __init__(self, summary: str, ways_out: str) -> None:
        super().__init__(f"{summary}. Ways out: {ways_out}")
        self.summary = summary


class UnreadableFile(ExportError):
    pass


class UnsafeFile(ExportError):
    pass


class OwnCode(UnsafeFile):
    pass


class NotAClassifier(ExportError):
    pass


class LabelsMismatch(ExportError):
    pass


class ConversionFailed(ExportError):
    pass


class ImagesUnusable(ExportError):
    pass


class TooFarFromFp32(ExportError):
    pass


class BeyondTolerance(ExportError):
    pass


class OutputRefused(ExportError):
    pass
