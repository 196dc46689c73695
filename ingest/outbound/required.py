"""Checks, before any worker starts, that what the settings ask for can be used."""

from stream.host.packages import refuse_packages
from stream.settings import IngestSettings, WebhookSettings


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
    if not settings.webhook_secret.get_secret_value():
        return 'webhook_secret is empty: make one with: echo "whsec_$(openssl rand -base64 32)"'
    return refuse_packages(("httpx", "httpcore", "standardwebhooks.webhooks"), "webhooks")
