"""Refuses to serve on an address that others can reach, unless API keys protect it or the settings allow it."""

import ipaddress

from stream.settings import IngestSettings


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


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"
