"""`/predict` beyond a plain image: JSON, compressed bodies, output kinds, and mistakes that are named."""

import base64
import gzip
import io
import json
import zlib
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from starlette.datastructures import QueryParams

from ingest.api.predict_request import Options
from ingest.errors import BadParameter
from ingest.request_json import decode_base64
from stream.model import ModelDescription, Resize
from tests.ingest.test_app import png, ranked
from tests.support.models import mean_model, tiny_model
from tests.support.processes import on_own_server
from tests.support.redis.requests_direct import random_images

IMAGE, OTHER = random_images(2)
FILE = png(IMAGE)
TEXT = base64.b64encode(FILE).decode()


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """An ingest before three models: classes of RGB, labels of RGBA and values of greyscale."""
    folder = tmp_path_factory.mktemp("predict")
    models_dir = folder / "models"
    tiny_model.build(models_dir)
    mean_model.build(models_dir, "rgba", output_kind="labels", channels=4)
    mean_model.build(models_dir, "grey", output_kind="values", channels=1)
    with on_own_server(folder, models_dir) as processes:
        for model in ("tiny", "rgba", "grey"):
            processes.consumer(model=model)
        _, url = processes.ingest(model="tiny", max_images=4)
        with httpx.Client(base_url=url, timeout=30) as client:
            yield client


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        f"data:image/png;base64,{TEXT}",
        f"data:image/png;charset=x;base64,{TEXT}",
        base64.urlsafe_b64encode(FILE).decode().rstrip("="),
        base64.encodebytes(FILE).decode(),
    ],
)
def test_one_image_in_json(client: httpx.Client, text: str) -> None:
    """As base64 of either alphabet, with line breaks, without padding, and as a data: URI."""
    response = client.post("/predict", json={"image": text, "top": 3})
    assert response.status_code == 200, response.text
    assert response.json()["predictions"] == ranked(IMAGE, 3)
    assert response.headers["x-sluice-batch"] == "1"


def test_several_images_in_json(client: httpx.Client) -> None:
    """In order; one that cannot be decoded fails alone."""
    images = [TEXT, base64.b64encode(b"no image").decode(), base64.b64encode(png(OTHER)).decode()]
    first, broken, last = client.post("/predict", json={"images": images}).json()["results"]
    assert (first["predictions"], last["predictions"]) == (ranked(IMAGE), ranked(OTHER))
    assert broken["error"]["code"] == "unsupported_media_type"
    assert first["filename"] is None


def test_json_works_with_prefer_and_an_idempotency_key(client: httpx.Client) -> None:
    """As every other body does."""
    headers = {"Prefer": "wait=20", "Idempotency-Key": "json"}
    one, same = (client.post("/predict", json={"image": TEXT}, headers=headers).json() for _ in range(2))
    assert one["predictions"] == ranked(IMAGE)
    assert one == same


@pytest.mark.parametrize(
    ("document", "status", "text"),
    [
        ({}, 400, "no image"),
        ({"images": []}, 400, "no image"),
        ({"images": TEXT}, 400, "no image"),
        ({"image": TEXT, "images": [TEXT]}, 400, "image and images"),
        ({"image": [1, 2]}, 400, "The image is no string"),
        ({"image": "https://example.com/cat.jpg"}, 400, "is a URL"),
        ({"image": "data:image/png,abc"}, 400, "without base64"),
        ({"images": [TEXT, "a b!"]}, 400, "Image 1 (counted from 0) is not base64: it has characters"),
        ({"image": "a"}, 400, "The image is not base64: it ends within a byte"),
        ({"image": TEXT, "tops": 3}, 400, "'tops'. Supported here: image, images, top, threshold."),
        ({"image": TEXT, "Top": 3}, 400, "'Top'. Supported here: image, images, top, threshold."),
        ({"image": TEXT, "priority": "bulk"}, 400, "'priority'. Put it into the query, as in /predict?priority="),
        ({"image": TEXT, "idempotency_key": "k"}, 400, "Send it as the header Idempotency-Key."),
        ({"image": TEXT, "top": "3"}, 400, "top is '3'"),
        ({"image": TEXT, "top": 11}, 400, "from 1 to 10"),
        ({"image": TEXT, "top": 2.5}, 400, "top is 2.5"),
        ({"image": TEXT, "top": 12.0}, 400, "from 1 to 10"),
        ({"image": TEXT, "top": True}, 400, "top is true;"),
        ({"image_url": 5}, 400, "image_url is 5; it must be a URL"),
        ({"images": [{"image_url": None}]}, 400, "image_url is null;"),
        ({"image": TEXT, "threshold": 2}, 400, "threshold is 2;"),
        ({"image": TEXT, "threshold": "0.5"}, 400, "threshold is '0.5'"),
        ({"image": TEXT, "threshold": 10**400}, 400, "threshold is"),
        ({"images": [TEXT] * 5}, 413, "more than 4 images"),
        ([], 400, "no JSON object"),
    ],
)
def test_wrong_json_is_a_400(client: httpx.Client, document: object, status: int, text: str) -> None:
    """With what is wrong in it."""
    response = client.post("/predict", content=json.dumps(document), headers={"Content-Type": "application/json"})
    assert response.status_code == status, response.text
    assert text in response.json()["detail"]


