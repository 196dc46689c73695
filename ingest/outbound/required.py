"""Checks, before any worker starts, that what the settings ask for is installed. Imports none of it."""

from importlib.util import find_spec

from stream.settings import IngestSettings


def refuse_urls(settings: IngestSettings) -> str:
    """Why images by URL cannot be accepted, and what to do. Empty if they can, or are off."""
    if settings.fetch_urls and not all(map(find_spec, ("httpx", "httpcore"))):
        return "fetch_urls is on, but httpx is not installed. Install it with: pip install 'sluice-serving[urls]'"
    return ""
