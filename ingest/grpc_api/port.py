"""Checks, before any worker starts, that gRPC can be served."""

import socket
from typing import Final

from stream.host.packages import refuse_packages
from stream.settings import IngestSettings

#: The generated module compares its version with that of protobuf, which clients in the same environment may replace.
_MODULES: Final = (
    "grpc",
    "grpc_health.v1.health",
    "grpc_reflection.v1alpha.reflection",
    "ingest.grpc_api.inference_pb2",
)


def refuse_grpc(settings: IngestSettings) -> str:
    """Why gRPC cannot be served as set, and what to do. Empty if it can, or is off.

    All workers bind the port themselves, with SO_REUSEPORT. A second ingest could do the same and take some of the
    calls, so the port is tried here without that option.
    """
    if not settings.grpc_port:
        return ""
    if refusal := refuse_packages(_MODULES, "grpc"):
        return f"grpc_port is set, but gRPC cannot be used: {refusal}"
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        socket.create_server((settings.host, settings.grpc_port), family=family).close()
    except OSError as error:
        return f"cannot listen on grpc_port {settings.grpc_port}: {error.strerror}; choose another with --grpc-port"
    return ""
