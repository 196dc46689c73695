"""Parses the URL of Redis: one server, the nodes of a Cluster, or Sentinels.

It imports no client of Redis: settings are checked with it, and a process that only reads settings starts sooner.
"""

from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

#: A host and a port.
Address = tuple[str, int]

_PORTS = {"cluster": 6379, "sentinel": 26379}


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """A parsed URL. `kind` is `server`, `cluster` or `sentinel`.

    `server_url` is a URL of one server, which has the options, and `sentinel` one of a Sentinel.
    """

    kind: str
    server_url: str
    addresses: tuple[Address, ...] = ()
    service: str = ""
    sentinel: str = ""

    @classmethod
    def parse(cls, url: str) -> "RedisUrl":
        """Parse redis+cluster://host:port,host:port, redis+sentinel://host:port,host:port/service or one server's URL.

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
        own, theirs = _divided(parts.query)
        server_url = urlunsplit((scheme, f"{user}{at}{host}:{port}", f"/{database}", own, ""))
        return cls(kind, server_url, addresses, service, _sentinel(scheme, own, theirs) if kind == "sentinel" else "")


def _divided(query: str) -> tuple[str, dict[str, str]]:
    """The options of the servers, and those that are for the Sentinels alone, without `sentinel_`."""
    options = parse_qsl(query)
    mark = "sentinel_"
    theirs = {name.removeprefix(mark): value for name, value in options if name.startswith(mark)}
    return urlencode([(name, value) for name, value in options if not name.startswith(mark)]), theirs


def _sentinel(scheme: str, own: str, theirs: dict[str, str]) -> str:
    """A URL with the Sentinels' own name and password; TLS, and what belongs to it, is that of the servers."""
    tls = theirs.pop("tls", "yes" if scheme == "rediss" else "no")
    user, password = theirs.pop("username", ""), theirs.pop("password", "")
    if theirs or tls not in {"yes", "no"}:
        raise ValueError("of Sentinels a URL may say sentinel_username, sentinel_password and sentinel_tls=yes or no")
    access = f"{quote(user, safe='')}:{quote(password, safe='')}@" if user or password else ""
    return urlunsplit(("rediss" if tls == "yes" else "redis", f"{access}sentinel", "", own if tls == "yes" else "", ""))


def _address(text: str, default_port: int) -> Address:
    host, colon, port = text.rpartition(":")
    # What could not be read may be a piece of a password with a slash in it: it is not shown.
    if not (host if colon else text) or (colon and not port.isdecimal()):
        raise ValueError("the URL names no host:port,host:port; in a password /, @ and : are written %2F, %40 and %3A")
    return (host, int(port)) if colon else (text, default_port)
