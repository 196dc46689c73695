"""The authentication schemes by which a request presents its API key: how each is read, offered and documented.

CONTRIBUTING.md says what else a new one needs.
"""

import base64
import binascii
from collections.abc import Mapping
from typing import Any, Final

#: The schemes as OpenAPI describes them.
SECURITY_SCHEMES: Final[dict[str, dict[str, Any]]] = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "basic": {"type": "http", "scheme": "basic", "description": "Any user name; the API key is the password."},
}

#: WWW-Authenticate of a 401 (RFC 9110, 11.6.1). Basic is first: Chromium prompts for no other.
CHALLENGES: Final = 'Basic realm="sluice", charset="UTF-8", Bearer realm="sluice"'

#: For clients without a key.
HOW_TO_SEND: Final = (
    "Send it as `Authorization: Bearer KEY`, as `X-API-Key: KEY`, or from a browser as the password of any user."
)


def presented_key(headers: Mapping[str, str]) -> str:
    """The API key of a request, or an empty text. The names of headers are in lower case."""
    scheme, _, credentials = headers.get("authorization", "").partition(" ")
    match scheme.lower():
        case "bearer":
            return credentials.strip()
        case "basic" if "x-api-key" not in headers:
            return _password(credentials)
        case _:
            # If the request has an API key as well, the name and password are for a proxy on the way.
            return headers.get("x-api-key", "")


def _password(credentials: str) -> str:
    """The password that a user gave to a browser's dialogue (RFC 7617). The user name does not matter."""
    try:
        return base64.b64decode(credentials).decode().partition(":")[2]
    except (binascii.Error, ValueError):
        return ""
