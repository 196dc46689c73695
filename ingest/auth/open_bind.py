"""Exposure: whether ingest may listen where it was told to, with or without keys. Knows no HTTP."""

import ipaddress

from stream.settings import Settings


def why_not_open(settings: Settings) -> str:
    """Why ingest must not listen as the settings say, and what to do; empty where it may."""
    if settings.asks_for_keys or settings.insecure_no_keys:
        return ""
    setting, address = (
        ("public_address", settings.public_address) if settings.public_address else ("host", settings.host)
    )
    if _is_loopback(address):
        return ""
    return (
        f"{setting} is {address!r}: anybody who reaches it could use this service. Make a key with "
        "`python -m ingest.keys add NAME --file FILE` and set SLUICE_API_KEYS_FILE, or set SLUICE_API_KEYS; "
        "or say that anybody may with SLUICE_INSECURE_NO_KEYS=true"
    )


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"
