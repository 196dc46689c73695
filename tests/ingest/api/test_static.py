"""The page's files over HTTP: what they weigh, what they allow, and that they are sent once."""

import re
from collections.abc import Iterator

import httpx
import pytest

from ingest.api.static import _FOLDER
from tests.support.processes import Processes

#: As Chrome sends it with an address that was typed in.
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """An ingest alone: the page needs neither Redis nor a consumer."""
    folder = tmp_path_factory.mktemp("static")
    with Processes(folder, redis_url="redis://127.0.0.1:1", models_dir=folder) as processes:
        _, url = processes.ingest(ready=False)
        with httpx.Client(base_url=url, headers={"Accept": BROWSER}) as client:
            yield client


def paths() -> list[str]:
    return ["/", *(f"/page/{path.name}" for path in sorted(_FOLDER.rglob("*.*")) if path.name != "index.html")]


def test_the_page_weighs_less_than_100_kb(service: httpx.Client) -> None:
    """All of its files, uncompressed; compressed less than 32."""
    plain = {path: service.get(path, headers={"Accept-Encoding": "identity"}) for path in paths()}
    packed = {path: service.get(path) for path in paths()}
    assert sum(int(answer.headers["content-length"]) for answer in plain.values()) < 100_000
    assert sum(int(answer.headers["content-length"]) for answer in packed.values()) < 32_000
    assert {path: answer.content for path, answer in plain.items()} == {
        path: answer.content for path, answer in packed.items()
    }


def test_the_page_may_run_only_its_own_files(service: httpx.Client) -> None:
    """And holds no script and no style in its HTML."""
    answer = service.get("/")
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert not re.search(r"<style|style=|<script(?![^>]* src=)| on\w+=|https?://", answer.text)


def test_a_browser_that_has_a_file_gets_no_second_copy(service: httpx.Client) -> None:
    """By its ETag; it asks each time, so that a new version is seen at once."""
    for path in paths():
        first = service.get(path)
        assert first.headers["cache-control"] == "no-cache"
        again = service.get(path, headers={"If-None-Match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert service.get(path, headers={"If-None-Match": 'W/"other"'}).status_code == 200


def test_only_files_of_the_page_are_served(service: httpx.Client) -> None:
    """Nothing beside them can be asked for."""
    for name in ("nothing.js", "..%2Fapp.py", "%2e%2e/app.py", "index.html%00", ""):
        assert service.get(f"/page/{name}").status_code == 404, name


@pytest.mark.parametrize("accept", ["*/*", "", "application/json, text/plain, */*", "text/html;q=0, */*", "text/html2"])
def test_a_program_at_the_root_learns_that_the_process_is_alive(service: httpx.Client, accept: str) -> None:
    """As KServe's server says it, and where a browser finds the page."""
    answer = service.get("/", headers={"Accept": accept})
    assert answer.headers["content-type"] == "application/json"
    found = answer.json()
    assert found.pop("status") == "alive"
    for path in found.values():
        assert service.get(path).is_success, path


@pytest.mark.parametrize("accept", ["text/html", "*/*, Text/HTML; charset=utf-8;q=0.1", BROWSER])
def test_a_browser_at_the_root_gets_the_page(service: httpx.Client, accept: str) -> None:
    """Caches keep the two apart, and HEAD tells them apart too."""
    page = service.get("/", headers={"Accept": accept})
    assert page.headers["content-type"].startswith("text/html")
    for kept in (page, service.get("/", headers={"Accept": "*/*"})):
        assert "Accept" in kept.headers["vary"].split(", ")
        head = service.head("/", headers={"Accept": kept.request.headers["accept"]})
        same = ("content-type", "content-length", "vary")
        assert [head.headers[name] for name in same] == [kept.headers[name] for name in same]
        assert head.content == b""