def test_the_body_outranks_the_query(client: httpx.Client) -> None:
    """Option by option."""
    response = client.post("/predict?top=2&threshold=0", json={"image": TEXT, "top": 3})
    assert response.json()["predictions"] == ranked(IMAGE, 3)


@pytest.mark.parametrize(("coding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_a_compressed_body_is_decompressed(client: httpx.Client, coding: str, compress: Any) -> None:
    """An image, a form and JSON; what is compressed twice, or not at all, is refused."""
    form = httpx.Request("POST", "http://x", files={"image": FILE})
    for kind, body in (
        ("image/png", FILE),
        (form.headers["content-type"], form.read()),
        ("application/json", json.dumps({"image": TEXT}).encode()),
    ):
        headers = {"Content-Type": kind, "Content-Encoding": coding}
        assert client.post("/predict", content=compress(body), headers=headers).json()["predictions"] == ranked(IMAGE)
        plain = client.post("/predict", content=body, headers=headers)
        assert (plain.status_code, plain.json()["code"]) == (400, "bad_parameter")
    unknown = client.post("/predict", content=FILE, headers={"Content-Encoding": "br"})
    assert (unknown.status_code, unknown.json()["code"]) == (415, "unsupported_media_type")
    assert "image" not in unknown.json()["title"] + unknown.json()["detail"]


def test_a_body_that_grows_beyond_the_limit_is_a_413(client: httpx.Client) -> None:
    """A megabyte of it would become a gigabyte."""
    bomb = gzip.compress(bytes(2**27))
    response = client.post("/predict", content=bomb, headers={"Content-Encoding": "gzip"})
    assert (response.status_code, response.json()["code"]) == (413, "payload_too_large")


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        ({"files": {"image": (None, TEXT)}}, "base64 text"),
        ({"files": {"image": (None, f"data:image/png;base64,{TEXT}")}}, "base64 text"),
        ({"content": TEXT}, "base64 text"),
        ({"content": json.dumps(f"data:image/jpeg;base64,{TEXT}")}, "base64 text"),
        ({"data": {"image": TEXT}}, "urlencoded form"),
        ({"data": {"image": "@cat.jpg"}}, "urlencoded form"),
        ({"content": FILE, "headers": {"Content-Type": "multipart/form-data"}}, "needs a boundary"),
        ({"files": {"image": (None, "examples/cat.jpg")}}, "needs an @ before its path"),
        (
            {
                "content": FILE.translate(None, b"\0\r\n"),
                "headers": {"Content-Type": "application/x-www-form-urlencoded"},
            },
            "as curl -d removes them",
        ),
    ],
)
def test_a_common_mistake_is_named(client: httpx.Client, request_: dict[str, Any], text: str) -> None:
    """Base64 or a path where a file belongs, a urlencoded form, a form without a boundary, `curl -d @cat.png`."""
    response = client.post("/predict", **request_)
    assert (response.status_code, response.json()["code"]) == (400, "malformed_upload"), response.text
    assert text in response.json()["detail"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("threshold", "/predict?threshold="),
        ("webhook", "header Webhook-URL"),
        ("prefer", "header Prefer"),
        ("idempotency_key", "header Idempotency-Key"),
        ("X-Sluice-Client", "header X-Sluice-Client"),
    ],
)
def test_a_part_of_a_form_that_would_have_no_effect_is_refused(client: httpx.Client, name: str, text: str) -> None:
    """With where it belongs: a client would wait in vain for its webhook."""
    headers = {"Prefer": "respond-async"}
    response = client.post("/predict", files={"image": ("a.png", FILE)}, data={name: "1"}, headers=headers)
    assert (response.status_code, response.json()["code"]) == (400, "bad_parameter"), response.text
    assert text in response.json()["detail"]


