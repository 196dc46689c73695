"""Requests whose outcomes are to be delivered: the Webhook-URL header, or a field of the JSON."""

from typing import TYPE_CHECKING, Final

from starlette.requests import Request

from ingest.api.async_requests import Preferences
from ingest.errors import BadParameter, Problem, UrlNotAllowed
from ingest.openapi.operation import Parameter
from ingest.outbound.addresses import MAX_URL

if TYPE_CHECKING:
    from ingest.outbound.policy import Policy  # It imports httpx, which need not be installed.

WEBHOOK: Final = "webhook"
WEBHOOK_SCHEMA: Final = {"type": "string", "format": "uri", "maxLength": MAX_URL}
WEBHOOK_URL: Final = Parameter(
    "Webhook-URL",
    "header",
    "Where the outcome of each image is delivered; needs Prefer: respond-async",
    WEBHOOK_SCHEMA,
)


class WebhookRequests:
    """Reads and checks the webhook that a request names. Without a policy, requests with a webhook are refused."""

    def __init__(self, policy: "Policy | None") -> None:
        self._policy = policy

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """As OpenAPI describes them."""
        return (WEBHOOK_URL,) if self._policy else ()

    @property
    def problems(self) -> tuple[type[Problem], ...]:
        """As OpenAPI describes them."""
        return (UrlNotAllowed,) if self._policy else ()

    def url(self, request: Request, in_json: str | None) -> str:
        """The URL in ASCII; empty if the request names none. Raises BadParameter and UrlNotAllowed."""
        given = request.headers.getlist(WEBHOOK_URL.name)
        given += [] if in_json is None else [in_json]
        if not given:
            return ""
        if self._policy is None:
            raise BadParameter("Webhooks are not supported here: webhooks is off. Leave the webhook out.")
        if len(given) > 1:
            raise BadParameter("The request names more than one webhook. Send one, in Webhook-URL or in the JSON.")
        if not Preferences.of(request).respond_async:
            raise BadParameter("A webhook needs the header Prefer: respond-async.")
        try:
            return str(self._policy.check_url(given[0]))
        except ValueError as error:  # UrlRefused is one.
            raise UrlNotAllowed(f"The webhook cannot be used: {error}.") from error
