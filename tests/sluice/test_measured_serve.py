"""`sluice serve` of a transfer-learning model whose file does not tell how pixels were scaled; README shows it."""

import re
import signal
from pathlib import Path

import httpx
import keras
import numpy as np
import pytest
import skimage
from PIL import Image

from tests.sluice.test_serve import is_ready, said, serving
from tests.support.documents import ROOT, shown_commands
from tests.support.models import tiny_keras
from tests.support.redis.servers import free_port
from tests.support.waiting import PATIENCE_S, wait_until

pytestmark = tiny_keras.quiet_keras

SIZE = 96

#: What README calls the model, its labels and the folder of images.
MODEL, LABELS, IMAGES = "flowers.keras", "flowers.txt", "photos"

CLASSES = ("brick", "grass")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty real images: twenty parts of a wall, twenty of a meadow, all of about the same brightness."""
    folder = tmp_path_factory.mktemp("images")
    for name in CLASSES:
        (folder / name).mkdir()
        whole = Image.fromarray(getattr(skimage.data, name)()).convert("RGB")
        for number in range(20):
            left, top = 20 * number, 90 * (number % 4)
            whole.crop((left, top, left + 120, top + 120)).save(folder / name / f"{number:02}.jpg", quality=95)
    return folder


@pytest.fixture(scope="module")
def model(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MobileNetV2 behind ImageDataGenerator(rescale=1/255), as the most common notebook has it.

    Its weights are random, but its statistics and its head are learned from the images.
    """
    keras.utils.set_random_seed(3)
    base = keras.applications.MobileNetV2(
        include_top=False, weights=None, alpha=0.35, input_shape=(SIZE, SIZE, 3), pooling="avg"
    )
    generator = keras.src.legacy.preprocessing.image.ImageDataGenerator(rescale=1 / 255)
    flow = generator.flow_from_directory(images, target_size=(SIZE, SIZE), batch_size=40, shuffle=False)
    pixels, classes = next(flow)
    for layer in base.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    base(pixels, training=True)
    features = base.predict(pixels, verbose=0)
    head = keras.layers.Dense(2, activation="softmax")
    whole = keras.Sequential([base, head])
    whole.build((None, SIZE, SIZE, 3))
    centred = features - features.mean(axis=0)
    kernel = 12 * np.linalg.pinv(centred, rcond=1e-2) @ (classes - 0.5)
    head.set_weights([kernel, -features.mean(axis=0) @ kernel])
    path = tmp_path_factory.mktemp("model") / "walls.keras"
    whole.save(path)
    assert (whole.predict(pixels, verbose=0).argmax(axis=1) == classes.argmax(axis=1)).all()
    return path


def as_shown(command: str, port: int, output: str) -> bool:
    """Whether the output has the lines that README prints below the command, in order; `...` stands for anything."""
    (shown,) = (one.output for one in shown_commands(ROOT / "README.md") if one.command == command)
    lines = (re.escape(line).replace(r"\.\.\.", ".*") for line in shown.replace(".venv/bin/", "").splitlines())
    return re.search("(?m)^" + ".*\n(?:.*\n)*?".join(lines) + "$", output.replace(f" --port {port}", "")) is not None


@pytest.mark.timeout(600)
def test_forty_images_tell_the_normalisation(tmp_path: Path, model: Path, images: Path) -> None:
    """The service says which one it is and why, and answers as the notebook does."""
    port = free_port()
    (tmp_path / MODEL).symlink_to(model)
    (tmp_path / IMAGES).symlink_to(images)
    (tmp_path / LABELS).write_text("\n".join(CLASSES))
    with serving(tmp_path, MODEL, "--labels", LABELS, "--images", IMAGES, "--port", port) as running:
        wait_until(
            lambda: is_ready(tmp_path, port) or running.poll() is not None, "the service is ready", timeout_s=400
        )
        found = "\n".join(said(tmp_path))
        assert as_shown(f".venv/bin/sluice serve {MODEL} --labels {LABELS} --images {IMAGES}", port, found), found
        for name in CLASSES:
            data = (images / name / "07.jpg").read_bytes()
            answer = httpx.post(f"http://127.0.0.1:{port}/predict", files={"image": data}, timeout=PATIENCE_S).json()
            assert answer["predictions"][0]["label"] == name
        running.send_signal(signal.SIGINT)
        assert running.wait(PATIENCE_S) == 0


def test_without_images_it_asks_and_names_two_commands(tmp_path: Path) -> None:
    """Both begin as the command that was typed. `make run` starts what is started here."""
    tiny_keras.model(classes=len(CLASSES)).save(tmp_path / MODEL)
    (tmp_path / LABELS).write_text("\n".join(CLASSES))
    port = free_port()
    with serving(tmp_path, MODEL, "--port", port, "--labels", LABELS) as running:
        assert running.wait(PATIENCE_S) == 2
    found = "\n".join(said(tmp_path))
    assert as_shown(f"make run MODEL={MODEL} LABELS={LABELS}", port, found), found
    assert not (tmp_path / "models").exists()
