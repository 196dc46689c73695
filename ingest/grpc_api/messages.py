"""Between the messages of gRPC and the requests and answers that all transports share.

A request becomes the document that JSON would be, so that the same code checks both.
"""

from collections.abc import Mapping
from typing import Any, Final

from ingest.errors import BadParameter, PayloadTooLarge
from ingest.grpc_api import inference_pb2 as pb
from ingest.oip.infer_request import InferRequest
from ingest.oip.infer_response import Answer
from ingest.oip.wire import Message
from ingest.request_json import MAX_JSON

#: The field of typed contents for each type of input (the protocol's table of tensor data types).
_CONTENTS: Final = {"UINT8": "uint_contents", "BYTES": "bytes_contents"}


def values_in(request: pb.ModelInferRequest) -> int:
    """How many numbers of typed contents must be checked one by one. Raises PayloadTooLarge."""
    count = sum(len(tensor.contents.uint_contents) for tensor in request.inputs)
    if count > MAX_JSON:
        raise PayloadTooLarge(
            f"The request has {count} numbers; at most {MAX_JSON} are accepted. Send raw_input_contents."
        )
    return count


def as_message(request: pb.ModelInferRequest) -> Message:
    """The request as a document, with raw contents as its binary data. Raises BadParameter.

    The response has raw contents if the request has, unless a parameter says otherwise.
    """
    raw = list(request.raw_input_contents)
    if raw and len(raw) != len(request.inputs):
        raise BadParameter(
            f"raw_input_contents has {len(raw)} elements, and inputs has {len(request.inputs)}; both must have one."
        )
    inputs = [_input(tensor, raw[at] if raw else None) for at, tensor in enumerate(request.inputs)]
    document = {
        "id": request.id,
        "parameters": {"binary_data_output": bool(raw)} | _parameters(request.parameters),
        "inputs": inputs,
        "outputs": [{"name": one.name, "parameters": _parameters(one.parameters)} for one in request.outputs],
    }
    return Message(document, memoryview(b"".join(raw)))


def _input(tensor: pb.ModelInferRequest.InferInputTensor, raw: bytes | None) -> dict[str, Any]:
    document = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
    parameters = _parameters(tensor.parameters)
    given = [field.name for field, _ in tensor.contents.ListFields()]
    if raw is not None:
        if given:
            raise BadParameter(f"{tensor.name} has raw_input_contents and {', '.join(given)}; send one of them.")
        return document | {"parameters": parameters | {"binary_data_size": len(raw)}}
    field = _CONTENTS.get(tensor.datatype, "")
    if field and given != [field]:
        raise BadParameter(
            f"{tensor.name} has {', '.join(given) or 'no contents'}; send {tensor.datatype} as raw_input_contents "
            f"or as {field}."
        )
    return document | {"parameters": parameters, "data": list(getattr(tensor.contents, field)) if field else []}


def _parameters(given: Mapping[str, pb.InferParameter]) -> dict[str, Any]:
    """The parameters as JSON has them."""
    chosen = ((name, one, one.WhichOneof("parameter_choice")) for name, one in given.items())
    return {name: getattr(one, choice) if choice else None for name, one, choice in chosen}


def as_response(asked: InferRequest, answer: Answer) -> pb.ModelInferResponse:
    """The answer, raw or typed as the request asks for."""
    response = pb.ModelInferResponse(
        model_name=answer.model,
        model_version=answer.version,
        id=asked.id,
        raw_output_contents=[answer.data] if asked.binary else [],
    )
    response.outputs.add(
        name=answer.tensor,
        datatype=answer.datatype,
        shape=answer.shape,
        contents=None if asked.binary else _typed(answer),
    )
    return response


def _typed(answer: Answer) -> pb.InferTensorContents:
    if answer.texts is None:
        return pb.InferTensorContents(fp32_contents=answer.rows.ravel().tolist())
    return pb.InferTensorContents(bytes_contents=[text.encode() for row in answer.texts for text in row])
