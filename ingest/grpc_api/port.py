"""Checks, before any worker starts, that gRPC can be served. Imports no gRPC, which may not be installed."""

import socket
from importlib.util import find_spec

from stream.settings import IngestSettings


def refuse_grpc(settings: IngestSettings) -> str:
    """Why gRPC cannot be served as set, and what to do. Empty if it can, or is off.

    All workers bind the port themselves, with SO_REUSEPORT. A second ingest could do the same and take some of the
    calls, so the port is tried here without that option.
    """
    if not settings.grpc_port:
        return ""
    if not all(map(find_spec, ("grpc", "grpc_health", "grpc_reflection"))):
        return "grpc_port is set, but gRPC is not installed. Install it with: pip install 'sluice-serving[grpc]'"
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        socket.create_server((settings.host, settings.grpc_port), family=family).close()
    except OSError as error:
        return f"cannot listen on grpc_port {settings.grpc_port}: {error.strerror}; choose another with --grpc-port"
    return ""
