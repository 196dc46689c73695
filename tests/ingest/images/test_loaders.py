"""Ten real images by each loader of a training: Sluice's answer is that of the owner's own pipeline.

The owner loads with Keras or Pillow, and calls `predict` of EfficientNet-Lite0 in Keras with its ImageNet weights.
Sluice decodes and resizes the file by the artefact of `--like LOADER`, and ONNX Runtime runs it.
"""

import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import keras
import numpy as np
import numpy.typing as npt
import pytest
import skimage
from PIL import Image

from consumers.batch import with_fractions
from consumers.onnx.artefact import describe
from consumers.onnx.providers import CPU, Execution
from consumers.onnx.session import Session
from export import arguments
from export.__main__ import main
from export.convert.normalisation import NORMALISATIONS
from export.sources import keras_application, lite0, torch_checkpoint
from ingest.dispatch.partition_client import PreparedImage
from ingest.images.decode import to_pixels
from stream.model import ModelDescription, Resize
from tests.support.documents import rows
from tests.support.models import tiny_keras

pytestmark = tiny_keras.quiet_keras

SIZE = 224

#: Pixels that the resize of torchvision's evaluation leaves along the shorter side.
SHORTER_SIDE = 256

NAMES = (
    "astronaut.png", "camera.png", "chelsea.png", "coffee.png", "hubble_deep_field.jpg", "ihc.png",
    "motorcycle_left.png", "motorcycle_right.png", "retina.jpg", "rocket.jpg",
)  # fmt: skip

#: What the vector units of another machine may change.
OTHER_CORES = 0.002

Floats = npt.NDArray[np.float32]


def from_directory(folder: Path, **options: object) -> list[Floats]:
    dataset = keras.utils.image_dataset_from_directory(
        folder, labels=None, image_size=(SIZE, SIZE), batch_size=None, shuffle=False, verbose=False, **options
    )
    return [np.asarray(image) for image in dataset]


def by_load_img(folder: Path, **options: object) -> list[Floats]:
    files = sorted(folder.glob("*/*"))
    return [keras.utils.img_to_array(keras.utils.load_img(file, target_size=(SIZE, SIZE), **options)) for file in files]


def by_flow(folder: Path) -> list[Floats]:
    flow = keras.src.legacy.preprocessing.image.ImageDataGenerator().flow_from_directory(
        folder, target_size=(SIZE, SIZE), class_mode=None, shuffle=False, batch_size=len(NAMES)
    )
    return list(next(flow))


def by_torchvision(folder: Path, *, tensors: bool = False) -> list[Floats]:
    """Resize(256) and CenterCrop(224), step by step as torchvision does them with Pillow, or with floats."""
    loaded = []
    for file in sorted(folder.glob("*/*")):
        image = Image.open(file).convert("RGB")
        short = min(image.size)
        width, height = (int(SHORTER_SIDE * side / short) for side in image.size)
        bands = [band.convert("F") for band in image.split()] if tensors else [image]
        scaled = [np.asarray(band.resize((width, height), Image.Resampling.BILINEAR)) for band in bands]
        pixels = np.dstack(scaled).astype(np.float32)
        top, left = round((height - SIZE) / 2), round((width - SIZE) / 2)
        loaded.append(pixels[top : top + SIZE, left : left + SIZE])
    return loaded


@dataclass(frozen=True, slots=True)
class Loader:
    """`like`: the options of export. `limit`: of a probability's difference, more if JPEG is scaled in decoding."""

    like: str
    load: Callable[[Path], list[Floats]]
    limit: float = 0.01


DATASET = "--like image_dataset_from_directory"

