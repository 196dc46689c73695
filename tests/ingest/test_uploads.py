"""Uploads as clients send them, over a real socket: forms, raw bodies, limits, and every way to break a form."""

import gc
import hashlib
from typing import Any

import httpx
import pytest
import requests

from ingest.errors import BadParameter, MalformedUpload
from ingest.form import Form
from tests.support.images import encoded, noisy_scene, scene
from tests.support.upload_server import UploadServer

CAT = encoded(scene(), "JPEG")
BOUNDARY = b"----boundary"


def described(name: str | None, data: bytes) -> list[Any]:
    return [name, len(data), hashlib.sha256(data).hexdigest()]


def part(headers: bytes, data: bytes = CAT) -> bytes:
    return b"--" + BOUNDARY + b"\r\n" + headers + b"\r\n\r\n" + data + b"\r\n"


def form(*parts: bytes, end: bytes = b"--" + BOUNDARY + b"--\r\n") -> bytes:
    return b"".join(parts) + end


def image_part(data: bytes = CAT, parameters: bytes = b'; filename="cat.jpg"') -> bytes:
    return part(b'Content-Disposition: form-data; name="image"' + parameters, data)


def post(site: UploadServer, body: bytes, content_type: bytes | None = None) -> httpx.Response:
    kind = content_type or b"multipart/form-data; boundary=" + BOUNDARY
    return httpx.post(site.url, content=body, headers={b"Content-Type": kind})


def problem(response: httpx.Response) -> tuple[int, str]:
    document = response.json()
    assert document["status"] == response.status_code
    assert document["success"] is False
    assert response.headers["content-type"] == "application/problem+json"
    return response.status_code, document["code"]


def test_a_form_with_an_image_is_read(site: UploadServer) -> None:
    """What `curl -F image=@cat.jpg` sends."""
    assert post(site, form(image_part())).json() == [described("cat.jpg", CAT)]


def test_requests_and_httpx_send_forms_that_are_read(site: UploadServer) -> None:
    """The two libraries that people use in Python."""
    assert requests.post(site.url, files={"image": ("cat.jpg", CAT)}, timeout=20).json() == [described("cat.jpg", CAT)]
    assert httpx.post(site.url, files={"image": ("cat.jpg", CAT)}).json() == [described("cat.jpg", CAT)]


#: What .NET's MultipartFormDataContent writes before the data of an image, with each of its overloads of Add: names
#: without quotes, the file's name twice, and the content's own headers before the disposition.
DOTNET_PARTS = {
    "name alone": (b"Content-Disposition: form-data; name=image", None),
    "file name": (b"Content-Disposition: form-data; name=image; filename=cat.jpg; filename*=utf-8''cat.jpg", "cat.jpg"),
    "content type first": (
        (
            b"Content-Type: image/jpeg\r\n"
            b"Content-Disposition: form-data; name=image; filename=cat.jpg; filename*=utf-8''cat.jpg"
        ),
        "cat.jpg",
    ),
    "content type last": (
        b'Content-Disposition: form-data; name="image"; filename="cat.jpg"\r\nContent-Type: image/jpeg',
        "cat.jpg",
    ),
    "umlaut": (
        (
            b'Content-Disposition: form-data; name=image; filename="=?utf-8?B?S8OkdHpjaGVuLmpwZw==?="; '
            b"filename*=utf-8''K%C3%A4tzchen.jpg"
        ),
        "Kätzchen.jpg",
    ),
}


@pytest.mark.parametrize("case", DOTNET_PARTS)
def test_dotnet_sends_forms_that_are_read(site: UploadServer, case: str) -> None:
    """Its boundary is a GUID in quotes. The first one opens the body, and others follow a line break."""
    headers, name = DOTNET_PARTS[case]
    boundary = b"6b5f8c31-56a9-4c3c-9a0c-2a1f0e7d9b44"
    note = b"Content-Type: text/plain; charset=utf-8\r\nContent-Disposition: form-data; name=note\r\n\r\n3"
    body = b"--%s\r\n%s\r\n--%s\r\n%s\r\n\r\n%s\r\n--%s--\r\n" % (boundary, note, boundary, headers, CAT, boundary)
    response = post(site, body, b'multipart/form-data; boundary="%s"' % boundary)
    assert response.json() == [described(name, CAT)]


