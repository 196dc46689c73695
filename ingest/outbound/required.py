"""Checks, before any worker starts, that what the settings ask for is installed. Imports none of it."""

from importlib.util import find_spec

from stream.settings import IngestSettings, WebhookSettings


def refuse_urls(settings: IngestSettings) -> str:
    """Why images by URL or webhooks cannot be accepted, and what to do. Empty if they can, or are off."""
    extras = {"fetch_urls": "urls", "webhooks": "webhooks"}
    on = [name for name in extras if getattr(settings, name)]
    if on and not all(map(find_spec, ("httpx", "httpcore"))):
        extra = extras[on[-1]]
        return f"{on[0]} is on, but httpx is not installed. Install it with: pip install 'sluice-serving[{extra}]'"
    return ""


def refuse_delivery(settings: WebhookSettings) -> str:
    """Why webhooks cannot be delivered, and what to do. Empty if they can."""
    if not settings.webhooks:
        return "webhooks is off: set SLUICE_WEBHOOKS=true for this process and for ingest"
    if not settings.webhook_secret.get_secret_value():
        return 'webhook_secret is empty: make one with: echo "whsec_$(openssl rand -base64 32)"'
    if not all(map(find_spec, ("httpx", "httpcore", "standardwebhooks"))):
        return "packages are missing. Install them with: pip install 'sluice-serving[webhooks]'"
    return ""
