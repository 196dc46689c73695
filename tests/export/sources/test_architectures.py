"""The table of named networks, held against the Keras that is installed."""

import inspect
import re
import warnings

import keras
import numpy as np
import pytest

from export.convert.normalisation import NORMALISATIONS
from export.errors import BadArgument
from export.sources import architectures
from export.sources.architectures import ARCHITECTURES, LITE0, Architecture
from tests.support.models import tiny_keras

pytestmark = tiny_keras.quiet_keras

KERAS = [architecture for architecture in ARCHITECTURES.values() if architecture is not LITE0]


def test_every_classifier_of_keras_is_in_the_table() -> None:
    """A new Keras may bring new ones."""
    functions = {name for name, _ in inspect.getmembers(keras.applications, inspect.isfunction)}
    assert {architecture.function for architecture in KERAS} == functions
    assert len(KERAS) == len(functions)


@pytest.mark.parametrize("module", sorted({architecture.module for architecture in KERAS}))
def test_normalisations_are_those_of_keras(module: str) -> None:
    """The formula gives what the module's own preprocess_input gives, for every value of a pixel."""
    pixels = np.random.default_rng(5).permuted(np.tile(np.arange(256, dtype=np.float32), (3, 1)), axis=1).T
    pixels = pixels.reshape(1, 16, 16, 3)
    (mode,) = {architecture.preprocess for architecture in KERAS if architecture.module == module}
    normalisation = NORMALISATIONS[mode]
    ours = pixels[..., ::-1] if normalisation.bgr else pixels
    ours = (ours - np.array(normalisation.mean)) / np.array(normalisation.scale)
    theirs = getattr(keras.applications, module).preprocess_input(pixels.copy())
    np.testing.assert_allclose(ours, theirs, atol=1e-4 if mode == "caffe" else 1e-6)


def test_networks_belong_to_the_modules_that_the_table_says() -> None:
    """So that each is judged by its own preprocess_input."""
    for architecture in KERAS:
        module = getattr(keras.applications, architecture.function).__module__
        assert module.endswith(f".{architecture.module}")


@pytest.mark.parametrize("architecture", KERAS, ids=lambda architecture: architecture.name)
def test_input_sizes_are_those_of_keras(architecture: Architecture) -> None:
    """Keras names the one size that its ImageNet weights are for when it is asked for another.

    It does so before it builds anything; MobileNetV3 only warns, which is as good as an error here.
    """
    function = getattr(keras.applications, architecture.function)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises((ValueError, UserWarning)) as refused:
            function(input_shape=(1000, 1000, 3))
    found = re.search(r"(?:should be|for input shape) \((\d+), (\d+)", str(refused.value))
    assert found is not None
    assert found.groups() == (str(architecture.size), str(architecture.size))


@pytest.mark.parametrize("name", ["mobilenetv2", "MobileNetV2", "mobilenet_v2", "Mobilenet-V2"])
def test_a_name_may_be_spelt_in_several_ways(name: str) -> None:
    """As the function, as the module, or as people write it."""
    assert architectures.find(name).name == "mobilenetv2"


def test_a_misspelt_name_is_refused_with_its_neighbours() -> None:
    """So that the next attempt succeeds."""
    with pytest.raises(BadArgument, match=r"no architecture 'resnet5'; try one of: .*resnet50"):
        architectures.find("resnet5")


@pytest.mark.parametrize(("name", "expected"), [("ResNet50", True), ("mobilenet-v2", True), ("my_model", False)])
def test_a_word_is_known_to_name_a_network_or_not(name: str, expected: bool) -> None:
    """What is no name may be a file."""
    assert architectures.known(name) is expected
