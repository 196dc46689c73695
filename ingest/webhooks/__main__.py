"""`python -m ingest.webhooks`: deliver webhooks until SIGTERM.

With API keys, each has a webhook secret of its own, derived from `webhook_secret` and the key's name.
`python -m ingest.webhooks secret NAME` prints it for the key's owner. It verifies this owner's webhooks, and no other's
can be forged with it.
"""

import asyncio
import logging
import os
import secrets
import signal
import socket
import sys

from ingest.outbound.required import refuse_delivery
from stream.cli import OK, from_command_line, refuse
from stream.host.logs import configure
from stream.outbound_settings import listed
from stream.settings import WebhookSettings

_PROGRAM = "python -m ingest.webhooks"

logger = logging.getLogger("ingest.webhooks")


def main() -> int:
    asked, arguments = sys.argv[1:3], sys.argv[1:]
    owner = asked[1] if len(asked) == 2 and asked[0] == "secret" else ""
    settings = from_command_line(WebhookSettings, _PROGRAM, arguments[2:] if owner else arguments)
    configure(settings.log_level, settings.log_format)
    if refusal := refuse_delivery(settings):
        return refuse(_PROGRAM, refusal, settings.log_format)
    if owner:
        from ingest.webhooks.message import secret_for  # Not at the top: it imports standardwebhooks.

        for secret in listed(settings.webhook_secret.get_secret_value()):
            print(secret_for(secret, owner))
        return OK
    asyncio.run(_send(settings))
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
