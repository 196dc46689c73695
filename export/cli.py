"""The options of `python -m export`, their help and the form of their values."""

import argparse
import re
from pathlib import Path
from typing import get_args

from export.artefact.description import Interpolation, OutputKind, ResizeMode
from export.convert.normalisation import BGR, BGR_MEANING, MEANINGS, OWN_NUMBERS, OWN_NUMBERS_MEANING, by_name
from export.convert.parity import TOLERANCE
from export.errors import program
from export.images.resize import LOADERS
from export.precision.agreement import MIN_AGREEMENT
from export.sources import architectures

DEFAULT_ARCHITECTURE = "resnet50"

EPILOG = """\
architectures: {names}

examples:
  {program}                            ResNet50 with its ImageNet weights
  {program} efficientnet-lite0         weights that need no download
  {program} flowers.keras --labels flowers.txt --preprocess unit --like load_img
  {program} flowers.keras --images photos/       measure the normalisation on labelled images
  {program} flowers_savedmodel --labels flowers.txt --like image_dataset_from_directory
  {program} my.onnx --labels names.txt --preprocess torch --output-kind classes
  {program} --from models/resnet50/1 --precision int8 --calibrate photos/
"""


def parser() -> argparse.ArgumentParser:
    names = ", ".join(architecture.name for architecture in architectures.ARCHITECTURES.values())
    made = argparse.ArgumentParser(
        prog=program(),
        description="Export an image classifier to one ONNX file that Sluice serves.",
        epilog=EPILOG.format(names=names, program=program()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = made.add_argument
    add(
        "model",
        nargs="?",
        help=f"a model's file or folder, or an architecture by name (default: {DEFAULT_ARCHITECTURE}; list below)",
    )
    add("--keras", type=Path, metavar="PATH", help=".keras, .h5, a SavedModel folder or a Teachable Machine download")
    add("--onnx", type=Path, metavar="FILE", help="any framework's ONNX model, such as PyTorch's")
    add("--from", type=Path, metavar="PATH", dest="source", help="an fp32 artefact instead, for --precision")
    _add_model_options(made)
    _add_resize_options(made)
    _add_precision_options(made)
    _add_output_options(made)
    return made


def _add_model_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("the model").add_argument
    add(
        "--weights",
        default="imagenet",
        metavar="imagenet|none|FILE",
        help="default: imagenet; none: random; a file of your own needs --size, and, as any model of your own,"
        " --preprocess or --images",
    )
    add(
        "--fallback",
        metavar="ARCHITECTURE",
        help="exported instead if the ImageNet weights can't be downloaded, such as efficientnet-lite0",
    )
    add(
        "--labels",
        metavar="FILE|imagenet",
        help="names of the classes in the order of the outputs: one per line, or JSON (docs/artefact.md, Labels)",
    )
    add(
        "--classes",
        type=_positive,
        metavar="N",
        help="outputs of a named network (default: as many as labels, or as subfolders of --images)",
    )
    meanings = "; ".join(f"{name}: {meaning}" for name, meaning in {**_preprocess_meanings(), BGR: BGR_MEANING}.items())
    add(
        "--preprocess",
        type=_preprocess,
        metavar="|".join(_preprocess_meanings()),
        help=f"how pixels were scaled before training (default: what the file proves). {meanings}",
    )
    add(
        "--images",
        type=Path,
        metavar="FOLDER",
        help="labelled images, one subfolder per class: measures the accuracy, and the normalisation and the resize"
        " unless they are stated",
    )
    add(
        "--output-kind",
        choices=get_args(OutputKind),
        help="classes: one of N; binary: one of two; labels: independent; values: any numbers (default: what the file"
        " proves)",
    )
    add(
        "--size",
        type=_size,
        metavar="HxW",
        help="input size in pixels, if the model leaves it open, as a file of weights does; of a named network, another"
        " one than its own",
    )
    add("--layout", choices=("nchw", "nhwc"), help="where the channels are (default: seen in the input's shape)")


def _add_resize_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("how images are brought to the input size").add_argument
    add(
        "--like",
        choices=tuple(LOADERS),
        help="as this loader does, which loaded the images of the training (default: a guess, and answers may differ)",
    )
    add(
        "--resize",
        choices=get_args(ResizeMode),
        help="squash: both sides at once; crop: the shorter side and then the centre; the others as in Keras's loaders"
        " (default: squash; crop for efficientnet-lite0)",
    )
    add("--shorter-side", type=_positive, metavar="N", help="pixels before the crop (default: size x 256 / 224)")
    add("--interpolation", choices=get_args(Interpolation), help="default: bicubic, or that of --like")


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
        help="images of the kind that will be classified; half calibrate int8, half measure its agreement with fp32",
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
    add("--name", help="default: the architecture's, or the file's without its suffix")
    add(
        "--version",
        type=_positive,
        metavar="N",
        help="default: the next free number; with --if-missing or --force, 1 for fp32",
    )
    add("--opset", type=_opset, default=17, metavar="N", help="ONNX operator set, 13 to 18 (default: 17)")
    add(
        "--tolerance",
        type=_tolerance,
        default=TOLERANCE,
        metavar="P",
        help=f"largest difference of a probability to the original's (default: {TOLERANCE:g})",
    )
    # `sluice` passes on what the user typed, for advice to repeat.
    add("--typed", metavar="COMMAND", help=argparse.SUPPRESS)
    exclusive = parser.add_mutually_exclusive_group()
    exclusive.add_argument(
        "--if-missing", action="store_true", help="do nothing if the file (or the fallback's) is there already"
    )
    exclusive.add_argument(
        "--if-changed",
        action="store_true",
        help="do nothing if the newest version in fp32 was made from this file with these options; else write the next"
        " version",
    )
    exclusive.add_argument("--force", action="store_true", help="replace the file if it is there already")


def _preprocess(text: str) -> str:
    try:
        by_name(text)
    except ValueError as error:
        known = {**_preprocess_meanings(), BGR: BGR_MEANING}
        meanings = "".join(f"\n  {name:10}{meaning}" for name, meaning in known.items())
        raise argparse.ArgumentTypeError(f"{text!r} is no normalisation ({error}); choose one of{meanings}") from error
    return text


def _preprocess_meanings() -> dict[str, str]:
    return {**MEANINGS, OWN_NUMBERS: OWN_NUMBERS_MEANING}


def _positive(text: str) -> int:
    if not re.fullmatch(r"[1-9][0-9]{0,8}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return int(text)


def _opset(text: str) -> int:
    if text not in map(str, range(13, 19)):
        raise argparse.ArgumentTypeError(f"{text!r} is not an opset that tf2onnx writes: 13 to 18")
    return int(text)


def _tolerance(text: str) -> float:
    value = _number(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not between 0 and 1")
    return value


def _share(text: str) -> float:
    value = _number(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not between 0 and 1")
    return value


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return -1.0


def _size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"([1-9][0-9]{0,4})(?:x([1-9][0-9]{0,4}))?", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 224 or 240x320 (height x width)")
    return int(found[1]), int(found[2] or found[1])
