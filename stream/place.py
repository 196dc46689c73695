"""Redis's URLs: one server, a Cluster's nodes or Sentinels. Knows no connection, and imports no client.

Settings are checked with it, and whoever only reads settings starts sooner without one.
"""

from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

#: A host and a port.
Address = tuple[str, int]

_PORTS = {"cluster": 6379, "sentinel": 26379}


@dataclass(frozen=True, slots=True)
class Place:
    """What a URL says: `kind` is `server`, `cluster` or `sentinel`; `plain` is a URL of one server, for its options."""

    kind: str
    plain: str
    addresses: tuple[Address, ...] = ()
    service: str = ""

    @classmethod
    def parse(cls, url: str) -> "Place":
        """Read redis+cluster://host:port,host:port and redis+sentinel://host:port,host:port/service; else one server.

        Raises ValueError.
        """
        parts = urlsplit(url)
        scheme, plus, kind = parts.scheme.partition("+")
        if not plus:
            return cls("server", url)
        if scheme not in {"redis", "rediss"} or kind not in _PORTS:
            raise ValueError(f"{parts.scheme}:// is not known: it may be redis+cluster:// or redis+sentinel://")
        user, at, hosts = parts.netloc.rpartition("@")
        addresses = tuple(_address(one, _PORTS[kind]) for one in hosts.split(","))
        service, _, database = parts.path.lstrip("/").partition("/")
        if kind == "cluster":
            service, database = "", service
        elif not service:
            raise ValueError("redis+sentinel:// names the service at its end: redis+sentinel://host:26379/mymaster")
        host, port = addresses[0]
        plain = urlunsplit((scheme, f"{user}{at}{host}:{port}", f"/{database}", parts.query, ""))
        return cls(kind, plain, addresses, service)


def _address(text: str, default_port: int) -> Address:
    host, colon, port = text.rpartition(":")
    found = (host, int(port)) if colon else (text, default_port)
    if not found[0]:
        raise ValueError(f"{text!r} is no host:port")
    return found
