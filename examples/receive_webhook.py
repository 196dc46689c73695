"""Receives webhooks and prints the label of each image: `WEBHOOK_SECRET=whsec_... receive_webhook.py`.

Copy it into your own code: it needs the package standardwebhooks, and nothing from Sluice. A delivery can arrive more
than once, so a receiver keeps the ids of what it has handled. This one keeps them in memory.
"""

import argparse
import os
import sys
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

from standardwebhooks.webhooks import EmptyWebhookSecretError, Webhook, WebhookVerificationError

#: A delivery is a few kilobytes.
LARGEST = 1_000_000


class Receiver(BaseHTTPRequestHandler):
    """Checks the signature, ignores what was handled before, and responds before the sender gives up."""

    webhook: ClassVar[Webhook]
    handled: ClassVar[set[str]] = set()

    def do_POST(self) -> None:
        body = self.rfile.read(min(int(self.headers.get("Content-Length", "0")), LARGEST))
        try:
            message = self.webhook.verify(body, dict(self.headers))
        except WebhookVerificationError as error:
            print(f"the signature does not fit WEBHOOK_SECRET: {error}", file=sys.stderr, flush=True)
            self.send_response(401)
        else:
            webhook_id = self.headers["webhook-id"]
            if webhook_id not in self.handled:
                handle(message)
                self.handled.add(webhook_id)
            self.send_response(204)
        self.end_headers()


def handle(message: dict[str, Any]) -> None:
    """What you want to do with a prediction. It takes less than the sender's time limit, 15 s."""
    data = message["data"]
    if message["type"] != "prediction.succeeded":
        found = f"{data['title']}: {data['detail']}"
    elif "values" in data:  # a regression or an embedding
        found = " ".join(f"{value:.4f}" for value in data["values"])
    else:
        labels = [f"{one['label']} {one['probability']:.4f}" for one in data["predictions"][:1]]
        found = labels[0] if labels else "no label reaches the threshold"
    print(f"{data['id']}: {found}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="Receive webhooks on http://127.0.0.1:PORT/.")
    parser.add_argument("--port", type=int, default=8000, help="default: %(default)s")
    port = parser.parse_args().port
    secret = os.environ.get("WEBHOOK_SECRET", "")
    try:
        Receiver.webhook = Webhook(secret)
    except (ValueError, EmptyWebhookSecretError):
        secret = ""
    if not secret.startswith("whsec_"):
        parser.error("WEBHOOK_SECRET must be the secret that the operator of Sluice gave you, such as whsec_...")
    with ThreadingHTTPServer(("127.0.0.1", port), Receiver) as server, suppress(KeyboardInterrupt):
        server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
