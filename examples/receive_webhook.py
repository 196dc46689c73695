"""Receives webhooks and prints the label of each image: `WEBHOOK_SECRET=whsec_... receive_webhook.py`.

Copy it into your own code: it needs the package standardwebhooks, and nothing from Sluice. A delivery can arrive more
than once, so a receiver keeps the ids of what it has handled. This one keeps them in memory.
"""

import argparse
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

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
        except WebhookVerificationError:
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
    if message["type"] == "prediction.succeeded":
        best = data["predictions"][0]
        print(f"{data['id']}: {best['label']} {best['probability']:.4f}", flush=True)
    else:
        print(f"{data['id']}: {data['title']}: {data['detail']}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="Receive webhooks on http://127.0.0.1:PORT/.")
    parser.add_argument("--port", type=int, default=8000, help="default: %(default)s")
    if "WEBHOOK_SECRET" not in os.environ:
        print("WEBHOOK_SECRET is not set: it is the secret that the operator of Sluice gave you", file=sys.stderr)
        return 2
    Receiver.webhook = Webhook(os.environ["WEBHOOK_SECRET"])
    with ThreadingHTTPServer(("127.0.0.1", parser.parse_args().port), Receiver) as server:
        server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
