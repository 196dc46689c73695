"""EfficientNet-Lite0 with its real weights: what it says of real images."""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
import skimage
from PIL import Image

from export.__main__ import main
from export.artefact import labels
from export.errors import UnreadableFile
from export.sources import keras_application, lite0, torch_checkpoint
from tests.support.models import tiny_keras

pytestmark = tiny_keras.quiet_keras

#: Those that come with scikit-image itself.
SCENES = ("astronaut", "camera", "cat", "coffee", "coins", "hubble_deep_field", "moon", "rocket", "brick")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("models")
    assert main(["efficientnet-lite0", "--output", str(output)]) == 0
    return output / "efficientnet-lite0" / "1" / "model.onnx"


def prepared(image: Image.Image) -> npt.NDArray[np.uint8]:
    """Shorter side to 256, bicubic, then the 224 x 224 in the centre: as the artefact says."""
    image = image.convert("RGB")
    ratio = 256 / min(image.size)
    image = image.resize((round(image.width * ratio), round(image.height * ratio)), Image.Resampling.BICUBIC)
    left, top = (image.width - 224) // 2, (image.height - 224) // 2
    return np.asarray(image.crop((left, top, left + 224, top + 224)))


@pytest.mark.parametrize(
    ("image", "names", "probability"),
    [
        ("chelsea", {"tabby", "tiger_cat", "Egyptian_cat"}, 0.8),
        ("coffee", {"espresso", "cup"}, 0.9),
        ("camera", {"tripod"}, 0.9),
    ],
)
def test_real_images_are_recognised(exported: Path, image: str, names: set[str], probability: float) -> None:
    """Two cups and a cat are enough to tell a wrong padding, epsilon or channel order."""
    session = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
    pixels = prepared(Image.fromarray(getattr(skimage.data, image)()))
    answer = session.run(["probabilities"], {"images": pixels[np.newaxis]})[0][0]
    found = dict(zip(labels.imagenet(), answer.tolist(), strict=True))
    assert labels.imagenet()[answer.argmax()] in names
    assert sum(found[name] for name in names) > probability


def test_it_brings_its_own_resizing(exported: Path) -> None:
    """And its own normalisation; both are in the file."""
    found = {entry.key: entry.value for entry in onnx.load(exported).metadata_props}
    assert (
        found["sluice.resize"] == '{"mode": "crop", "shorter_side": 256, "interpolation": "bicubic", "antialias": true}'
    )
    assert found["sluice.preprocess"] == "lite"
    assert found["sluice.name"] == "efficientnet-lite0"


def test_batch_normalisation_is_folded_into_the_convolutions(exported: Path) -> None:
    """49 convolutions, one change of layout, and no normalisation left but the input's."""
    kinds = [node.op_type for node in onnx.load(exported).graph.node]
    assert kinds.count("Conv") == 49
    assert kinds.count("Transpose") == 1
    assert "BatchNormalization" not in kinds


def checkpoint() -> dict[str, npt.NDArray[np.float32]]:
    return torch_checkpoint.read(keras_application.lite0_checkpoint())


def test_a_foreign_checkpoint_is_refused() -> None:
    """A tensor that is missing, one of another shape, and one too many."""
    model, tensors = lite0.build(), checkpoint()
    with pytest.raises(UnreadableFile, match=r"'_fc\.bias'"):
        lite0.load(model, {name: tensor for name, tensor in tensors.items() if name != "_fc.bias"})
    with pytest.raises(UnreadableFile, match="not one of EfficientNet-Lite0"):
        lite0.load(model, {**tensors, "_fc.bias": tensors["_fc.bias"][:-1]})
    with pytest.raises(UnreadableFile, match="it has extra as well"):
        lite0.load(model, {**tensors, "extra": tensors["_fc.bias"]})


def crops(folder: Path, count: int) -> Path:
    """Parts of scikit-image's images, large and small."""
    folder.mkdir()
    random = np.random.default_rng(13)
    for number in range(count):
        name = SCENES[number % len(SCENES)]
        image = Image.fromarray(getattr(skimage.data, name)()).convert("RGB")
        share, right, down = random.uniform((0.5, 0, 0), (1, 1, 1))
        width, height = round(image.width * share), round(image.height * share)
        left, top = round(right * (image.width - width)), round(down * (image.height - height))
        image.crop((left, top, left + width, top + height)).save(folder / f"{number:03}.jpg", quality=90)
    return folder


def test_int8_says_of_real_images_what_fp32_says(exported: Path, tmp_path: Path) -> None:
    """Top-1 on nine of ten that were not used for calibration, and on all where fp32 leads by 0.1."""
    images = crops(tmp_path / "photos", 72)
    assert main(["--from", str(exported), "--precision", "int8", "--calibrate", str(images)]) == 0
    reduced = exported.parent.parent / "2" / "model.onnx"
    found = {entry.key: entry.value for entry in onnx.load(reduced).metadata_props}
    agreement = json.loads(found["sluice.agreement"])
    assert agreement["images"] == 36
    assert agreement["decided_images"] >= 12
    assert agreement["top1_agreement"] >= 0.9
    assert agreement["decided_top1_agreement"] >= 0.99
    assert reduced.stat().st_size < 0.3 * exported.stat().st_size
