"""The OpenAPI document: every route is in it, what it says is what the code checks by, and answers are as it says."""

import json
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import httpx
import jsonschema
import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ingest.app import create_app
from ingest.auth.api_keys import StoredKey, new_key
from ingest.errors import MEDIA_TYPE, AdminKeyNeeded, LoadRefused, MixedVersions
from ingest.images.formats import MEDIA_TYPES
from ingest.openapi.document import Document, Service, UndocumentedRoute
from stream.settings import IngestSettings
from tests.ingest.test_app import png
from tests.ingest.test_errors import subclasses
from tests.support.processes import ROOT, Processes
from tests.support.redis.requests_direct import random_images

KEY = new_key()
OPEN = Service("1", keys=False, limited=False, classes=10)


needs_node = pytest.mark.skipif(not shutil.which("node"), reason="needs Node.js")


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


def test_every_problem_is_declared_by_an_operation() -> None:
    """But for those that end only requests of other protocols, whose errors have no codes."""
    service = Service("1", keys=True, limited=True, classes=10)
    declared = json.dumps(document(service, fetch_urls=True, webhooks=True))
    missing = {kind for kind in subclasses() if f'"{kind.code}"' not in declared}
    assert missing == {AdminKeyNeeded, LoadRefused, MixedVersions}


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


def test_what_is_off_is_not_in_the_document() -> None:
    """The problems of images by URL, of webhooks and of keys. The reasons of a 503 are all there."""
    off = codes(document())
    assert {"url_not_allowed", "image_not_fetched", "bulk_key"}.isdisjoint(off)
    assert {"model_unloaded", "model_replaced", "no_consumer", "overloaded", "stream_unavailable"} <= off
    assert codes(document(fetch_urls=True)) - off == {"url_not_allowed", "image_not_fetched"}
    assert codes(document(webhooks=True)) - off == {"url_not_allowed"}
    assert codes(document(Service("1", keys=True, limited=False, classes=10))) - off == {"bulk_key", "unauthorized"}


def codes(documented: dict[str, Any]) -> set[str]:
    """Those of the problems of /predict."""
    responses = documented["paths"]["/predict"]["post"]["responses"]
    return {code for one in responses.values() for code in one["content"].get(MEDIA_TYPE, {}).get("examples", {})}


def test_a_path_that_does_not_exist_is_described_as_it_is_answered(url: str) -> None:
    """And a path with a label, which is always a 404, promises nothing else."""
    documented = httpx.get(f"{url}/openapi.json").json()
    missing = documented["paths"]["/models/{model}/labels"]["get"]["responses"]["404"]["content"][MEDIA_TYPE]
    answered = httpx.get(f"{url}/nothing").json()
    assert missing["examples"]["not_found"]["value"] == {**answered, "detail": ANY}
    assert "200" not in documented["paths"]["/v1/models/{model}/labels/{label}:predict"]["post"]["responses"]


@needs_node
def test_examples_work_when_they_are_copied(
    processes: Processes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those of /docs, in each language, with the model that is served. Only their ids and labels are unknown."""
    processes.consumer(version=1)
    keys = tmp_path / "keys"
    keys.write_text(StoredKey.of("root", KEY, ["admin"]).encode())
    _, url = processes.ingest(api_keys_file=keys)
    image = shutil.copy(ROOT / "examples/cat.jpg", tmp_path)
    (tmp_path / ".curlrc").write_text('silent\nwrite-out = "%{stderr}%{http_code}"\n')
    program = tmp_path / "program.py"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CURL_HOME", str(tmp_path))
    monkeypatch.setenv("SLUICE_API_KEY", KEY)
    shown = json.loads(output("node", ROOT / "tests/support/openapi/docs_examples.mjs", url, KEY, image)[0])
    assert {one["path"] for one in shown} >= {"/predict/{model}", "/v1/models/{model}:classify", "/live"}
    for one in shown:
        texts = one["texts"]
        if one["stream"]:
            script = f"const key = {KEY!r};\n{texts['JavaScript']}"
            assert first_line("bash", "-c", texts["curl"]) == "retry: 1000\n"
            assert first_line(sys.executable, "-c", texts["Python"]) == "retry: 1000\n"
            assert first_line("node", "--input-type=module", "-e", script) == "retry: 1000\n"
            continue
        program.write_text(texts["Python"])
        runpy.run_path(str(program))  # in this process, since each start of Python takes longer than the request
        statuses = {output("bash", "-c", texts["curl"])[1], one["printed"][:3], capsys.readouterr().out[:3]}
        assert statuses <= ({"404"} if re.search("{id}|{label}", one["path"]) else {"200", "204"}), one


def output(*command: object) -> tuple[str, str]:
    done = subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True)
    return done.stdout, done.stderr


def first_line(*command: str) -> str:
    with subprocess.Popen(list(command), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        line = process.stdout.readline()
        process.kill()
    return line


def test_answers_are_as_the_document_says(url: str) -> None:
    """One image, several, one for later, a problem, an error of the protocol: each by its schema."""
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
