"""Parses the URL of Redis: one server, the nodes of a Cluster, or Sentinels.

It imports no client of Redis unless the URL has options: settings are checked with it, and a process that only reads
settings starts sooner.
"""

from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

#: A host and a port.
Address = tuple[str, int]

_PORTS: Final = {"cluster": 6379, "sentinel": 26379}

#: Options of a URL besides those of TLS, which begin with `ssl_`. Sluice has settings for the others of redis-py.
_OPTIONS: Final = {"db", "username", "password", "client_name"}

# What could not be read may be a piece of a password with a slash in it: no message shows it.
_NO_URL: Final = (
    "it is no URL of Redis, such as redis://HOST:6379/0, rediss://HOST:6379/0, unix:///PATH, "
    "redis+cluster://HOST:6379,HOST:6379 or redis+sentinel://HOST:26379,HOST:26379/SERVICE"
)
_NO_ADDRESS: Final = (
    "the URL names no host:port, or a port that is no number up to 65535; in a password /, @ and : are written %2F, "
    "%40 and %3A"
)


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
            return cls("server", _checked(url))
        if scheme not in {"redis", "rediss"} or kind not in _PORTS:
            raise ValueError(_NO_URL)
        user, at, hosts = parts.netloc.rpartition("@")
        addresses = tuple(_address(one, _PORTS[kind]) for one in hosts.split(","))
        service, _, database = parts.path.lstrip("/").partition("/")
        if kind == "cluster":
            service, database = "", service
        elif not service:
            raise ValueError("redis+sentinel:// names the service at its end: redis+sentinel://host:26379/mymaster")
        host, port = addresses[0]
        own, theirs = _divided(parts.query)
        server_url = _checked(urlunsplit((scheme, f"{user}{at}{host}:{port}", f"/{database}", own, "")))
        return cls(kind, server_url, addresses, service, _sentinel(scheme, own, theirs) if kind == "sentinel" else "")


def _checked(url: str) -> str:
    """The URL of one server, if redis-py takes all of it; raises ValueError."""
    parts = urlsplit(url)
    if parts.scheme not in {"redis", "rediss", "unix"}:
        raise ValueError(_NO_URL)
    if parts.scheme == "unix":
        if not parts.path.strip("/"):
            raise ValueError("unix:// names no socket, as in unix:///run/redis/redis.sock")
    else:
        try:
            _ = parts.port
        except ValueError:
            raise ValueError(_NO_ADDRESS) from None
        if parts.path.strip("/") and not parts.path[1:].isdecimal():
            raise ValueError("the path of the URL is no number of a database, as the 0 in redis://HOST:6379/0")
    if parts.query:
        _check_options(url)
    return url


def _check_options(url: str) -> None:
    from redis.asyncio.connection import Connection, parse_url
    from redis.exceptions import RedisError

    try:
        options: dict[str, Any] = dict(parse_url(url))
        names = {name for name, _ in parse_qsl(urlsplit(url).query)}
        if any(not name.startswith("ssl_") for name in names - _OPTIONS):
            raise ValueError
        options.pop("connection_class", Connection)(**options)
    except (TypeError, ValueError, RedisError) as error:
        raise ValueError(
            f"an option of the URL is unknown or wrong: it may be {', '.join(sorted(_OPTIONS))} or, with rediss://, "
            "one of redis-py's that begin with ssl_"
        ) from error


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
    if not colon:
        host, port = text, str(default_port)
    if not host or not port.isdecimal() or int(port) > 65_535:
        raise ValueError(_NO_ADDRESS)
    return host, int(port)
