"""What browsers may do: read the response; and pages of other sites only what was configured."""

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ingest.middleware.browsers import SECURITY_HEADERS, SecurityHeadersMiddleware
from tests.security.test_keys import ALICE, bearer
from tests.support.processes import Processes

SITE = "https://photos.example.org"


def test_every_answer_protects_its_reader(processes: Processes) -> None:
    """Answers, problems, refusals; and CORS is off: no answer names an origin."""
    _, url = processes.ingest(ready=False, api_keys=f"alice:{ALICE}")
    headers = {"Origin": SITE, **bearer(ALICE)}
    answers = [
        httpx.get(f"{url}/healthz", headers=headers),
        httpx.get(f"{url}/nowhere", headers=headers),
        httpx.get(f"{url}/predict", headers=headers),
        httpx.get(f"{url}/predict", headers={"Origin": SITE}),
        httpx.post(f"{url}/predict", headers=headers),
        httpx.post(f"{url}/predict", headers=bearer(ALICE)),
    ]
    assert [answer.status_code for answer in answers] == [200, 404, 405, 401, 403, 503]
    for answer in answers:
        assert {name: answer.headers.get(name) for name in SECURITY_HEADERS} == SECURITY_HEADERS
        assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.anyio
async def test_a_page_may_say_otherwise() -> None:
    """What an endpoint sets itself is not set twice."""

    async def page(_request: Request) -> Response:
        return Response(headers={"Content-Security-Policy": "default-src 'self'"})

    transport = httpx.ASGITransport(SecurityHeadersMiddleware(Starlette(routes=[Route("/", page)])))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        answer = await client.get("/")
    assert answer.headers.get_list("content-security-policy") == ["default-src 'self'"]
    assert answer.headers["x-frame-options"] == "DENY"


@pytest.mark.parametrize(("configured", "allowed"), [(SITE, SITE), (f"https://a.example, {SITE}", SITE), ("*", "*")])
def test_configured_sites_may_use_the_service(processes: Processes, configured: str, allowed: str) -> None:
    """The browser's question is answered without a key, since it never has one; the request itself needs it."""
    _, url = processes.ingest(ready=False, cors_origins=configured, api_keys=f"alice:{ALICE}")
    asks = {"Origin": SITE, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    preflight = httpx.options(f"{url}/predict", headers=asks)
    assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (200, allowed)
    assert "authorization" in preflight.headers["access-control-allow-headers"].lower()
    for headers, status in ((bearer(ALICE), 404), ({}, 401)):
        answer = httpx.get(f"{url}/nowhere", headers={"Origin": SITE, **headers})
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (status, allowed)
        assert "access-control-allow-credentials" not in answer.headers
    if configured != "*":
        foreign = httpx.get(f"{url}/nowhere", headers={"Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in foreign.headers


def test_another_site_s_page_changes_nothing(processes: Processes) -> None:
    """Though a browser would send its request, with the credentials it remembers; what reads is left to CORS."""
    _, url = processes.ingest(ready=False, cors_origins="https://a.example")
    own = url
    with httpx.Client(base_url=url) as client:
        for origin, method, status in (
            (SITE, "POST", 403), (SITE, "DELETE", 403), ("null", "POST", 403), (own + "0", "POST", 403),
            (own, "POST", 404), ("https://a.example", "POST", 404), (SITE, "GET", 404), (None, "POST", 404),
        ):  # fmt: skip
            headers = {} if origin is None else {"Origin": origin}
            answer = client.request(method, "/nowhere", headers=headers)
            assert answer.status_code == status, (origin, method)
            assert (answer.json()["code"] == "cross_origin_request") == (status == 403)
            assert ("SLUICE_CORS_ORIGINS" in answer.json()["detail"]) == (status == 403)
