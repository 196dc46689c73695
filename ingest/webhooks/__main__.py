"""`python -m ingest.webhooks`: deliver webhooks until SIGTERM.

With API keys, each has a webhook secret of its own, derived from `webhook_secret` and the key's name.
`python -m ingest.webhooks secret NAME` prints it for the key's owner. It verifies this owner's webhooks, and no other's
can be forged with it. The API keys are those of ingest's settings in the environment.
"""

import asyncio
import logging
import os
import secrets
import signal
import socket
import sys

from ingest.auth.api_keys import BadKey, key_owners, why_unreadable
from ingest.start_checks import refuse_delivery, refuse_signing
from stream.cli import FAILED, OK, complain, from_command_line, refuse
from stream.host.logs import configure
from stream.settings import IngestSettings, WebhookSettings
from stream.settings.outbound import listed
from stream.settings.variables import warn_of_unknown_variables

_PROGRAM = "python -m ingest.webhooks"

logger = logging.getLogger("ingest.webhooks")


def main() -> int:
    arguments, owner = sys.argv[1:], ""
    if arguments[:1] == ["secret"]:
        owner = arguments[1] if len(arguments) > 1 and not arguments[1].startswith("-") else ""
        if not owner:
            return complain(_PROGRAM, f"give the NAME of an API key: {_PROGRAM} secret NAME", FAILED)
    settings = from_command_line(WebhookSettings, _PROGRAM, arguments[2:] if owner else arguments)
    configure(settings.log_level, settings.log_format)
    warn_of_unknown_variables(os.environ)
    if refusal := refuse_signing(settings) if owner else refuse_delivery(settings):
        return refuse(_PROGRAM, refusal, settings.log_format)
    if owner:
        return _print_secrets(settings, owner)
    asyncio.run(_send(settings))
    return OK


def _print_secrets(settings: WebhookSettings, owner: str) -> int:
    """Print the owner's secrets. An unknown owner is refused: no webhook would ever be signed with its secret."""
    from ingest.webhooks.message import secret_for  # Not at the top: it imports standardwebhooks.

    try:
        owners = key_owners(from_command_line(IngestSettings, _PROGRAM, []))
    except (BadKey, OSError) as error:
        return refuse(_PROGRAM, f"API keys: {why_unreadable(error)}", settings.log_format)
    if not owners:
        refusal = (
            "there are no API keys here, and without keys webhook_secret itself signs. If ingest has keys, set its "
            "SLUICE_API_KEYS_FILE or SLUICE_API_KEYS here, too"
        )
        return refuse(_PROGRAM, refusal, settings.log_format)
    if owner not in owners:
        refusal = f"there is no API key of {owner!r}; there are those of {', '.join(sorted(owners))}"
        return refuse(_PROGRAM, refusal, settings.log_format)
    for secret in listed(settings.webhook_secret.get_secret_value()):
        print(secret_for(secret, owner))
    return OK


async def _send(settings: WebhookSettings) -> None:
    from ingest.webhooks.sender import Sender  # Not at the top: it imports httpx.

    name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
    sending = asyncio.create_task(Sender(settings, name=name).run())
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, sending.cancel)
    logger.info("ready sender=%s", name)
    try:
        await sending
    except asyncio.CancelledError:
        logger.info("stopped")


if __name__ == "__main__":
    sys.exit(main())
