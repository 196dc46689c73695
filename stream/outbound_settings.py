"""Settings of requests that Sluice itself makes to other servers: images by URL. Off by default."""

import ipaddress
import re
from typing import Annotated, Final

from pydantic import BaseModel, Field, field_validator

Seconds = Annotated[float, Field(gt=0, le=86_400)]

#: A host, or `*.` and the domain of all hosts below it.
_HOST: Final = re.compile(r"(\*\.)?[a-z0-9_]([a-z0-9._-]{0,251}[a-z0-9_])?|\[[0-9a-f:.]+\]")


def listed(text: str) -> tuple[str, ...]:
    """The words of a comma-separated setting."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


class OutboundSettings(BaseModel):
    """Which servers may be reached."""

    outbound_http: bool = Field(False, description="allow http:// in image_url, in addition to https://")
    outbound_networks: str = Field(
        "",
        description="networks that image_url may reach although their addresses are not public, comma-separated. "
        "Empty: public addresses only",
    )

    @field_validator("outbound_networks")
    @classmethod
    def _networks_are_networks(cls, networks: str) -> str:
        for network in listed(networks):
            ipaddress.ip_network(network)
        return networks


class FetchSettings(BaseModel):
    """Images by URL."""

    fetch_urls: bool = Field(False, description="accept image_url in JSON, and fetch the image from there")
    fetch_hosts: str = Field(
        "",
        description="hosts that image_url may name, comma-separated; *.example.com for all below example.com. Empty: "
        "all",
    )
    fetch_timeout_s: Seconds = Field(10.0, description="longest time to fetch all images of a request")

    @field_validator("fetch_hosts")
    @classmethod
    def _hosts_are_hosts(cls, hosts: str) -> str:
        for host in listed(hosts):
            if not _HOST.fullmatch(host.lower()):
                raise ValueError(f"{host!r} is no host: write example.com, or *.example.com for all below it")
        return hosts
