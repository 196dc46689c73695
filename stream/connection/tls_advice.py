"""Says what to do if a URL and its server differ about TLS, or if the server's certificate is not trusted.

Neither redis-py nor OpenSSL names a setting. A server without TLS takes the handshake for a command and waits for the
rest. One with TLS closes a connection without it, often without a word.
"""

from typing import Final, TypeVar

from redis.exceptions import RedisError

E = TypeVar("E", bound=RedisError)

#: Parts of an error with TLS, and what to do.
_WITH_TLS: Final = {
    "unable to get local issuer certificate": "Set redis_ca_file (--redis-ca-file) to the authority of its certificate",
    "self-signed certificate": "Set redis_ca_file (--redis-ca-file) to the authority of its certificate",
    "mismatch, certificate is not valid for": "Name the server in redis_url as its certificate does",
    "WRONG_VERSION_NUMBER": "Does this port use TLS? If not, redis_url begins with redis://",
    "Timeout connecting": "Does this port use TLS? If not, redis_url begins with redis://",
}

#: The same without TLS.
_WITHOUT_TLS: Final = dict.fromkeys(
    ("closed by server", "reset by peer"), "Does this port use TLS? Then redis_url begins with rediss://"
)


def with_tls_advice(error: E, *, is_tls: bool) -> E:
    """The error of a server that has never answered, with what to do if its text fits."""
    text = str(error)
    advice = _WITH_TLS if is_tls else _WITHOUT_TLS
    found = next((advice[part] for part in advice if part in text), "")
    return type(error)(f"{text.rstrip('.')}. {found}") if found else error
