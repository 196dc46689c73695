"""The options of the command line, their help and the form of their values."""

import argparse
import re
from pathlib import Path

from export.convert.normalisation import CHOICES
from export.convert.parity import TOLERANCE
from export.precision.agreement import MIN_AGREEMENT
from export.sources import architectures

DEFAULT_ARCHITECTURE = "resnet50"

EPILOG = """\
architectures: {names}

examples:
  python -m export                            ResNet50 with its ImageNet weights
  python -m export efficientnet-lite0         weights that need no download
  python -m export --keras my.keras --labels names.txt --preprocess unit
  python -m export --onnx my.onnx --labels names.txt --preprocess torch
  python -m export --from models/resnet50/1 --precision int8 --calibrate photos/
"""


def parser() -> argparse.ArgumentParser:
    names = ", ".join(architecture.name for architecture in architectures.ARCHITECTURES.values())
    made = argparse.ArgumentParser(
        prog="python -m export",
        description="Export an image classifier to one ONNX file that Sluice serves.",
        epilog=EPILOG.format(names=names),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = made.add_argument
    add("architecture", nargs="?", help=f"a network by name (default: {DEFAULT_ARCHITECTURE}; list below)")
    add("--keras", type=Path, metavar="FILE", help="your own model instead, .keras or .h5")
    add("--onnx", type=Path, metavar="FILE", help="any framework's ONNX classifier instead, such as PyTorch's")
    add("--from", type=Path, metavar="PATH", dest="source", help="an fp32 artefact instead, for --precision")
    _add_model_options(made)
    _add_resize_options(made)
    _add_precision_options(made)
    _add_output_options(made)
    return made


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
    add(
        "--layout",
        choices=("nchw", "nhwc"),
        help="with --onnx: where the channels are (default: seen in the file)",
    )
    add(
        "--softmax",
        choices=("auto", "yes", "no"),
        default="auto",
        help="with --onnx: whether one is added (default: auto, by the file's answers)",
    )


def _add_resize_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("how images are brought to the input size").add_argument
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


def _add_precision_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("smaller and faster").add_argument
    add(
        "--precision",
        choices=("fp32", "fp16", "int8"),
        default="fp32",
        help="fp16 for GPUs, int8 for CPUs with VNNI (default: fp32)",
    )
    add(
        "--calibrate",
        type=Path,
        metavar="FOLDER",
        help="images of the kind that will be classified; half calibrate int8, half tell its agreement with fp32",
    )
    add(
        "--min-agreement",
        type=_share,
        default=MIN_AGREEMENT,
        metavar="P",
        help=f"share of images whose top-1 must be fp32's, else nothing is written (default: {MIN_AGREEMENT:g})",
    )


def _add_output_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("the file").add_argument
    add(
        "--output",
        type=Path,
        metavar="DIR",
        help="model repository (default: models; with --from, the one that the artefact is in)",
    )
    add("--name", help="default: the architecture's, or the file's without its ending")
    add("--version", type=_positive, metavar="N", help="default: 1; for fp16 and int8 the next free number")
    add("--opset", type=_opset, default=17, metavar="N", help="ONNX operator set, 13 to 18 (default: 17)")
    add(
        "--tolerance",
        type=_tolerance,
        default=TOLERANCE,
        metavar="P",
        help=f"largest difference of a probability to Keras's or the file's (default: {TOLERANCE:g})",
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


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not between 0 and 1")
    return value


def _size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"([1-9][0-9]{0,4})(?:x([1-9][0-9]{0,4}))?", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 224 or 240x320 (height x width)")
    return int(found[1]), int(found[2] or found[1])
