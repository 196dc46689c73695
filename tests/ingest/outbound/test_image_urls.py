"""Images by URL: what arrives, what ends, and where no connection is ever made."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler
from ipaddress import ip_address
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from ingest.api.image_urls import ImageUrls
from ingest.errors import ImageNotFetched, Overloaded, PayloadTooLarge, Problem, UnsupportedMediaType, UrlNotAllowed
from ingest.outbound.addresses import Address
from ingest.outbound.client import Resolve
from ingest.request_body import Limits
from ingest.upload_memory import UploadMemory
from stream.settings import IngestSettings
from tests.support.connects import recorded_connects
from tests.support.processes import needs_proc
from tests.support.recorded_server import Recorded, body, redirect, serve
from tests.support.redis.servers import free_port

pytestmark = pytest.mark.anyio

DATA = b"\x89PNG" + bytes(1000)


def limits(max_bytes: int = 100_000, memory: int = 10**9) -> Limits:
    return Limits(max_bytes=max_bytes, max_images=4, body_timeout_s=5, memory=UploadMemory(memory))


def settings(**changed: Any) -> IngestSettings:
    """Those of a service that may reach this test's servers at 127.0.0.1."""
    given = {"fetch_urls": True, "outbound_http": True, "outbound_networks": "127.0.0.1/32", "fetch_timeout_s": 20}
    return IngestSettings.model_validate(given | changed)


async def fetched(*urls: str, within: Limits | None = None, resolve: Resolve | None = None, **changed: Any) -> Any:
    """The images; raises the first problem of any."""
    images = ImageUrls(settings(**changed), resolve=resolve)
    try:
        uploads = await images.fetch(urls, within or limits())
    finally:
        await images.aclose()
    for upload in uploads:
        if upload.problem:
            raise upload.problem
    return [upload.data for upload in uploads]


def resolver(*answers: Sequence[str]) -> tuple[Resolve, list[str]]:
    """Answers each name with the next of these, the last for ever; and the names that it was asked for."""
    asked: list[str] = []

    async def resolve(host: str) -> list[Address]:
        asked.append(host)
        return [ip_address(address) for address in answers[min(len(asked), len(answers)) - 1]]

    return resolve, asked


def endless(piece: bytes, pause_s: float, stopped: Event) -> Callable[[BaseHTTPRequestHandler], None]:
    """A body without an end, a piece at a time."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        while not stopped.wait(pause_s):
            handler.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))

    return answer


@pytest.fixture
def site() -> Iterator[Recorded]:
    stopped = Event()
    answers = {
        "/a.png": body(DATA, "image/png; charset=x", Set_Cookie="session=secret"),
        "/binary": body(DATA, "application/octet-stream"),
        "/page": body(b"<html>", "text/html"),
        "/empty": body(b""),
        "/gone": body(b"", status=410),
        "/down": body(b"", status=503),
        "/partial": body(DATA, status=206),
        "/gzip": body(DATA, Content_Encoding="gzip"),
        "/10-GB": body(b"x", Content_Length=str(10 * 10**9)),
        "/many-digits": body(b"x", Content_Length="9" * 400),
        "/endless": endless(bytes(65_536), 0, stopped),
        "/slow": endless(b"x", 0.02, stopped),
        "/twice": redirect("/once"),
        "/once": redirect("/a.png", 307),
        "/loop": redirect("/loop"),
        "/to-file": redirect("file:///etc/passwd"),
        "/to-user": redirect("http://user:secret@127.0.0.1/"),
        "/to-nonsense": redirect("http://["),
        "/nowhere": body(b"", status=302),
    }
    with serve(answers) as recorded:
        yield recorded
        stopped.set()


async def test_images_arrive_in_order(site: Recorded) -> None:
    """Over redirects, with any type that may be an image."""
    assert await fetched(*(site.url + path for path in ("/a.png", "/twice", "/binary"))) == [DATA] * 3


async def test_a_request_reveals_nothing_and_keeps_nothing(site: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    """No cookie, credential, referrer or proxy, though the environment and the server offer them."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("HOME", str(Path(__file__).parent))
    images = ImageUrls(settings())
    for _ in range(2):
        await images.fetch([f"{site.url}/once"], limits())
    await images.aclose()
    for _, headers in site.heads:
        assert headers == {
            "Host": f"127.0.0.1:{site.port}",
            "User-Agent": "sluice",
            "Accept-Encoding": "identity",
            "Accept": "image/*",
        }


