"""Which URLs may be requested, before anything is resolved."""

import random

import pytest

from ingest.outbound.policy import Policy, UrlRefused
from stream.settings import IngestSettings

ANY = Policy()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("http://example.com/a.jpg", "https"),
        ("ftp://example.com/a.jpg", "https"),
        ("file:///etc/passwd", "https"),
        ("//example.com/a.jpg", "https"),
        ("a.jpg", "https"),
        ("", "https"),
        ("https://user@example.com/", "user name"),
        ("https://user:secret@example.com/", "user name"),
        ("https://:@example.com/", "user name"),
        ("https://@example.com/", "user name"),
        ("https://example.com\\@127.0.0.1/", "backslash"),
        ("https:\\\\127.0.0.1\\a.jpg", "backslash"),
        ("https://exam ple.com/", "space"),
        ("https://example.com/\r\nHost: internal", "control"),
        ("https://example.com/\x00", "control"),
        ("https:///a.jpg", "host"),
        ("https://127%2e0.0.1/", "host"),
        ("https://[fe80::1%25eth0]/", "host"),
        ("https://[v1.x]/", "URL"),
        ("https://example.com:99999/", "port"),
        ("https://example.com:0/", "port"),
        ("https://example.com:x/", "URL"),
        ("https://127.0.0.1/", "public"),
        ("https://127。0。0。1/", "public"),
        ("https://[::1]/", "public"),
        ("https://[::ffff:127.0.0.1]/", "public"),
        ("https://[::ffff:7f00:1]/", "public"),
        ("https://169.254.169.254/latest/meta-data", "public"),
        ("https://[fd00:ec2::254]/", "public"),
        ("https://example.com/" + "a" * 2048, "2048"),
    ],
)
def test_a_url_that_must_not_be_requested_is_refused(text: str, why: str) -> None:
    """With the reason."""
    with pytest.raises(UrlRefused, match=why):
        ANY.check_url(text)


def test_hosts_can_be_listed() -> None:
    """A host by its name, and all below a domain, however it is written; no host that only looks like it."""
    policy = Policy.of(IngestSettings(), "images.example.com, *.cdn.example.org,[2606:4700::1]")
    for allowed in (
        "https://images.example.com/",
        "https://IMAGES.EXAMPLE.COM./",
        "https://images.example.com:8443/",
        "https://a.b.cdn.example.org/",
        "https://[2606:4700::1]/",
    ):
        policy.check_url(allowed)
    for refused in (
        "https://example.com/",
        "https://a.images.example.com/",
        "https://cdn.example.org/",
        "https://evilcdn.example.org/",
        "https://images.example.com.evil.org/",
    ):
        with pytest.raises(UrlRefused, match="allows"):
            policy.check_url(refused)


def test_settings_open_http_and_networks() -> None:
    """For a store of one's own."""
    settings = IngestSettings(outbound_http=True, outbound_networks="10.1.0.0/16, fd00::/8")
    policy = Policy.of(settings, "")
    assert policy.check_url("http://10.1.2.3:9000/a.jpg?x=1#part").raw_path == b"/a.jpg?x=1"
    assert policy.check_url("http://[fd00::1]/").raw_host == b"fd00::1"
    with pytest.raises(UrlRefused, match="public"):
        policy.check_url("http://10.2.0.1/")


@pytest.mark.parametrize(
    "wrong", [{"outbound_networks": "10.1.2.3/8"}, {"fetch_hosts": "https://example.com"}, {"fetch_hosts": "a b"}]
)
def test_settings_that_cannot_be_meant_are_refused(wrong: dict[str, str]) -> None:
    """When the process starts."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        IngestSettings.model_validate(wrong)


def test_any_text_is_a_url_or_refused() -> None:
    """Noise of the pieces that parsers disagree about: never another exception, and never credentials."""
    chance = random.Random(4)
    pieces = ["http", "https", ":", "//", "/", "\\", "@", "#", "?", "%", "[", "]", "::1", "127.0.0.1", "0x7f.1", ".",
              "。", "%2e", "%00", "\t", " ", "é", "ß", "xn--", "a" * 70, ":80", "user",
              "\ud800", "example.com", "-"]  # fmt: skip
    for _ in range(3000):
        text = "https://" * chance.randint(0, 1) + "".join(chance.choices(pieces, k=chance.randint(1, 8)))
        try:
            url = ANY.check_url(text)
        except UrlRefused:
            continue
        assert url.scheme == "https"
        assert url.raw_host
        assert not url.userinfo
