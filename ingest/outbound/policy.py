"""Which URLs of clients may be requested.

A URL is parsed once. What was parsed is what is checked, resolved and connected to. The address is checked again where
the connection is made (ingest/outbound/client.py), so a URL that is read in two ways cannot lead anywhere else.
"""

import re
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final, Self

import httpx

from ingest.outbound.addresses import MAX_URL, Address, Network, is_public, parse_networks
from stream.settings.outbound import OutboundSettings, listed

#: What no URL has (RFC 3986), and what parsers read differently: white space, controls and backslashes.
_FORBIDDEN: Final = re.compile(r"[\x00-\x20\x7f\\\s]")

#: A host after IDNA, and an IPv6 address without a zone.
_HOST: Final = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?|[0-9a-f:.]*:[0-9a-f:.]*")

#: What all refusals of an address say, whether its name is unknown or private: nobody can explore a network by it.
NOT_PUBLIC: Final = "its host has no public address"


class UrlRefused(ValueError):
    """The URL must not be requested; the message says why, as the end of a sentence."""


@dataclass(frozen=True, slots=True)
class Policy:
    """`hosts` that a URL may name (empty: all), `networks` that it may reach in addition to public addresses."""

    hosts: tuple[str, ...] = ()
    networks: tuple[Network, ...] = ()
    plain_http: bool = False

    @classmethod
    def of(cls, settings: OutboundSettings, hosts: str) -> Self:
        """The policy of these settings; `hosts` is the comma-separated list of the feature."""
        networks = parse_networks(listed(settings.outbound_networks))
        return cls(listed(hosts.lower()), networks, settings.outbound_http)

    def check_url(self, text: str) -> httpx.URL:
        """The parsed URL, without its fragment; raises UrlRefused."""
        if len(text) > MAX_URL:
            raise UrlRefused(f"it has more than {MAX_URL} characters")
        if _FORBIDDEN.search(text):
            raise UrlRefused("it has a space, a control character or a backslash")
        try:
            url = httpx.URL(text).copy_with(fragment=None)
            host = url.raw_host.decode("ascii")
        except (httpx.InvalidURL, ValueError, TypeError) as error:
            raise UrlRefused("it is no URL") from error
        # An empty user name leaves no trace in the parsed URL.
        self._check_parts(url, host, authority=re.split("[/?#]", text.partition("//")[2], maxsplit=1)[0])
        return url

    def _check_parts(self, url: httpx.URL, host: str, *, authority: str) -> None:
        if url.scheme != "https" and not (url.scheme == "http" and self.plain_http):
            raise UrlRefused("it must begin with https://" + (" or http://" if self.plain_http else ""))
        if url.userinfo or "@" in authority:
            raise UrlRefused("it has a user name or a password")
        if not _HOST.fullmatch(host):
            raise UrlRefused("it names no valid host")
        if url.port is not None and not 0 < url.port < 65_536:
            raise UrlRefused("its port is not from 1 to 65535")
        if not self._lists(host.rstrip(".")):
            raise UrlRefused("its host is not one that this service allows")
        if (address := parse_address(host)) and not self.allows(address):
            raise UrlRefused(NOT_PUBLIC)

    def _lists(self, host: str) -> bool:
        return not self.hosts or any(
            host.endswith(allowed[1:]) if allowed.startswith("*.") else host == allowed.strip("[]")
            for allowed in self.hosts
        )

    def allows(self, address: Address) -> bool:
        """Whether a connection to this address may be made."""
        return is_public(address) or any(
            address.version == network.version and address in network for network in self.networks
        )


def parse_address(host: str) -> Address | None:
    """The address that a host is, None if it is a name. Raises nothing."""
    try:
        return ip_address(host.strip("[]"))
    except ValueError:
        return None