#: By the name that docs/artefact.md gives them.
LOADERS = {
    "image_dataset_from_directory": Loader(DATASET, from_directory),
    "with `crop_to_aspect_ratio`": Loader(
        f"{DATASET} --resize crop_to_aspect_ratio", lambda folder: from_directory(folder, crop_to_aspect_ratio=True)
    ),
    "with `pad_to_aspect_ratio`": Loader(
        f"{DATASET} --resize pad_to_aspect_ratio", lambda folder: from_directory(folder, pad_to_aspect_ratio=True)
    ),
    "load_img": Loader("--like load_img", by_load_img),
    "`load_img`, bilinear": Loader(
        "--like load_img --interpolation bilinear", lambda folder: by_load_img(folder, interpolation="bilinear"), 0.03
    ),
    "flow_from_directory": Loader("--like flow_from_directory", by_flow),
    "torchvision, images": Loader("--like torchvision", by_torchvision, 0.03),
    "torchvision, tensors": Loader(
        "--like torchvision_tensor", lambda folder: by_torchvision(folder, tensors=True), 0.03
    ),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The images as PNG and as JPEG, each in a subfolder as Keras expects it."""
    found = {}
    for suffix in (".png", ".jpg"):
        folder = found[suffix] = tmp_path_factory.mktemp(suffix[1:])
        (folder / "all").mkdir()
        for name in NAMES:
            source, target = Path(skimage.__file__).parent / "data" / name, folder / "all" / Path(name).stem
            if source.suffix == suffix == ".jpg":
                shutil.copy(source, target.with_suffix(suffix))
            else:
                Image.open(source).convert("RGB").save(target.with_suffix(suffix), quality=92)
    return found


@pytest.fixture(scope="module")
def owner() -> Callable[[list[Floats]], Floats]:
    network = lite0.build()
    lite0.load(network, torch_checkpoint.read(keras_application.lite0_checkpoint()))
    return lambda images: network.predict(NORMALISATIONS["lite"].applied(np.stack(images)), verbose=0)


@pytest.fixture(scope="module")
def artefacts(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """By whether pixels are rounded: the graphs of all loaders are one of these two."""
    folder = tmp_path_factory.mktemp("models")
    for version, like in (("1", "image_dataset_from_directory"), ("2", "load_img")):
        words = ["efficientnet-lite0", "--like", like, "--version", version, "--output", str(folder)]
        assert main(words) == 0
    return {
        rounded: folder / "efficientnet-lite0" / version / "model.onnx"
        for rounded, version in ((False, "1"), (True, "2"))
    }


@pytest.mark.parametrize("name", list(LOADERS))
def test_the_answer_is_that_of_the_owners_pipeline(
    folders: dict[str, Path],
    owner: Callable[[list[Floats]], Floats],
    artefacts: dict[bool, Path],
    tmp_path: Path,
    name: str,
) -> None:
    """Within the limit, and as the document says, for lossless files and for JPEG."""
    loader = LOADERS[name]
    resize = _resize(loader)
    found = []
    for folder in folders.values():
        files = sorted(folder.glob("*/*"))
        answers = served(files, resize, artefacts[resize.rounded], tmp_path)
        found.append(float(np.abs(answers - owner(loader.load(folder))).max()))
    _, options, *documented = next(row for row in rows("docs/artefact.md", "loader, as it is called") if row[0] == name)
    assert options == loader.like
    assert max(found) <= loader.limit
    for difference, published in zip(found, map(float, documented), strict=True):
        assert difference <= published + OTHER_CORES <= loader.limit + OTHER_CORES


def _resize(loader: Loader) -> Resize:
    job = arguments.parse(["efficientnet-lite0", *loader.like.split()]).job
    assert job is not None
    return Resize(**asdict(job.resize.resolved(SIZE, SIZE, job.default_resize())))


def served(files: list[Path], resize: Resize, artefact: Path, tmp_path: Path) -> Floats:
    """As ingest and a consumer do it, without the stream between them."""
    session = Session(artefact, CPU, Execution(cache_dir=tmp_path, max_batch=1))
    model = replace(describe(artefact, session), resize=resize)
    return np.concatenate([session.run(_input(file, model), 1) for file in files])


def _input(file: Path, model: ModelDescription) -> npt.NDArray[np.uint8] | Floats:
    prepared = PreparedImage(model, to_pixels(file.read_bytes(), model, 10**8), 0)
    entry = prepared.entry("00" * 16, reply="")
    pixels = np.frombuffer(entry.pixels, np.uint8) if model.resize.rounded else with_fractions(entry)
    return pixels.reshape(1, model.height, model.width, model.channels)
