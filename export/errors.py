"""What can go wrong in an export, as one tree.

ExportError                     exit status 2, the message says what to do
├── BadArgument                 options that don't fit together
├── WeightsUnavailable          ImageNet weights neither cached nor to be downloaded
├── UnreadableFile              a model, weights, checkpoint or labels file
├── NotAClassifier              one image in, one row of scores out is what is needed
├── LabelsMismatch              labels that don't fit the model's output
├── ConversionFailed            the network has something that ONNX or tf2onnx lacks
├── ImagesUnusable            the folder for the calibration
├── TooFarFromFp32              an int8 or fp16 network that answers too differently
├── BeyondTolerance             ONNX Runtime doesn't answer what the framework answers
└── OutputRefused               the artefact can't be written, or is there already
"""


class ExportError(Exception):
    """Something the user can put right; the message says how."""

    exit_status = 2


class BadArgument(ExportError):
    pass


class WeightsUnavailable(ExportError):
    """`summary` says what is missing, for where a fallback stands ready; the message has both."""

    def __init__(self, summary: str, ways_out: str) -> None:
        super().__init__(f"{summary}. Ways out: {ways_out}")
        self.summary = summary


class UnreadableFile(ExportError):
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
