"""Settings of requests that Sluice itself makes to other servers: images by URL, and webhooks. Off by default."""

import base64
import binascii
import ipaddress
import re
from typing import Annotated, Final

from pydantic import BaseModel, Field, SecretStr, field_validator

Seconds = Annotated[float, Field(gt=0, le=86_400)]

#: A host, or `*.` and the domain of all hosts below it.
_HOST: Final = re.compile(r"(\*\.)?[a-z0-9_]([a-z0-9._-]{0,251}[a-z0-9_])?|\[[0-9a-f:.]+\]")

#: The prefix of a secret, and its length in bytes (Standard Webhooks, "Signature scheme").
_SECRET_PREFIX: Final = "whsec_"  # noqa: S105 (no secret)
_SECRET_BYTES: Final = range(24, 65)


def listed(text: str) -> tuple[str, ...]:
    """The words of a comma-separated setting."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


class OutboundSettings(BaseModel):
    """Which servers may be reached, for ingest and for the sender of webhooks."""

    outbound_http: bool = Field(
        False, description="allow http:// in image_url and in the URLs of webhooks, in addition to https://"
    )
    outbound_networks: str = Field(
        "",
        description="networks that image_url and webhooks may reach although their addresses are not public, "
        "comma-separated. Empty: public addresses only",
    )
    webhooks: bool = Field(False, description="accept requests with a webhook; python -m ingest.webhooks delivers")
    webhook_hosts: str = Field(
        "",
        description="hosts that webhooks may name, comma-separated; *.example.com for all below example.com. Empty: "
        "all",
    )

    @field_validator("outbound_networks")
    @classmethod
    def _networks_are_networks(cls, networks: str) -> str:
        for network in listed(networks):
            ipaddress.ip_network(network)
        return networks

    @field_validator("webhook_hosts", "fetch_hosts", check_fields=False)
    @classmethod
    def _hosts_are_hosts(cls, hosts: str) -> str:
        for host in listed(hosts):
            if not _HOST.fullmatch(host.lower()):
                raise ValueError(f"{host!r} is no host: write example.com, or *.example.com for all below it")
        return hosts


class FetchSettings(BaseModel):
    """Images by URL."""

    fetch_urls: bool = Field(False, description="accept image_url in JSON, and fetch the image from there")
    fetch_hosts: str = Field(
        "",
        description="hosts that image_url may name, comma-separated; *.example.com for all below example.com. Empty: "
        "all",
    )
    fetch_timeout_s: Seconds = Field(10.0, description="longest time to fetch all images of a request")


class DeliverySettings(BaseModel):
    """How the sender delivers webhooks."""

    webhook_secret: SecretStr = Field(
        SecretStr(""),
        description="secret that signs webhooks: whsec_ and base64 of 24 to 64 random bytes. Several, comma-separated: "
        "each signs",
    )
    webhook_timeout_s: Seconds = Field(15.0, description="longest time of one attempt to deliver a webhook")
    webhook_retries_s: str = Field(
        "5,60,300,1800,7200,18000,36000",
        description="seconds before each new attempt to deliver a webhook, comma-separated; after the last it becomes "
        "a dead letter",
    )

    @field_validator("webhook_secret")
    @classmethod
    def _secrets_are_secrets(cls, secrets: SecretStr) -> SecretStr:
        for number, secret in enumerate(listed(secrets.get_secret_value()), 1):
            if not _is_secret(secret):
                raise ValueError(
                    f"secret {number} must be whsec_ and base64 of 24 to 64 bytes; make one with: "
                    'echo "whsec_$(openssl rand -base64 32)"'
                )
        return secrets

    @field_validator("webhook_retries_s")
    @classmethod
    def _delays_are_seconds(cls, delays: str) -> str:
        for delay in listed(delays):
            try:
                seconds = float(delay)
            except ValueError:
                raise ValueError(f"{delay} is no number of seconds") from None
            if not 0 < seconds <= 604_800:
                raise ValueError(f"{delay} must be more than 0 and at most 604800 (a week)")
        if len(listed(delays)) > 30:
            raise ValueError("more than 30 attempts are not supported")
        return delays

    @property
    def webhook_delays_s(self) -> tuple[float, ...]:
        """Seconds before the second attempt, the third, and so on."""
        return tuple(map(float, listed(self.webhook_retries_s)))


def _is_secret(secret: str) -> bool:
    try:
        key = base64.b64decode(secret.removeprefix(_SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        return False
    return secret.startswith(_SECRET_PREFIX) and len(key) in _SECRET_BYTES