def test_a_boundary_of_equals_signs_needs_no_quotes(site: UploadServer) -> None:
    """As Java programs send it that write their forms themselves."""
    boundary = b"===1732936800123==="
    body = form(image_part()).replace(BOUNDARY, boundary)
    for kind in (b"multipart/form-data; boundary=%s", b"multipart/form-data;boundary=%s; charset=utf-8"):
        assert post(site, body, kind % boundary).json() == [described("cat.jpg", CAT)]


def test_several_images_are_read_in_the_order_sent(site: UploadServer) -> None:
    """Each with its own name, the other parts left out."""
    names = [b"b.jpg", b"a.jpg", b"c.jpg"]
    parts = [image_part(CAT + name, b'; filename="' + name + b'"') for name in names]
    note = part(b'Content-Disposition: form-data; name="note"', b"three cats")
    response = post(site, form(parts[0], note, parts[1], parts[2]))
    assert response.json() == [described(name.decode(), CAT + name) for name in names]


@pytest.mark.parametrize(
    "content_type", [b"image/jpeg", b"application/octet-stream", b"application/x-www-form-urlencoded", b"text/plain"]
)
def test_a_body_of_any_other_type_is_the_image(site: UploadServer, content_type: bytes) -> None:
    """`curl --data-binary @cat.jpg` calls it a form; the bytes decide."""
    assert post(site, CAT, content_type).json() == [described(None, CAT)]


def test_a_body_without_a_content_type_is_the_image(site: UploadServer) -> None:
    """httpx names no type for plain bytes."""
    assert httpx.post(site.url, content=CAT).json() == [described(None, CAT)]


def test_a_chunked_body_is_read(site: UploadServer) -> None:
    """A client that does not know the length sends chunks."""
    assert httpx.post(site.url, content=iter([CAT[:100], CAT[100:]])).json() == [described(None, CAT)]


def test_a_large_image_arrives_whole(site: UploadServer) -> None:
    """Over many chunks, with a boundary's beginning in the pixels."""
    data = encoded(noisy_scene(), "JPEG") + b"\r\n------bound" * 1000
    assert post(site, form(image_part(data))).json() == [described("cat.jpg", data)]


@pytest.mark.parametrize("size", range(1, 40))
def test_a_form_may_be_cut_anywhere(size: int) -> None:
    """However the network cuts the body into pieces, the same parts come out."""
    body = form(image_part(b"\r\n--pixels\r\n------boundar\r\n"), part(b'Content-Disposition: form-data; name="x"'))
    collected = Form(BOUNDARY.decode(), max_images=4)
    for start in range(0, len(body), size):
        collected.feed(body[start : start + size])
    assert collected.images == [("cat.jpg", b"\r\n--pixels\r\n------boundar\r\n")]
    assert collected.other_names == ["x"]
    collected.end()


def test_an_option_in_the_form_is_refused_with_its_place() -> None:
    """It would have no effect."""
    collected = Form(BOUNDARY.decode(), max_images=1, elsewhere={"webhook-url": "Send it elsewhere."})
    with pytest.raises(BadParameter, match=r"a part 'Webhook_URL', which .* Send it elsewhere\."):
        collected.feed(form(image_part(), part(b'Content-Disposition: form-data; name="Webhook_URL"')))


def test_a_form_leaves_nothing_to_the_garbage_collector() -> None:
    """What is freed at once is still in the processor's caches for the next image; a cycle would keep its pixels."""
    collected = Form(BOUNDARY.decode(), max_images=1)
    collected.feed(form(image_part()))
    collected.end()
    gc.collect()
    gc.disable()
    try:
        del collected
        assert gc.collect() == 0
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("parameters", "name"),
    [
        (b"", None),
        (b'; filename="cat.jpg"', "cat.jpg"),
        (b"; filename=cat.jpg", "cat.jpg"),
        ('; filename="Kätzchen.jpg"'.encode(), "Kätzchen.jpg"),
        ('; filename="Kätzchen.jpg"'.encode("latin-1"), "Kätzchen.jpg"),
        (b"; filename*=utf-8''K%C3%A4tzchen.jpg", "Kätzchen.jpg"),
        (b"; filename*=ISO-8859-1''K%E4tzchen.jpg", "Kätzchen.jpg"),
        (b"; filename=\"k.jpg\"; filename*=UTF-8'de'K%C3%A4tzchen.jpg", "Kätzchen.jpg"),
        (b'; filename="a;b=\\"c\\".jpg"', 'a;b="c".jpg'),
        (b'; filename="../../etc/passwd"', "../../etc/passwd"),
        (b'; filename="' + b"x" * 400 + b'"', "x" * 255),
    ],
)
def test_file_names_are_returned_as_they_were_meant(site: UploadServer, parameters: bytes, name: str | None) -> None:
    """UTF-8, Latin-1, RFC 5987; they are labels, and never opened."""
    assert post(site, form(image_part(CAT, parameters))).json() == [described(name, CAT)]


