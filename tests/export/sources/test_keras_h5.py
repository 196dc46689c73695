"""An .h5 of Keras 3: layers that it stores by their bare names, and operators that Keras itself does not find again."""

from pathlib import Path

import keras
import numpy as np
import pytest
from keras.src.applications import convnext

from export.convert.parity import sample_images
from tests.export.sources.test_keras_file import export, predict, written
from tests.support.models import tiny_keras
from tests.support.models.tiny_keras import SIZE

pytestmark = tiny_keras.quiet_keras


def saved(model: keras.Model, path: Path) -> Path:
    model.save(path)
    return path


def test_layers_of_convnext_are_found(tmp_path: Path) -> None:
    """They are of keras.applications, and not the user's own."""
    model = tiny_keras.model(before=(convnext.LayerScale(0.5, 3), convnext.StochasticDepth(0.1)))
    assert export(tmp_path, saved(model, tmp_path / "tiny.h5"), "--preprocess", "unit") == 0
    images = sample_images(SIZE, SIZE)
    np.testing.assert_allclose(predict(written(tmp_path), images), model.predict(images / 255.0, verbose=0), atol=1e-6)


def test_what_keras_cannot_load_is_saved_in_another_way(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`x + y` is stored as `Add`, and Keras then makes a layer of that name, which takes a list."""
    given = keras.Input((SIZE, SIZE, 3))
    model = keras.Model(given, tiny_keras.model()(given + keras.layers.Activation("relu")(given)))
    with pytest.raises(TypeError):
        keras.saving.load_model(saved(model, tmp_path / "tiny.h5"))
    assert export(tmp_path, tmp_path / "tiny.h5", "--preprocess", "unit") == 2
    assert 'model.save("tiny.keras")' in capsys.readouterr().err
    assert export(tmp_path, saved(model, tmp_path / "tiny.keras"), "--preprocess", "unit") == 0
