"""The methods for health, metadata and the repository. They do what the endpoints of REST do, by the same functions."""

from typing import Any, Final

from google.protobuf.json_format import ParseDict

from ingest.dispatch.model_client import ModelClient
from ingest.dispatch.registry import ModelRegistry
from ingest.errors import Problem
from ingest.grpc_api import inference_pb2 as pb
from ingest.grpc_api.calls import Call
from ingest.oip.metadata import model_configuration, model_metadata, repository_index, server_metadata
from ingest.oip.repository import ModelRepository

#: The metadata that says which versions were not loaded, and why.
_PASSED_OVER: Final = "sluice-passed-over"


class MetadataMethods:
    """The methods that need the registry alone. Each takes a request and returns its response."""

    def __init__(self, registry: ModelRegistry) -> None:
        self._registry = registry

    async def server_live(self, _request: pb.ServerLiveRequest) -> pb.ServerLiveResponse:
        return pb.ServerLiveResponse(live=True)

    async def server_ready(self, _request: pb.ServerReadyRequest) -> pb.ServerReadyResponse:
        """Not ready is an answer, and no error: the protocol has a field for it."""
        return pb.ServerReadyResponse(ready=is_ready(self._registry))

    async def model_ready(self, request: pb.ModelReadyRequest) -> pb.ModelReadyResponse:
        try:
            self._registry.refuse_in_outage()
            self._served(request)
        except Problem:
            return pb.ModelReadyResponse(ready=False)
        return pb.ModelReadyResponse(ready=True)

    async def server_metadata(self, _request: pb.ServerMetadataRequest) -> pb.ServerMetadataResponse:
        return pb.ServerMetadataResponse(**server_metadata())

    async def model_metadata(self, request: pb.ModelMetadataRequest) -> pb.ModelMetadataResponse:
        found = await model_metadata(self._served(request), request.version or None)
        response = pb.ModelMetadataResponse()
        ParseDict(dict(found), response)
        return response

    async def model_configuration(self, request: pb.ModelConfigRequest) -> pb.ModelConfigResponse:
        found = await model_configuration(self._served(request), request.version or None)
        return pb.ModelConfigResponse(config=ParseDict(found, pb.ModelConfig()))

    async def repository_index(self, request: pb.RepositoryIndexRequest) -> pb.RepositoryIndexResponse:
        """The filter changes nothing: all that is listed is ready."""
        models: list[Any] = list(repository_index(self._registry, ready=request.ready))
        return pb.RepositoryIndexResponse(models=models)

    def _served(self, request: pb.ModelReadyRequest | pb.ModelMetadataRequest | pb.ModelConfigRequest) -> ModelClient:
        return self._registry.find_served(request.name, request.version or None)


class RepositoryMethods:
    """Each takes a request and returns an empty response when all consumers have done it."""

    def __init__(self, repository: ModelRepository) -> None:
        self._repository = repository

    async def load(self, request: pb.RepositoryModelLoadRequest, call: Call) -> pb.RepositoryModelLoadResponse:
        """The protocol's response is empty, so what was passed over is in the metadata that follows it."""
        loaded = await self._repository.load(self._repository.find(request.model_name), request.parameters)
        if passed_over := loaded.get("passed_over"):
            call.trailing[_PASSED_OVER] = "; ".join(passed_over).encode("ascii", "replace").decode()
        return pb.RepositoryModelLoadResponse()

    async def unload(self, request: pb.RepositoryModelUnloadRequest) -> pb.RepositoryModelUnloadResponse:
        await self._repository.unload(self._repository.find(request.model_name), request.parameters)
        return pb.RepositoryModelUnloadResponse()


def is_ready(registry: ModelRegistry) -> bool:
    """Whether images are accepted."""
    try:
        registry.require_ready()
    except Problem:
        return False
    return True
