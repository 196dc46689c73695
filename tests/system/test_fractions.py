"""Models whose pixels have fractions, beside a version that takes whole pixels: both answer, each by its own input."""

import base64
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from export.artefact.description import Resize
from export.images.resize import LOADERS, resized
from tests.support.images import encoded, noisy_scene
from tests.support.models import mean_model
from tests.support.processes import Processes
from tests.support.waiting import wait_until

SIZE = mean_model.SIZE


@pytest.fixture
def models_dir(tmp_path: Path) -> Path:
    """Version 1 takes uint8, version 2 fractions."""
    folder = tmp_path / "models"
    whole = {**mean_model.TENSORFLOW, "rounded": True}
    mean_model.build(folder, "mean", output_kind="values", channels=3, version="1", resize=whole)
    mean_model.build(folder, "mean", output_kind="values", channels=3, version="2", fractions=True)
    return folder


def means(image: Image.Image, resize: Resize) -> list[float]:
    """What a model answers whose pixels are resized so."""
    return [float(mean) for mean in resized(image, SIZE, SIZE, resize).mean(axis=(0, 1))]


def test_both_versions_answer_while_one_replaces_the_other(processes: Processes) -> None:
    """Ingest prepares images for the newer one. The older one gets the same pixels rounded, and nothing fails."""
    for version in (1, 2):
        processes.consumer(model="mean", version=version, max_batch=1)
    _, url = processes.ingest(model="mean")
    image = noisy_scene(21, 17)
    data = encoded(image, "PNG")
    answers: dict[str, list[float]] = {}

    def both_have_answered() -> bool:
        response = httpx.post(f"{url}/predict", content=data, headers={"Content-Type": "image/png"})
        assert response.status_code == 200, response.text
        answers[response.json()["version"]] = response.json()["values"]
        return set(answers) == {"1", "2"}

    wait_until(both_have_answered, "both versions have answered")
    tensorflow = LOADERS["image_dataset_from_directory"]
    assert answers["2"] == pytest.approx(means(image, tensorflow), abs=0.003)
    rounded = Resize("squash", None, "bilinear", antialias=False)
    assert answers["1"] == pytest.approx(means(image, rounded), abs=0.02)
    assert answers["1"] != pytest.approx(means(image, tensorflow), abs=0.003)


def test_pixels_from_a_client_are_whole(processes: Processes) -> None:
    """The inference protocol carries uint8, and a model with fractions takes that for what it is."""
    processes.consumer(model="mean", version=2)
    _, url = processes.ingest(model="mean")
    pixels = np.asarray(noisy_scene(SIZE, SIZE))
    tensor = {"name": "images", "datatype": "UINT8", "shape": [1, SIZE, SIZE, 3], "data": pixels.ravel().tolist()}
    response = httpx.post(f"{url}/v2/models/mean/infer", json={"inputs": [tensor]})
    assert response.json()["outputs"][0]["data"] == pytest.approx(pixels.mean(axis=(0, 1)), abs=1e-3)
    encoded_tensor = base64.b64encode(encoded(Image.fromarray(pixels), "PNG")).decode()
    response = httpx.post(f"{url}/v1/models/mean:predict", json={"instances": [{"b64": encoded_tensor}]})
    assert response.json()["predictions"][0] == pytest.approx(pixels.mean(axis=(0, 1)), abs=1e-3)
