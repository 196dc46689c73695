"""Images by URL over TLS: whose certificate counts, and where a redirect may lead."""

import ssl
from pathlib import Path

import pytest

from ingest.errors import ImageNotFetched, UrlNotAllowed
from tests.ingest.outbound.test_image_urls import DATA, fetched, resolver
from tests.support.recorded_server import body, redirect, serve
from tests.support.redis.certificates import Authority

pytestmark = pytest.mark.anyio


async def test_tls_checks_the_name_though_the_address_is_fixed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SNI, certificate and Host are those of the URL."""
    authority = Authority(tmp_path)
    pair = authority.issue("images", host="images.example")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    resolve, asked = resolver(["127.0.0.1"])
    with serve({"/a.png": body(DATA)}, tls=context) as server:
        url = f"https://images.example:{server.port}/a.png"
        assert await fetched(url, resolve=resolve, outbound_http=False) == [DATA]
        assert server.heads[0][1]["Host"] == f"images.example:{server.port}"
        with pytest.raises(ImageNotFetched, match="certificate"):
            await fetched(url.replace("images.", "other."), resolve=resolve)
    assert server.names == asked == ["images.example", "other.example"]


async def test_a_server_without_tls_is_no_wrong_certificate() -> None:
    """It has none."""
    with serve({"/a.png": body(DATA)}) as plain, pytest.raises(ImageNotFetched, match="speaks no TLS"):
        await fetched(f"https://127.0.0.1:{plain.port}/a.png")


async def test_https_does_not_redirect_to_http(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless http is allowed anyway."""
    authority = Authority(tmp_path)
    pair = authority.issue("images", address="127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    with serve({"/a.png": body(DATA)}) as plain, serve({"/a": redirect(f"{plain.url}/a.png")}, tls=context) as server:
        url = f"https://127.0.0.1:{server.port}/a"
        with pytest.raises(UrlNotAllowed, match="redirects"):
            await fetched(url, outbound_http=False)
        assert plain.connections == []
        assert await fetched(url) == [DATA]
