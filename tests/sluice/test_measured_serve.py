"""`sluice serve` of a transfer-learning model whose file does not tell how its pixels were scaled."""

import signal
from pathlib import Path

import httpx
import keras
import numpy as np
import pytest
import skimage
from PIL import Image

from tests.sluice.test_serve import is_ready, said, serving
from tests.support.models import tiny_keras
from tests.support.redis.servers import free_port
from tests.support.waiting import PATIENCE_S, wait_until

pytestmark = tiny_keras.quiet_keras

SIZE = 96

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


@pytest.mark.timeout(600)
def test_forty_images_tell_the_normalisation(tmp_path: Path, model: Path, images: Path) -> None:
    """The service says which one it is and why, and answers as the notebook does."""
    port = free_port()
    with serving(tmp_path, model, "--images", images, "--port", port) as running:
        wait_until(
            lambda: is_ready(tmp_path, port) or running.poll() is not None, "the service is ready", timeout_s=400
        )
        found = "\n".join(said(tmp_path))
        assert "normalisation unit (measured: right on 100% of 40 labelled images" in found, found
        for name in CLASSES:
            data = (images / name / "07.jpg").read_bytes()
            answer = httpx.post(f"http://127.0.0.1:{port}/predict", files={"image": data}, timeout=PATIENCE_S).json()
            assert answer["predictions"][0]["label"] == name
        running.send_signal(signal.SIGINT)
        assert running.wait(PATIENCE_S) == 0


def test_without_images_it_asks_and_names_two_commands(tmp_path: Path) -> None:
    """Both begin as the command that was typed."""
    model = tiny_keras.model()
    (tmp_path / "labels.txt").write_text("".join(f"{number}\n" for number in range(model.output_shape[-1])))
    model.save(tmp_path / "walls.keras")
    port = free_port()
    with serving(tmp_path, "walls.keras", "--labels", "labels.txt", "--port", port) as running:
        assert running.wait(PATIENCE_S) == 2
    lines = said(tmp_path)
    command = f"sluice serve walls.keras --labels labels.txt --port {port}"
    assert any(line.startswith(f"If you know it:  {command} --preprocess unit|tf|none|caffe|torch") for line in lines)
    assert any(line.startswith(f"If you don't:    {command} --images FOLDER") for line in lines)
    assert not (tmp_path / "models").exists()