@pytest.mark.parametrize(
    ("path", "problem", "says"),
    [
        ("/missing", ImageNotFetched, "404"),
        ("/gone", ImageNotFetched, "410"),
        ("/partial", ImageNotFetched, "206"),
        ("/empty", ImageNotFetched, "empty"),
        ("/gzip", ImageNotFetched, "compresses"),
        ("/page", UnsupportedMediaType, "text/html"),
        ("/10-GB", PayloadTooLarge, "smaller"),
        ("/many-digits", (PayloadTooLarge, ImageNotFetched), "image_url"),
        ("/endless", PayloadTooLarge, "smaller"),
        ("/loop", ImageNotFetched, "more than 3"),
        ("/to-file", UrlNotAllowed, "redirects"),
        ("/to-user", UrlNotAllowed, "redirects"),
        ("/to-nonsense", UrlNotAllowed, "redirects"),
        ("/nowhere", ImageNotFetched, "more than 3"),
    ],
)
async def test_what_is_no_image_ends_with_the_reason(
    site: Recorded, path: str, problem: type[Problem] | tuple[type[Problem], ...], says: str
) -> None:
    """Whatever the server sends, within the limits of an upload."""
    with pytest.raises(problem, match=says):
        await fetched(site.url + path)


async def test_only_a_cause_that_may_pass_has_a_time_of_another_try(site: Recorded) -> None:
    """So a program need not read the detail."""
    unused = f"http://127.0.0.1:{free_port()}/"
    images = ImageUrls(settings())
    uploads = await images.fetch(
        [unused, *(site.url + path for path in ("/down", "/gone", "/empty", "/loop"))], limits()
    )
    await images.aclose()
    problems = [one.problem.document() for one in uploads if one.problem]
    assert ["retry_after" in problem for problem in problems] == [True, True, False, False, False]


async def test_a_data_uri_has_a_field_of_its_own() -> None:
    """Its length, which is that of an image, is not what is wrong with it."""
    with pytest.raises(UrlNotAllowed, match="Send it in image"):
        await fetched("DATA:image/png;base64," + "A" * 4000)


async def test_one_byte_at_a_time_ends_in_time(site: Recorded) -> None:
    """The limit is of the whole request, not of each read."""
    with pytest.raises(ImageNotFetched, match=r"within 0\.3 s"):
        await fetched(f"{site.url}/slow", fetch_timeout_s=0.3)


async def test_a_slow_image_leaves_the_others(site: Recorded) -> None:
    """They have arrived."""
    images = ImageUrls(settings(fetch_timeout_s=2))
    first, slow = await images.fetch([f"{site.url}/a.png", f"{site.url}/slow"], limits())
    await images.aclose()
    assert (first.data, first.problem) == (DATA, None)
    assert isinstance(slow.problem, ImageNotFetched)
    assert "retry_after" in slow.problem.document()


async def test_the_images_of_a_request_share_its_limits(site: Recorded) -> None:
    """Each fits alone; together they are larger than a body may be, or than all bodies together."""
    urls = [f"{site.url}/a.png"] * 4
    with pytest.raises(PayloadTooLarge):
        await fetched(*urls, within=limits(3 * len(DATA)))
    with pytest.raises(Overloaded):
        await fetched(*urls, within=limits(memory=3 * len(DATA)))


HOSTILE = [
    "http://127.0.0.1:{port}/a.png", "http://127.1:{port}/a.png", "http://127.0.1:{port}/a.png",
    "http://0x7f.1:{port}/a.png", "http://0x7f000001:{port}/a.png", "http://2130706433:{port}/a.png",
    "http://0177.0.0.1:{port}/a.png", "http://017700000001:{port}/a.png", "http://127.000.000.001:{port}/a.png",
    "http://0:{port}/a.png", "http://0.0.0.0:{port}/a.png", "http://localhost:{port}/a.png",
    "http://LOCALHOST.:{port}/a.png", "http://[::1]:{port}/a.png", "http://[::]:{port}/a.png",
    "http://[::ffff:127.0.0.1]:{port}/a.png", "http://[::ffff:7f00:1]:{port}/a.png",
    "http://[0:0:0:0:0:ffff:127.0.0.1]:{port}/a.png", "http://[64:ff9b::127.0.0.1]:{port}/a.png",
    "http://[2002:7f00:1::]:{port}/a.png", "http://[::127.0.0.1]:{port}/a.png",
    "http://127。0。0。1:{port}/a.png", "http://127．0．0．1:{port}/a.png", "http://１２７.0.0.1:{port}/a.png",
    "http://①②⑦.0.0.1:{port}/a.png", "http://ⓛocalhost:{port}/a.png", "http://127.0.0.1%00.example.com:{port}/a.png",
    "http://127%2e0%2e0%2e1:{port}/a.png", "http://example.com\\@127.0.0.1:{port}/a.png",
    "http://example.com@127.0.0.1:{port}/a.png", "http://127.0.0.1:{port}\\@example.com/a.png",
    "http://127.0.0.1:{port}#@example.com/", "http://127.0.0.1:{port}?@example.com/", "http:127.0.0.1:{port}/a.png",
    "http:///127.0.0.1:{port}/a.png", "http:\\\\127.0.0.1:{port}\\a.png", "http://127.0.0.1:{port} /a.png",
    "http://127.0.0.1\t:{port}/a.png", "http://127.0.0.1:0{port}/a.png", "http://127.0.0.1:+{port}/a.png",
    "http://169.254.169.254/latest/meta-data/", "http://[fd00:ec2::254]/latest", "http://100.100.100.200/",
    "http://metadata:{port}/", "http://" + "a" * 64 + ":{port}/", "http://ip6-localhost:{port}/a.png",
]  # fmt: skip


