"""The command line: options in, a job and how to go about it out.  Knows no TensorFlow.

Argparse ends with exit status 2 by itself, as the package's own errors do.
"""

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from export import architectures, labels
from export.architectures import Architecture
from export.errors import BadArgument
from export.job import Job
from export.normalisation import CHOICES
from export.parity import TOLERANCE

DEFAULT_ARCHITECTURE = "resnet50"

EPILOG = """\
architectures: {names}

examples:
  python -m export                            ResNet50 with its ImageNet weights
  python -m export efficientnet-lite0         weights that need no download
  python -m export --keras my.keras --labels names.txt --preprocess unit
"""


@dataclass(frozen=True, slots=True)
class Arguments:
    job: Job
    fallback: Architecture | None
    if_missing: bool
    force: bool


def parse(argv: Sequence[str] | None = None) -> Arguments:
    """Raises BadArgument and UnreadableFile; argparse's own SystemExit(2) for what it checks."""
    given = _parser().parse_args(argv)
    if given.keras is not None and (given.architecture is not None or given.fallback is not None):
        raise BadArgument("--keras FILE is a model of its own: leave out the architecture and --fallback")
    job = Job(
        architecture=None
        if given.keras is not None
        else architectures.find(given.architecture or DEFAULT_ARCHITECTURE),
        keras_file=given.keras,
        weights=given.weights if given.weights in ("imagenet", "none") else Path(given.weights),
        classes=given.classes,
        labels=None if given.labels is None else labels.read(given.labels),
        preprocess=given.preprocess,
        size=given.size,
        resize=given.resize,
        shorter_side=given.shorter_side,
        interpolation=given.interpolation,
        name=given.name,
        version=given.version,
        output=given.output,
        opset=given.opset,
        tolerance=given.tolerance,
    )
    fallback = None if given.fallback is None else architectures.find(given.fallback)
    return Arguments(job, fallback, given.if_missing, given.force)


def _parser() -> argparse.ArgumentParser:
    names = ", ".join(architecture.name for architecture in architectures.ARCHITECTURES.values())
    parser = argparse.ArgumentParser(
        prog="python -m export",
        description="Export a Keras image classifier to one ONNX file that Sluice serves.",
        epilog=EPILOG.format(names=names),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("architecture", nargs="?", help=f"a network by name (default: {DEFAULT_ARCHITECTURE}; list below)")
    add("--keras", type=Path, metavar="FILE", help="your own model instead, .keras or .h5")
    _add_model_options(parser)
    _add_resize_options(parser)
    _add_output_options(parser)
    return parser


def _add_model_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("the model").add_argument
    add("--weights", default="imagenet", metavar="imagenet|none|FILE", help="default: imagenet; none: random")
    add(
        "--fallback",
        metavar="ARCHITECTURE",
        help="exported instead, where the ImageNet weights can't be downloaded, such as efficientnet-lite0",
    )
    add("--labels", type=Path, metavar="FILE", help="names of the classes: one per line, or JSON")
    add(
        "--classes",
        type=_positive,
        metavar="N",
        help="outputs of a named network (default: as many as labels)",
    )
    add("--preprocess", choices=CHOICES, help="how the network wants its pixels (default: known by name)")
    add("--size", type=_size, metavar="HxW", help="input size in pixels, where the model leaves it open")


def _add_resize_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("how pictures are brought to the input size").add_argument
    add(
        "--resize",
        choices=("squash", "crop"),
        help="both sides at once, or the shorter side and then the centre (default: squash;"
        " crop for efficientnet-lite0)",
    )
    add(
        "--shorter-side",
        type=_positive,
        metavar="N",
        help="pixels before the crop (default: size x 256 / 224)",
    )
    add(
        "--interpolation",
        choices=("nearest", "bilinear", "bicubic", "lanczos"),
        default="bicubic",
        help="default: bicubic",
    )


def _add_output_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("the file").add_argument
    add(
        "--output",
        type=Path,
        default=Path("models"),
        metavar="DIR",
        help="model repository (default: models)",
    )
    add("--name", help="default: the architecture's, or the file's without its ending")
    add("--version", type=_positive, default=1, metavar="N", help="default: 1")
    add("--opset", type=_opset, default=17, metavar="N", help="ONNX operator set, 13 to 18 (default: 17)")
    add(
        "--tolerance",
        type=_tolerance,
        default=TOLERANCE,
        metavar="P",
        help=f"largest difference of a probability to Keras's (default: {TOLERANCE:g})",
    )
    exclusive = parser.add_mutually_exclusive_group()
    exclusive.add_argument(
        "--if-missing",
        action="store_true",
        help="do nothing where the file (or the fallback's) is there already",
    )
    exclusive.add_argument("--force", action="store_true", help="replace the file where it is there already")


def _positive(text: str) -> int:
    if not re.fullmatch(r"[1-9][0-9]{0,8}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return int(text)


def _opset(text: str) -> int:
    if text not in map(str, range(13, 19)):
        raise argparse.ArgumentTypeError(f"{text!r} is not an opset that tf2onnx writes: 13 to 18")
    return int(text)


def _tolerance(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not between 0 and 1")
    return value


def _size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"([1-9][0-9]{0,4})(?:x([1-9][0-9]{0,4}))?", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 224 or 240x320 (height x width)")
    return int(found[1]), int(found[2] or found[1])
