"""Clients that are generated from `/openapi.json` classify an image, and know the type of an error."""

import ast
import base64
import importlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import httpx
import pytest

from tests.ingest.test_app import png, ranked
from tests.support.documents import text
from tests.support.processes import ROOT, Processes
from tests.support.redis.requests_direct import random_images

#: `make install` puts them here if npm is on the PATH.
NODE_MODULES = ROOT / ".venv" / "node" / "node_modules"

(IMAGE,) = random_images(1)

_TYPESCRIPT = """
import type { components } from "./api.d.ts";
import { classify } from "./classify.js";

declare const process: { argv: string[] };

const [, , encoded] = process.argv;
const bytes = Uint8Array.from(atob(encoded), (letter) => letter.charCodeAt(0));
const good = await classify(new Blob([bytes]));
const bad = await classify(new Blob([bytes.slice(0, 60)]));
const problem: components["schemas"]["ProblemDocument"] | undefined = bad.error;
console.log(JSON.stringify([good.data, problem?.code]));
"""

_TSC = {
    "strict": True,
    "target": "es2022",
    "lib": ["es2022", "dom"],
    "module": "nodenext",
    "types": [],
    "skipLibCheck": True,
}


@pytest.fixture
def url(processes: Processes) -> str:
    processes.consumer(version=1)
    return processes.ingest()[1]


@pytest.fixture
def generated(url: str, tmp_path: Path) -> Iterator[str]:
    """The name of the package that openapi-python-client makes."""
    document = tmp_path / "openapi.json"
    document.write_bytes(httpx.get(f"{url}/openapi.json").content)
    options = ["--path", str(document), "--output-path", str(tmp_path / "sluice_client"), "--meta", "none"]
    program = Path(sys.executable).with_name("openapi-python-client")
    made = subprocess.run([program, "generate", *options], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stdout + made.stderr
    assert "warning" not in made.stdout.lower(), made.stdout
    assert "will not be generated" not in made.stdout, made.stdout
    sys.path.insert(0, str(tmp_path))
    yield "sluice_client"
    sys.path.remove(str(tmp_path))
    for name in [name for name in sys.modules if name.partition(".")[0] == "sluice_client"]:
        del sys.modules[name]


def test_a_generated_python_client_classifies_an_image(url: str, generated: str, tmp_path: Path) -> None:
    """openapi-python-client: a file goes in, a typed prediction or problem comes out, as the documents show."""

    def module(name: str) -> ModuleType:
        return importlib.import_module(f"{generated}.{name}")

    models, types, predict = module("models"), module("types"), module("api.predict.post_predict")
    with module("client").Client(base_url=url) as client:

        def send(data: bytes) -> object:
            body = models.PostPredictFilesBody(
                image=[types.File(payload=data, file_name="a.png", mime_type="image/png")]
            )
            return predict.sync(client=client, body=body, top=2)

        prediction = send(png(IMAGE))
        assert isinstance(prediction, models.Prediction)
        assert [one.to_dict() for one in prediction.predictions] == ranked(IMAGE, 2)
        problem = send(png(IMAGE)[:60])
        assert isinstance(problem, models.ProblemDocument)
        assert (problem.status, problem.code) == (422, "damaged_image")
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples/cat.jpg").write_bytes(png(IMAGE))
    (program,) = re.findall(r"```python\n(from sluice_client .*?)```", text("docs/api.md"), re.DOTALL)
    shown = program.replace("http://127.0.0.1:5000", url)
    done = subprocess.run([sys.executable, "-c", shown], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert ast.literal_eval(done.stdout) == [(one["label"], one["probability"]) for one in ranked(IMAGE, 2)]


@pytest.mark.skipif(
    shutil.which("node") is None or not NODE_MODULES.is_dir(),
    reason="needs Node.js, and npm on the PATH at `make install`",
)
def test_a_generated_typescript_client_classifies_an_image(url: str, tmp_path: Path) -> None:
    """openapi-typescript with openapi-fetch: the shown program passes the type check, and runs."""
    (tmp_path / "node_modules").symlink_to(NODE_MODULES)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (shown,) = re.findall(r"```ts\n(.*?)```", text("docs/api.md"), re.DOTALL)
    (tmp_path / "classify.ts").write_text(shown.replace("http://127.0.0.1:5000", url))
    (tmp_path / "main.ts").write_text(_TYPESCRIPT)
    node_run(tmp_path, "openapi-typescript", f"{url}/openapi.json", "-o", "api.d.ts")
    (tmp_path / "tsconfig.json").write_text(json.dumps({"compilerOptions": _TSC, "files": ["main.ts"]}))
    node_run(tmp_path, "tsc", "--project", ".")
    encoded = base64.b64encode(png(IMAGE)).decode()
    found = subprocess.run(["node", "main.js", encoded], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    prediction, code = json.loads(found.stdout)
    assert prediction["predictions"] == ranked(IMAGE, 2)
    assert code == "damaged_image"


def node_run(folder: Path, program: str, *arguments: str) -> None:
    done = subprocess.run(
        [NODE_MODULES / ".bin" / program, *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
