"""Parses requests of TensorFlow Serving's REST API: images as numbers, or as base64 in `{"b64": ...}`.

Numbers are the pixels of one image, [height, width, channels]. They are whole numbers from 0 to 255, or the same
divided by 255, as training code often does. Which of both is decided for the whole request, and never guessed.
"""

import io
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from ingest.classification import MAX_IMAGES, Image
from ingest.errors import BadParameter
from ingest.request_body import Upload
from ingest.request_json import decode_base64, flatten, shown
from stream.model import ModelDescription

SIGNATURE: Final = "serving_default"

_FEATURE: Final = "b64"

#: How far 255 times a number may be from a whole number: float32 has seven digits.
_ROUNDING: Final = 1e-3

Pixels = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PredictRequest:
    """`columns`: whether request and response are in column format (`inputs`) or in row format (`instances`)."""

    images: list[Image]
    columns: bool


def parse_predict(document: dict[str, Any], model: ModelDescription) -> PredictRequest:
    """Raises BadParameter."""
    _check_signature(document)
    if ("instances" in document) == ("inputs" in document):
        raise BadParameter('The request needs either "instances" (row format) or "inputs" (column format).')
    columns = "inputs" in document
    items = _columns(document["inputs"]) if columns else document["instances"]
    return PredictRequest(_images(items, model, "inputs" if columns else "instances"), columns)


def parse_classify(document: dict[str, Any], model: ModelDescription) -> list[Image]:
    """The images of a `:classify` request, one feature in each example; raises BadParameter."""
    _check_signature(document)
    if document.get("context"):
        raise BadParameter("context is not supported. Put the image into each example.")
    examples = document.get("examples")
    if isinstance(examples, list) and not all(isinstance(one, dict) for one in examples):
        raise BadParameter('Each of "examples" must be an object with one feature, the image.')
    return _images(examples, model, "examples")


def _check_signature(document: dict[str, Any]) -> None:
    name = document.get("signature_name")
    if name not in (None, "", SIGNATURE):
        raise BadParameter(f"There is no signature {shown(name)}; the only one is {SIGNATURE!r}.")


def _columns(inputs: object) -> object:
    """The batch of the only input, which may be named."""
    if isinstance(inputs, dict) and not _is_base64(inputs):
        inputs = _value(inputs, "inputs")
    return [inputs] if isinstance(inputs, dict) else inputs


def _images(items: object, model: ModelDescription, name: str) -> list[Image]:
    if not isinstance(items, list):
        raise BadParameter(f'"{name}" must be a list of images.')
    if not 1 <= len(items) <= MAX_IMAGES:
        raise BadParameter(f"The request has {len(items)} images; a request has 1 to {MAX_IMAGES}.")
    parsed = [_parse(item, f"{name}[{number}]", model) for number, item in enumerate(items)]
    scale = _scale([one for one in parsed if not isinstance(one, Upload)])
    return [one if isinstance(one, Upload) else _image(one, scale, model) for one in parsed]


def _parse(item: object, name: str, model: ModelDescription) -> Upload | Pixels:
    if isinstance(item, dict) and not _is_base64(item):
        item = _value(item, name)
    if isinstance(item, dict) and _is_base64(item):
        return Upload(None, decode_base64(item[_FEATURE], name))
    if not isinstance(item, list):
        raise BadParameter(f'{name} must be an image: an array of numbers, or {{"b64": "..."}}.')
    return _pixels(item, name, model)


def _is_base64(item: dict[str, Any]) -> bool:
    return set(item) == {_FEATURE}


def _value(item: dict[str, Any], name: str) -> object:
    """The value of the only input of the model, whatever the client calls it."""
    if len(item) != 1:
        raise BadParameter(f"{name} names {len(item)} inputs; the model has one.")
    return next(iter(item.values()))


def _pixels(item: list[Any], name: str, model: ModelDescription) -> Pixels:
    try:
        array = np.array(item, np.float64) if set(map(type, flatten(item))) <= {int, float} else None
    except (ValueError, OverflowError):
        array = None
    if array is None:
        raise BadParameter(f"{name} is no array of numbers with one shape.")
    if array.shape == (model.input_bytes,):
        array = array.reshape(model.height, model.width, model.channels)
    if array.ndim == 2 and model.channels == 1:
        array = array[:, :, None]
    if array.size == 0 or array.ndim != 3 or array.shape[2] != model.channels:
        raise BadParameter(
            f"{name} has the shape {list(array.shape)}; an image of {model.name} has the shape "
            f"[{model.height}, {model.width}, {model.channels}], or another height and width."
        )
    return array


def _scale(arrays: list[Pixels]) -> float:
    """1 for pixels from 0 to 255, 255 for pixels from 0 to 1; raises BadParameter if they are neither."""
    if not arrays:
        return 1.0
    low, high = min(one.min() for one in arrays), max(one.max() for one in arrays)
    whole = all((one == np.rint(one)).all() for one in arrays)
    if whole and 0 <= low <= high <= 255 and high != 1:
        return 1.0
    if not whole and 0 <= low <= high <= 1 and all(_is_unit(one) for one in arrays):
        return 255.0
    found = f"numbers from {low:g} to {high:g}"
    if high == 1 and whole:
        found = "only the numbers 0 and 1, which may mean either"
    elif 0 <= low <= high <= 255:
        # A client that resizes the image itself, or shortens the numbers, has the right range.
        found = f"{_odd(arrays, 255.0 if high <= 1 else 1.0):g}, which is neither"
    raise BadParameter(
        f"Pixels must be whole numbers from 0 to 255, or these divided by 255; the request has {found}. The model "
        'normalises pixels itself. Send whole numbers, or the encoded image as {"b64": "..."}.'
    )


def _is_unit(array: Pixels) -> bool:
    return bool((_from_whole(array * 255) < _ROUNDING).all())


def _from_whole(array: Pixels) -> Pixels:
    """How far each number is from a whole one."""
    return np.abs(array - np.rint(array))


def _odd(arrays: list[Pixels], scale: float) -> float:
    """The number that is farthest from a pixel."""
    numbers = np.concatenate([one.ravel() for one in arrays])
    return float(numbers[_from_whole(numbers * scale).argmax()])


def _image(array: Pixels, scale: float, model: ModelDescription) -> Image:
    pixels = np.rint(array * scale).astype(np.uint8)
    if pixels.shape == (model.height, model.width, model.channels):
        return memoryview(pixels.tobytes())
    # Of another size: a file without loss, which is decoded and resized as any other.
    stream = io.BytesIO()
    PillowImage.fromarray(pixels[:, :, 0] if model.channels == 1 else pixels).save(stream, "PNG", compress_level=0)
    return Upload(None, stream.getvalue())