def test_an_image_called_urlencoded_is_read(client: httpx.Client) -> None:
    """As `curl --data-binary @cat.png` calls it. The first bytes of one have lost nothing."""
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    response = client.post("/predict", content=FILE, headers=headers)
    assert response.json()["predictions"] == ranked(IMAGE)
    assert client.post("/predict", content=FILE[:4], headers=headers).json()["code"] == "damaged_image"


def test_a_threshold_leaves_labels_out(client: httpx.Client) -> None:
    """All labels above it, unless `top` says less; in the query and in JSON."""
    truth = [one["probability"].expected for one in ranked(IMAGE, 10)]  # type: ignore[attr-defined]
    least = (truth[6] + truth[7]) / 2
    for response in (
        client.post(f"/predict?threshold={least}", content=FILE),
        client.post("/predict", json={"image": TEXT, "threshold": least}),
    ):
        assert response.json()["predictions"] == ranked(IMAGE, 7)
    assert client.post(f"/predict?threshold={least}&top=2", content=FILE).json()["predictions"] == ranked(IMAGE, 2)
    assert client.post("/predict?threshold=1", content=FILE).json()["predictions"] == []
    for wrong in ("2", "-0.1", "x", "nan", "0.1&threshold=0.2"):
        assert client.post(f"/predict?threshold={wrong}", content=FILE).json()["code"] == "bad_parameter"


def rgba_png() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((8, 8, 4), (255, 0, 51, 204), np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def test_labels_are_independent_probabilities(client: httpx.Client) -> None:
    """Of an RGBA model: the most probable first, and only those above the threshold. A result keeps all of them."""
    by_rank = [("channel_0", 1.0), ("channel_3", 0.8), ("channel_2", 0.2), ("channel_1", 0.0)]
    predictions = client.post("/predict/rgba", content=rgba_png()).json()["predictions"]
    assert [(one["label"], one["probability"]) for one in predictions] == [
        (label, pytest.approx(value, abs=0.01)) for label, value in by_rank
    ]
    filtered = client.post("/predict/rgba?threshold=0.5", content=rgba_png()).json()
    assert [one["label"] for one in filtered["predictions"]] == ["channel_0", "channel_3"]
    again = client.get(f"/results/{filtered['id']}?threshold=0.9").json()
    assert [one["label"] for one in again["predictions"]] == ["channel_0"]
    assert len(client.get(f"/results/{filtered['id']}").json()["predictions"]) == 4


def test_values_come_in_the_order_of_the_model(client: httpx.Client) -> None:
    """Of a greyscale model. `top` and `threshold` make no sense, and are refused."""
    stream = io.BytesIO()
    Image.fromarray(np.full((8, 8), 77, np.uint8)).save(stream, "PNG")
    response = client.post("/predict/grey", content=stream.getvalue())
    assert response.status_code == 200, response.text
    document = response.json()
    assert document["values"] == [pytest.approx(77)]
    assert set(document) == {"success", "values", "model", "version", "id"}
    assert client.get(f"/results/{document['id']}").json() == document
    for option in ("top=1", "threshold=0.5"):
        refused = client.post(f"/predict/grey?{option}", content=stream.getvalue())
        assert (refused.status_code, refused.json()["code"]) == (400, "bad_parameter")


@pytest.mark.parametrize(
    ("query", "kind", "top"),
    [
        ("", "classes", 5),
        ("top=7", "classes", 7),
        ("threshold=0.5", "classes", 9),
        ("threshold=0.5&top=2", "labels", 2),
        ("", "values", 0),
    ],
)
def test_options_decide_how_many_labels_are_computed(query: str, kind: Any, top: int) -> None:
    """Five, as many as asked for, or all that a threshold may let through."""
    labels = tuple(map(str, range(9)))
    model = ModelDescription("m", "1", "", 8, 8, Resize(), labels, output_kind=kind)
    assert Options.parse_query(QueryParams(query)).top_for(model) == top


@pytest.mark.parametrize("text", ["", "a", "ab=c", "abc", "ä", "====", "data:;base64,!"])
def test_base64_is_read_strictly(text: str) -> None:
    """Whole bytes or a BadParameter, never something in between."""
    try:
        decoded = decode_base64(text, "It")
    except BadParameter:
        assert text not in {"", "abc", "===="}
    else:
        assert decoded == {"": b"", "abc": b"i\xb7", "====": b""}[text]
