"""The names of the options of a request to classify, and where each belongs.

An option in a wrong place would have no effect, and its sender would not hear of it.
"""

from typing import Final

from ingest.api.async_requests import PREFER
from ingest.api.idempotency import IDEMPOTENCY_KEY
from ingest.api.webhook_requests import WEBHOOK, WEBHOOK_URL
from ingest.dispatch.release import CLIENT_HEADER
from ingest.priority import PRIORITY

TOP: Final = "top"
THRESHOLD: Final = "threshold"

#: The options that the query of a request to classify may have.
IN_QUERY: Final = (TOP, THRESHOLD, PRIORITY)

#: What has no effect as a part of a form, and where it belongs. JSON has fields for some of it.
ELSEWHERE: Final = (
    {name: f"Put it into the query, as in /predict?{name}=..." for name in IN_QUERY}
    | {name.lower(): f"Send it as the header {name}." for name in (PREFER.name, IDEMPOTENCY_KEY.name, CLIENT_HEADER)}
    | {name.lower(): f"Send it as the header {WEBHOOK_URL.name}." for name in (WEBHOOK, WEBHOOK_URL.name)}
)
