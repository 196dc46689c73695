"""The methods that load and unload models. They do what the endpoints of REST do, by the same rules."""

from ingest.grpc_api import inference_pb2 as pb
from ingest.oip.repository import ModelRepository


class RepositoryMethods:
    """Each takes a request and returns an empty response when all consumers have done it."""

    def __init__(self, repository: ModelRepository) -> None:
        self._repository = repository

    async def load(self, request: pb.RepositoryModelLoadRequest) -> pb.RepositoryModelLoadResponse:
        await self._repository.load(self._repository.find(request.model_name), request.parameters)
        return pb.RepositoryModelLoadResponse()

    async def unload(self, request: pb.RepositoryModelUnloadRequest) -> pb.RepositoryModelUnloadResponse:
        await self._repository.unload(self._repository.find(request.model_name), request.parameters)
        return pb.RepositoryModelUnloadResponse()
