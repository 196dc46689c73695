"""Checks before any worker starts: that it may listen, and that what the settings ask for can be used."""

import ipaddress
import socket
from typing import Final

from stream.host.packages import refuse_packages
from stream.settings import IngestSettings, WebhookSettings

#: The generated module compares its version with that of protobuf, which clients in the same environment may replace.
_MODULES: Final = (
    "grpc",
    "grpc_health.v1.health",
    "grpc_reflection.v1alpha.reflection",
    "ingest.grpc_api.inference_pb2",
)


def refuse_open_bind(settings: IngestSettings) -> str:
    """Why ingest must not listen on the configured address, and what to do. Empty if it may."""
    if settings.asks_for_keys or settings.insecure_no_keys:
        return ""
    setting, address = (
        ("public_address", settings.public_address) if settings.public_address else ("host", settings.host)
    )
    if _is_loopback(address):
        return ""
    return (
        f"{setting} is {address!r}: all who can reach it could use this service. Make a key with "
        "`python -m ingest.keys add NAME --file FILE` and set SLUICE_API_KEYS_FILE, or set SLUICE_API_KEYS. "
        "To serve without keys, set SLUICE_INSECURE_NO_KEYS=true"
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


def refuse_urls(settings: IngestSettings) -> str:
    """Why images by URL or webhooks cannot be accepted, and what to do. Empty if they can, or are off."""
    extras = {"fetch_urls": "urls", "webhooks": "webhooks"}
    on = [name for name in extras if getattr(settings, name)]
    if on and (refusal := refuse_packages(("httpx", "httpcore"), extras[on[-1]])):
        return f"{on[0]} is on, but a package cannot be used: {refusal}"
    return ""


def refuse_delivery(settings: WebhookSettings) -> str:
    """Why webhooks cannot be delivered, and what to do. Empty if they can."""
    if not settings.webhooks:
        return "webhooks is off: set SLUICE_WEBHOOKS=true for this process and for ingest"
    return refuse_signing(settings)


def refuse_signing(settings: WebhookSettings) -> str:
    """Why webhooks cannot be signed, and what to do. Empty if they can."""
    if not settings.webhook_secret.get_secret_value():
        return (
            "webhook_secret is empty: set SLUICE_WEBHOOK_SECRET to that of the other senders, or make the first one "
            'with: echo "whsec_$(openssl rand -base64 32)"'
        )
    return refuse_packages(("httpx", "httpcore", "standardwebhooks.webhooks"), "webhooks")


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"
