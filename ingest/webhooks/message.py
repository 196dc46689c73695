"""What a webhook says, and its signature, by the Standard Webhooks specification.

The body has `type`, `timestamp` and `data`. `data` is the response of the request's `location`: a prediction, or a
problem.
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from standardwebhooks.webhooks import Webhook as Signature

from ingest.errors import problem_of
from ingest.responses import prediction
from results.deliveries import Pending
from results.outcome import Done, Failed

#: Before the name of the API key whose secret is derived.
_DERIVATION: Final = b"sluice webhook secret of "


def body(pending: Pending, *, model: str, labels: Sequence[str]) -> str:
    """The body of a delivery, the same for every attempt. Raises ValueError if it was damaged in Redis."""
    webhook, outcome = pending.webhook, pending.outcome
    data: object
    if isinstance(outcome, Failed):
        data = {**problem_of(outcome).document(), "id": webhook.id}
    else:
        try:
            data = prediction(outcome, model=model, labels=labels, threshold=webhook.threshold)
        except IndexError as error:
            raise ValueError("the outcome names a class that the model does not have") from error
    completed = datetime.fromtimestamp(pending.completed_ms / 1000, UTC)
    kind = "prediction.succeeded" if isinstance(outcome, Done) else "prediction.failed"
    return json.dumps({"type": kind, "timestamp": completed.isoformat(timespec="milliseconds"), "data": data})


class Signer:
    """Signs with each of these secrets, so that they can be replaced without a gap."""

    def __init__(self, secrets: Sequence[str]) -> None:
        self._secrets = secrets

    def headers(self, webhook_id: str, owner: str, text: str, now: datetime) -> dict[str, str]:
        """The headers of one attempt. `owner` is the API key of the request, empty without keys."""
        signatures = (Signature(secret_for(secret, owner)).sign(webhook_id, now, text) for secret in self._secrets)
        return {
            "webhook-id": webhook_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": " ".join(signatures),
        }


def secret_for(secret: str, owner: str) -> str:
    """The secret of one API key: who knows it can sign as Sluice for this key's receivers, and for no other's."""
    if not owner:
        return secret
    key = base64.b64decode(secret.removeprefix("whsec_"))
    derived = hmac.digest(key, _DERIVATION + owner.encode(), hashlib.sha256)
    return "whsec_" + base64.b64encode(derived).decode()