@pytest.mark.parametrize("url", HOSTILE)
async def test_no_connection_is_made_to_a_refused_address(site: Recorded, url: str) -> None:
    """However it is written, the listener sees nobody, and the process has not tried to connect."""
    with recorded_connects() as connects, pytest.raises((UrlNotAllowed, ImageNotFetched)):
        await fetched(url.format(port=site.port), outbound_networks="")
    assert site.connections == connects == []


async def test_the_recording_sees_a_connection(site: Recorded) -> None:
    """Without which the test above could not fail."""
    with recorded_connects() as connects:
        await fetched(f"{site.url}/a.png")
    assert connects == [("127.0.0.1", site.port)]
    assert len(site.connections) == 1


async def test_a_redirect_leads_to_no_refused_address(site: Recorded) -> None:
    """Each hop is checked as the first one, by address and by name."""
    with serve({"/a.png": body(DATA)}, address="127.0.0.1") as other:
        hosts = [
            "[::1]",
            "0x7f.1",
            "localhost",
            "private.example",
            "169.254.169.254",
            "127.0.0.2",
            "[::ffff:127.0.0.1]",
        ]
        answers = {f"/{number}": redirect(f"http://{host}:{other.port}/a.png") for number, host in enumerate(hosts)}
        resolve, _ = resolver(["10.0.0.1"])
        with serve(answers) as first, recorded_connects() as connects:
            for path in answers:
                with pytest.raises((UrlNotAllowed, ImageNotFetched)):
                    await fetched(first.url + path, resolve=resolve)
        assert {port for _, port in connects} == {first.port}
        assert other.connections == []


@needs_proc
async def test_a_name_that_changes_its_address_is_resolved_once(site: Recorded) -> None:
    """A resolver that answers with an allowed address and then with a refused one (DNS rebinding)."""
    with serve({"/a.png": body(DATA)}, address="127.0.0.2", port=site.port) as refused:
        resolve, asked = resolver(["127.0.0.1"], ["127.0.0.2"])
        url = f"http://rebinding.example:{site.port}"
        assert await fetched(f"{url}/a.png", resolve=resolve) == [DATA]
        assert asked == ["rebinding.example"]
        with pytest.raises(ImageNotFetched, match="public"):
            await fetched(f"{url}/a.png", resolve=resolve)
        assert refused.connections == []


@pytest.mark.parametrize(
    "answer", [["10.0.0.1"], ["127.0.0.1", "10.0.0.1"], ["127.0.0.1", "::ffff:127.0.0.1"], ["fe80::1%1"], []]
)
async def test_one_refused_address_spoils_a_name(site: Recorded, answer: list[str]) -> None:
    """And a name without any address gets the same message, so that no client learns which private names exist."""
    resolve, _ = resolver(answer)
    with pytest.raises(ImageNotFetched) as found:
        await fetched(f"http://name.example:{site.port}/a.png", resolve=resolve)
    assert found.value.detail == "image_url could not be fetched: its host is unknown, or has no public address."
    assert site.connections == []


async def test_an_address_that_does_not_answer_is_followed_by_the_next(site: Recorded) -> None:
    """As a name may have several."""
    resolve, _ = resolver(["127.0.0.3", "127.0.0.1"])
    url = f"http://name.example:{site.port}/a.png"
    assert await fetched(url, resolve=resolve, outbound_networks="127.0.0.0/8") == [DATA]


async def test_a_slow_resolver_ends_in_time() -> None:
    """The limit covers the name, too."""

    async def never(_host: str) -> list[Address]:
        await asyncio.Event().wait()
        return []

    with pytest.raises(ImageNotFetched, match="within"):
        await fetched("https://slow.example/", resolve=never, fetch_timeout_s=0.2)
