"""Limits of URLs, for those who do not request them. Imports no HTTP client, which may not be installed."""

from typing import Final

#: Most characters of a URL.
MAX_URL: Final = 2048