def test_a_form_without_an_image_names_its_parts(site: UploadServer) -> None:
    """The client sees at once that its part has the wrong name."""
    response = post(site, form(part(b'Content-Disposition: form-data; name="file"; filename="cat.jpg"')))
    assert problem(response) == (400, "no_image")
    assert "'file'" in response.json()["detail"]
    assert "image=@cat.jpg" in response.json()["detail"]


@pytest.mark.parametrize("content_type", [None, b"image/jpeg", b"application/x-www-form-urlencoded"])
def test_an_empty_body_has_no_image(site: UploadServer, content_type: bytes | None) -> None:
    """As a form and as an image."""
    assert problem(post(site, b"", content_type)) == (400, "no_image")


def test_a_form_in_which_no_file_was_chosen_has_no_image(site: UploadServer) -> None:
    """A browser sends an empty part with an empty name."""
    response = post(site, form(image_part(b"", b'; filename=""')))
    assert problem(response) == (400, "no_image")
    assert response.json()["detail"].startswith("The part image is empty.")


def test_an_empty_form_has_no_image(site: UploadServer) -> None:
    """Only a closing boundary."""
    assert problem(post(site, form())) == (400, "no_image")


GOOD = b'Content-Disposition: form-data; name="image"'


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (form(image_part()), b"multipart/form-data"),
        (form(image_part()), b"multipart/form-data; boundary="),
        (form(image_part()), b"multipart/form-data; boundary=" + b"x" * 71),
        (form(image_part()), b"multipart/form-data; boundary=other"),
        (form(image_part()), b"multipart/mixed; boundary=" + BOUNDARY),
        (form(image_part(), end=b""), None),
        (form(image_part(), end=b"--" + BOUNDARY), None),
        (form(image_part())[:200], None),
        (b"hello, this is no form", None),
        (form(part(b"Content-Type: image/jpeg")), None),
        (form(part(b'Content-Disposition: attachment; name="image"')), None),
        (form(part(b'Content-Disposition: form-data; filename="image"')), None),
        (form(part(GOOD + b"\r\nX-Long: " + b"y" * 5000)), None),
        (form(part(GOOD + b"\r\nX: y" * 20)), None),
        (form(part(GOOD + b"\r\nno colon here")), None),
        (form(part(GOOD + b"\r\nContent-Type: multipart/mixed; boundary=b")), None),
        (form(part(GOOD + b"\r\nContent-Transfer-Encoding: base64")), None),
    ],
)
def test_a_form_that_is_broken_is_refused(site: UploadServer, body: bytes, content_type: bytes | None) -> None:
    """400, with a detail that says what is wrong with it."""
    assert problem(post(site, body, content_type)) == (400, "malformed_upload")


def test_padding_and_an_epilogue_are_allowed(site: UploadServer) -> None:
    """RFC 2046 lets spaces follow a boundary, and anything follow the last one."""
    body = form(image_part(), end=b"--" + BOUNDARY + b"--\r\nthe end")
    assert post(site, body).json() == [described("cat.jpg", CAT)]


def test_a_header_that_never_ends_is_malformed() -> None:
    """The parser gives up at the limit of a header, long before that of the body."""
    collected = Form(BOUNDARY.decode(), max_images=1)
    collected.feed(b"--" + BOUNDARY + b"\r\nX-Long: " + b"y" * 4000)
    with pytest.raises(MalformedUpload, match="header length"):
        collected.feed(b"y" * 100)
