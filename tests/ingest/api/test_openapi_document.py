"""The OpenAPI document: every route is in it, what it says is what the code checks by, and answers are as it says."""

from typing import Any

import httpx
import jsonschema
import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ingest.app import create_app
from ingest.images.formats import MEDIA_TYPES
from ingest.openapi.document import Document, Service, UndocumentedRoute
from stream.settings import IngestSettings
from tests.ingest.test_app import png
from tests.support.processes import Processes
from tests.support.redis.requests_direct import random_images

OPEN = Service("1", keys=False, limited=False, classes=10)


def document(service: Service = OPEN, **settings: Any) -> dict[str, Any]:
    return Document(service).build(create_app(IngestSettings(**settings)).routes)


def test_a_route_that_says_nothing_of_itself_fails() -> None:
    """So nobody adds one and forgets the document."""

    async def nothing(_request: Request) -> Response:
        return Response()

    with pytest.raises(UndocumentedRoute):
        Document(OPEN).build([Route("/new", nothing)])


def test_every_route_is_in_the_document() -> None:
    """With its methods, but for the one that answers what is no route."""
    routes = [one for one in create_app(IngestSettings()).routes if isinstance(one, Route) and one.include_in_schema]
    documented = {(method.upper(), path) for path, methods in document()["paths"].items() for method in methods}
    assert documented == {(method, one.path_format) for one in routes for method in (one.methods or set()) - {"HEAD"}}


def test_each_route_is_in_the_group_of_its_subject() -> None:
    """What is no page and no reference is not called one."""
    groups = {path: one["tags"] for path, methods in document()["paths"].items() for one in methods.values()}
    assert groups["/v1/models/{model}:predict"] == ["TensorFlow Serving"]
    pages = {path for path, tags in groups.items() if tags == ["Page and reference"]}
    assert pages == {"/", "/docs", "/page/{name}", "/openapi.json"}


def test_limits_and_formats_are_those_that_are_checked() -> None:
    """The settings' own, the formats' own, and the classes of the model that is served."""
    predict = document(max_images=3, max_upload_bytes=1000)["paths"]["/predict"]["post"]
    content = predict["requestBody"]["content"]
    assert content["multipart/form-data"]["schema"]["properties"]["image"]["maxItems"] == 3
    assert content["multipart/form-data"]["encoding"]["image"]["contentType"].split(", ") == list(MEDIA_TYPES.values())
    assert content["application/octet-stream"]["schema"]["maxLength"] == 1000
    assert predict["parameters"][0]["schema"] == {"type": "integer", "minimum": 1, "maximum": 10}


def test_keys_and_limits_are_documented_if_there_are_any() -> None:
    """Health needs none of them."""
    documented = document(Service("1", keys=True, limited=True, classes=None))
    assert set(documented["components"]["securitySchemes"]) == {"bearer", "key", "basic"}
    assert {"401", "429"} <= documented["paths"]["/models"]["get"]["responses"].keys()
    assert {"401", "429"}.isdisjoint(documented["paths"]["/healthz"]["get"]["responses"])
    assert "security" not in document()["paths"]["/models"]["get"]


def test_answers_are_as_the_document_says(processes: Processes) -> None:
    """One image, several, one for later, a problem, an error of the protocol: each by its schema."""
    processes.consumer(version=1)
    _, url = processes.ingest()
    (image,) = random_images(1)
    content = png(image)
    several = [("image", ("a.png", content)), ("image", ("b.png", content[:50]))]
    with httpx.Client(base_url=url) as client:
        documented = client.get("/openapi.json").json()
        for path, answer in (
            ("/predict", client.post("/predict", content=content)),
            ("/predict", client.post("/predict", files=several)),
            ("/predict", client.post("/predict", content=content, headers={"Prefer": "respond-async"})),
            ("/predict", client.post("/predict", content=b"no image")),
            ("/models", client.get("/models")),
            ("/v2/models/{model}", client.get("/v2/models/tiny")),
            ("/v2/models/{model}", client.get("/v2/models/other")),
            ("/results/{id}", client.get("/results/other")),
        ):
            operation = documented["paths"][path][answer.request.method.lower()]
            response = operation["responses"][str(answer.status_code)]
            schema = response["content"][answer.headers["content-type"]]["schema"]
            jsonschema.Draft202012Validator({**schema, "components": documented["components"]}).validate(answer.json())
            required = [name for name, one in response["headers"].items() if one.get("required")]
            assert all(name in answer.headers for name in required)
