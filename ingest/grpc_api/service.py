"""The table of all methods, each with its messages."""

from collections.abc import Awaitable, Callable
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError, Message
from grpc_reflection.v1alpha import reflection, reflection_pb2

from ingest.errors import BadParameter
from ingest.grpc_api import inference_pb2 as pb
from ingest.grpc_api.arrivals import Arrivals
from ingest.grpc_api.calls import Call, Calls
from ingest.grpc_api.context import Context
from ingest.grpc_api.inference import InferMethods
from ingest.grpc_api.metadata import MetadataMethods, RepositoryMethods
from ingest.request_trace import stage

SERVICE: Final[str] = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name

#: The handlers of a service by the names of its methods.
Handlers = dict[str, grpc.RpcMethodHandler]


class Service:
    """Makes the handlers.

    On the wire, a call with one request is a stream with one message. Here the requests of each method are a stream, so
    that keys and limits are checked before the request is read.
    """

    def __init__(self, calls: Calls, arrivals: Arrivals) -> None:
        self._calls = calls
        self._arrivals = arrivals

    def inference(self, infer: InferMethods, metadata: MetadataMethods, repository: RepositoryMethods) -> Handlers:
        """All methods of the Open Inference Protocol."""
        return {
            "ServerLive": self._simple("ServerLive", pb.ServerLiveRequest, metadata.server_live),
            "ServerReady": self._simple("ServerReady", pb.ServerReadyRequest, metadata.server_ready),
            "ModelReady": self._simple("ModelReady", pb.ModelReadyRequest, metadata.model_ready),
            "ServerMetadata": self._simple("ServerMetadata", pb.ServerMetadataRequest, metadata.server_metadata),
            "ModelMetadata": self._simple("ModelMetadata", pb.ModelMetadataRequest, metadata.model_metadata),
            "ModelConfig": self._simple("ModelConfig", pb.ModelConfigRequest, metadata.model_configuration),
            "RepositoryIndex": self._simple("RepositoryIndex", pb.RepositoryIndexRequest, metadata.repository_index),
            "RepositoryModelLoad": self._unary("RepositoryModelLoad", pb.RepositoryModelLoadRequest, repository.load),
            "RepositoryModelUnload": self._simple(
                "RepositoryModelUnload", pb.RepositoryModelUnloadRequest, repository.unload
            ),
            "ModelInfer": self._unary("ModelInfer", pb.ModelInferRequest, infer.infer),
            "ModelStreamInfer": self._stream(
                f"/{SERVICE}/ModelStreamInfer", pb.ModelInferRequest, infer.stream, streamed=True
            ),
        }

    def reflection(self, services: tuple[str, ...]) -> Handlers:
        """The description of these services, for clients such as grpcurl."""
        described = (*services, reflection.SERVICE_NAME)
        servicer = reflection.aio.ReflectionServicer(described)

        async def reflect(call: Call) -> None:
            async for response in servicer.ServerReflectionInfo(_requests(call.context), call.context):
                await call.context.write(response)

        name = "ServerReflectionInfo"
        method = f"/{reflection.SERVICE_NAME}/{name}"
        return {name: self._stream(method, reflection_pb2.ServerReflectionRequest, reflect)}

    def _simple(
        self,
        name: str,
        request: type[Message],
        method: Callable[[Any], Awaitable[Any]],
    ) -> grpc.RpcMethodHandler:
        return self._unary(name, request, lambda message, _call: method(message))

    def _unary(
        self,
        name: str,
        request: type[Message],
        method: Callable[[Any, Call], Awaitable[Any]],
    ) -> grpc.RpcMethodHandler:
        async def serve(call: Call) -> Message:
            with stage("upload"):
                message = await self._arrivals.read(call.context)
            response: Message = await method(message, call)
            return response

        async def handle(_requests: object, context: Context) -> Message:
            return await self._calls.run(Call(f"/{SERVICE}/{name}", context), serve)

        # gRPC sends a response that is returned together with its status, in one step instead of two.
        return grpc.stream_unary_rpc_method_handler(handle, _parser(request), _serialized)

    def _stream(
        self,
        method: str,
        request: type[Message],
        serve: Callable[[Call], Awaitable[None]],
        *,
        streamed: bool = False,
    ) -> grpc.RpcMethodHandler:
        async def handle(_requests: object, context: Context) -> None:
            await self._calls.run(Call(method, context), serve, streamed=streamed)

        return grpc.stream_stream_rpc_method_handler(handle, _parser(request), _serialized)


def _parser(request: type[Message]) -> Callable[[bytes], Message]:
    def parse(data: bytes) -> Message:
        try:
            message: Message = request.FromString(data)
        except DecodeError as error:
            raise BadParameter(f"The request is no {request.DESCRIPTOR.name}.") from error
        return message

    return parse


def _serialized(message: Message) -> bytes:
    serialized: bytes = message.SerializeToString()
    return serialized


async def _requests(context: Context) -> Any:  # noqa: ANN401 (an iterator of messages)
    while (request := await context.read()) is not grpc.aio.EOF:
        yield request
