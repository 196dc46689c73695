"""`python -m ingest.health [--wait SECONDS]`: checks whether the service is ready, for containers and scripts."""

import argparse
import http.client
import json
import sys
import time
import urllib.error
import urllib.request

from stream.cli import from_command_line
from stream.settings import IngestSettings

_PROGRAM = "python -m ingest.health"

_INTERVAL_S = 0.1

#: The service runs on this machine, so a proxy from the environment must not be used.
_WITHOUT_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def main() -> int:
    parser = argparse.ArgumentParser(prog=_PROGRAM, description=__doc__)
    parser.add_argument(
        "--wait", type=float, default=0, metavar="SECONDS", help="wait up to this long until it is ready"
    )
    wait_s = parser.parse_args().wait
    settings = from_command_line(IngestSettings, _PROGRAM, [])
    url = f"http://{'127.0.0.1' if settings.host == '0.0.0.0' else settings.host}:{settings.port}"
    deadline = time.monotonic() + wait_s
    while (why := not_ready(url)) and time.monotonic() < deadline:
        time.sleep(_INTERVAL_S)
    if why:
        print(f"not ready: {url}: {why}", file=sys.stderr, flush=True)
        return 1
    print(f"ready: {url}", flush=True)
    return 0


def is_sluice(url: str) -> bool:
    """Whether an ingest answers there. On macOS, for example, AirPlay may have the default port."""
    try:
        with _WITHOUT_PROXY.open(f"{url}/healthz", timeout=5) as response:
            return bool(json.load(response) == {"status": "alive"})
    except (OSError, http.client.HTTPException, ValueError):
        return False


def served_models(url: str, api_key: str) -> set[str]:
    """The names of the models that a service serves; empty if it does not say."""
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    try:
        with _WITHOUT_PROXY.open(urllib.request.Request(f"{url}/models", headers=headers), timeout=5) as response:
            return {str(one["name"]) for one in json.load(response)["models"]}
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
        return set()


def not_ready(url: str) -> str:
    """Why the service at this URL is not ready; empty if it is."""
    try:
        with _WITHOUT_PROXY.open(f"{url}/readyz", timeout=5):
            return ""
    except urllib.error.HTTPError as error:
        return _detail(error.read().decode(errors="replace")) or f"HTTP {error.code}"
    except OSError as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ConnectionRefusedError):
            return "nothing listens there; SLUICE_PORT and SLUICE_HOST name another address"
        return str(reason)


def _detail(body: str) -> str:
    """What a problem says, or the body if it is none, for example of a proxy."""
    try:
        return str(json.loads(body)["detail"])
    except (ValueError, KeyError, TypeError):
        return body.strip()


if __name__ == "__main__":
    sys.exit(main())
