"""A service that answers for the artefacts of the matrix, over HTTP."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
from PIL import Image

from tests.export.matrix.case import Answers, Floats, Pixels
from tests.support.processes import Processes, on_own_server
from tests.support.waiting import PATIENCE_S, wait_until

JSON = dict[str, object]


@contextmanager
def serving(folder: Path) -> Iterator[Answers]:
    """One ingest, and a consumer of its own for each artefact while it answers."""
    with on_own_server(folder, folder) as processes:
        _, url = processes.ingest(ready=False)
        with httpx.Client(base_url=url, timeout=PATIENCE_S) as client:
            yield lambda artefact, images: _answers(processes, client, artefact, images)


def _answers(processes: Processes, client: httpx.Client, artefact: Path, images: Pixels) -> Floats:
    """Of the images sent as a tensor, which those sent as files of the same pixels must have as well."""
    name = artefact.parent.parent.name
    consumer = processes.consumer(model=name, models_dir=artefact.parent.parent.parent)
    try:
        consumer.ready()
        wait_until(lambda: client.get(f"/v2/models/{name}/ready").is_success, f"ingest knows {name}")
        labels = client.get(f"/models/{name}/labels").json()["labels"]
        rows = _of_tensor(client, name, images)
        files = np.array([_of_file(client, name, image, labels) for image in images])
    finally:
        consumer.stop()
    np.testing.assert_allclose(files, rows, atol=1e-6)
    return rows


def _of_tensor(client: httpx.Client, name: str, images: Pixels) -> Floats:
    tensor = {"name": "images", "datatype": "UINT8", "shape": images.shape, "data": images.ravel().tolist()}
    response = client.post(f"/v2/models/{name}/infer", json={"inputs": [tensor]})
    assert response.is_success, response.text
    (output,) = response.json()["outputs"]
    return np.reshape(output["data"], output["shape"])


def _of_file(client: httpx.Client, name: str, image: Pixels, labels: list[str]) -> list[float]:
    stream = io.BytesIO()
    Image.fromarray(image.squeeze()).save(stream, "PNG")
    response = client.post(f"/predict/{name}", content=stream.getvalue())
    if response.is_success and "values" in response.json():
        values: list[float] = response.json()["values"]
        return values
    response = client.post(f"/predict/{name}?top={len(labels)}", content=stream.getvalue())
    assert response.is_success, response.text
    found = {one["label"]: one["probability"] for one in response.json()["predictions"]}
    return [found[label] for label in labels]
