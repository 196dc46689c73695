"""Parses an inference request: its images, and the form of the response that it asks for."""

from dataclasses import dataclass
from typing import Any, Final

from ingest.classification import MAX_IMAGES, Image
from ingest.errors import BadParameter
from ingest.oip.tensors import INPUT, OUTPUT_NAMES, elements, output_name, pixels
from ingest.oip.wire import Message
from ingest.request_json import shown
from stream.model import ModelDescription


@dataclass(frozen=True, slots=True)
class InferRequest:
    """A parsed request.

    `id` is the client's, and is returned to it. `binary` asks for binary data instead of JSON numbers. `classes` is
    the number of labels wanted for each image; 0: all probabilities.
    """

    id: str
    images: list[Image]
    binary: bool
    classes: int


def parse_request(message: Message, model: ModelDescription) -> InferRequest:
    """Raises BadParameter unless the request is one for this model."""
    document = message.document
    parameters = _parameters(document)
    binary, classes = _output(document.get("outputs"), _flag(parameters, "binary_data_output"), model)
    return InferRequest(
        id=_text(document, "id"),
        images=_images(_only(document.get("inputs"), INPUT), message, model),
        binary=binary,
        classes=classes,
    )


def _images(tensor: dict[str, Any], message: Message, model: ModelDescription) -> list[Image]:
    image = [model.height, model.width, model.channels]
    shape = tensor.get("shape")
    if not (isinstance(shape, list) and shape and all(type(one) is int and one >= 0 for one in shape)):
        raise BadParameter(f"shape of {INPUT} must be a list of whole numbers, as {[1, *image]}.")
    match tensor.get("datatype"):
        case "UINT8" if shape[1:] == image:
            _check_count(shape[0])
            return pixels(_data(tensor, message, numbers=True), shape[0], model.input_bytes)
        case "BYTES" if shape[1:] in ([], [1]):
            _check_count(shape[0])
            return elements(_data(tensor, message, numbers=False), shape[0])
        case datatype:
            raise BadParameter(
                f"{INPUT} is {shown(datatype)} {shown(shape)}; this model takes UINT8 "
                f"[N, {model.height}, {model.width}, {model.channels}] (pixels) or BYTES [N] (encoded images, such as "
                "JPEG or PNG)."
            )


def _check_count(count: int) -> None:
    if not 1 <= count <= MAX_IMAGES:
        raise BadParameter(f"The request has {count} images; a request has 1 to {MAX_IMAGES}.")


def _data(tensor: dict[str, Any], message: Message, *, numbers: bool) -> memoryview | list[Any]:
    """Binary data, or the numbers or strings of the JSON."""
    parameters = _parameters(tensor)
    if "shared_memory_region" in parameters:
        raise BadParameter("Shared memory is not supported. Send the tensor in the request.")
    size = parameters.get("binary_data_size")
    if size is not None:
        if type(size) is not int or size != len(message.binary) or "data" in tensor:
            raise BadParameter(
                f"binary_data_size of {INPUT} is {shown(size)}, and {len(message.binary)} bytes follow the JSON; "
                "they must be equal, and the tensor must have no data of its own."
            )
        return message.binary
    if len(message.binary):
        raise BadParameter(f"{len(message.binary)} bytes follow the JSON, but {INPUT} has no binary_data_size.")
    data = tensor.get("data")
    if isinstance(data, list):
        return data
    wanted = "whole numbers from 0 to 255" if numbers else "strings"
    raise BadParameter(f"data of {INPUT} must be a list of {wanted}.")


def _output(outputs: object, binary: bool, model: ModelDescription) -> tuple[bool, int]:
    if outputs is None or outputs == []:
        return binary, 0
    parameters = _parameters(_only(outputs, output_name(model.output_kind)))
    if "shared_memory_region" in parameters:
        raise BadParameter("Shared memory is not supported. The response contains the tensor.")
    classes = parameters.get("classification", 0)
    if type(classes) is not int or classes < 0:
        raise BadParameter(f"classification is {shown(classes)}; it must say how many labels are wanted.")
    if classes and model.output_kind == "values":
        raise BadParameter(f"{model.name} gives values, which have no classification.")
    return _flag(parameters, "binary_data") if "binary_data" in parameters else binary, classes


def _only(tensors: object, name: str) -> dict[str, Any]:
    """The one tensor of the list, which has this name."""
    named = [one.get("name") if isinstance(one, dict) else None for one in tensors] if isinstance(tensors, list) else []
    if named != [name]:
        raise BadParameter(f"The tensors are {shown(named)}; there must be one, named {name}.")
    assert isinstance(tensors, list)
    found: dict[str, Any] = tensors[0]
    return found


def _parameters(described: dict[str, Any]) -> dict[str, Any]:
    """Those of a request or of a tensor."""
    found = described.get("parameters")
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise BadParameter("parameters must be an object.")
    return found


def _flag(parameters: dict[str, Any], name: str) -> bool:
    flag = parameters.get(name, False)
    if not isinstance(flag, bool):
        raise BadParameter(f"{name} is {shown(flag)}; it must be true or false.")
    return flag


def _text(document: dict[str, Any], name: str) -> str:
    text = document.get(name)
    if text is None:
        return ""
    if not isinstance(text, str):
        raise BadParameter(f"{name} is {shown(text)}; it must be a string.")
    return text


_PARAMETERS: Final = {"type": ["object", "null"]}

#: The request's schema. It cannot say whether the data agrees with its shape.
REQUEST_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": {"type": ["string", "null"]},
        "parameters": {"type": ["object", "null"], "properties": {"binary_data_output": {"type": "boolean"}}},
        "inputs": {
            "type": "array",
            "minItems": 1,
            "maxItems": 1,
            "items": {
                "type": "object",
                "required": ["name", "datatype", "shape"],
                "properties": {
                    "name": {"const": INPUT},
                    "datatype": {"enum": ["UINT8", "BYTES"]},
                    "shape": {
                        "type": "array",
                        "items": {"type": "integer", "minimum": 0},
                        "minItems": 1,
                        "maxItems": 4,
                    },
                    "data": {"type": "array", "items": {}},
                    "parameters": _PARAMETERS,
                },
            },
        },
        "outputs": {
            "type": ["array", "null"],
            "maxItems": 1,
            "items": {
                "type": "object",
                "required": ["name"],
                "properties": {
                    "name": {"enum": list(OUTPUT_NAMES)},
                    "parameters": {
                        "type": ["object", "null"],
                        "properties": {
                            "classification": {"type": "integer", "minimum": 0},
                            "binary_data": {"type": "boolean"},
                        },
                    },
                },
            },
        },
    },
}
