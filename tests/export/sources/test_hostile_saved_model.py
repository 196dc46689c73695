"""SavedModels that would write, read or run something: all are refused before TensorFlow loads them."""

from pathlib import Path
from typing import Any

import keras
import pytest
import tensorflow as tf

from tests.export.refusal import refused
from tests.support.models import tiny_keras

pytestmark = [tiny_keras.quiet_keras, pytest.mark.filterwarnings("ignore::UserWarning")]


class _Writing(tf.Module):  # type: ignore[misc]  # TensorFlow has no types
    def __init__(self, canary: str) -> None:
        self.canary = canary

    @tf.function(input_signature=[tf.TensorSpec((None, 8, 8, 3), tf.float32)])  # type: ignore[untyped-decorator]
    def writes(self, x: Any) -> Any:
        tf.io.write_file(self.canary, "canary")
        return {"p": tf.nn.softmax(tf.reduce_mean(x, [1, 2]))}

    @tf.function(input_signature=[tf.TensorSpec((None, 8, 8, 3), tf.float32)])  # type: ignore[untyped-decorator]
    def reads(self, x: Any) -> Any:
        return {"p": tf.reduce_mean(x, [1, 2]) + tf.cast(tf.strings.length(tf.io.read_file("/etc/passwd")), tf.float32)}

    @tf.function(input_signature=[tf.TensorSpec((None, 8, 8, 3), tf.float32)])  # type: ignore[untyped-decorator]
    def runs_python(self, x: Any) -> Any:
        (made,) = tf.numpy_function(lambda value: [value], [x], [tf.float32])
        return {"p": tf.reduce_mean(tf.ensure_shape(made, (None, 8, 8, 3)), [1, 2])}

    @tf.function(input_signature=[tf.TensorSpec((None, 8, 8, 3), tf.float32)])  # type: ignore[untyped-decorator]
    def harmless(self, x: Any) -> Any:
        return {"p": tf.nn.softmax(tf.reduce_mean(x, [1, 2]))}


@pytest.mark.parametrize("function", ["writes", "reads", "runs_python", "harmless"])
def test_a_saved_model_with_other_operations_isrefused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], function: str
) -> None:
    """In its signature, and in a function beside a harmless one."""
    module = _Writing(str(tmp_path / "canary"))
    signatures = {"serving_default": getattr(module, function)}
    tf.saved_model.save(module, str(tmp_path / "trap"), signatures=signatures)
    refused(tmp_path / "trap", tmp_path, capsys, "it holds the operation")


def test_a_saved_model_with_augmentation_at_work_is_refused_with_the_way_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """model.export() of Keras 3 leaves it so: each answer would be another one."""
    given = keras.Input((8, 8, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.RandomFlip()(given))
    keras.Model(given, pooled).export(str(tmp_path / "random"), verbose=False)
    refused(tmp_path / "random", tmp_path, capsys, 'model(image, training=False)).export("random")')


def test_a_saved_model_that_restores_by_writing_isrefused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The operation that saves a checkpoint writes to any path; it must not be part of what is run."""

    class Saving(tf.Module):  # type: ignore[misc]  # TensorFlow has no types
        @tf.function(input_signature=[tf.TensorSpec((None, 8, 8, 3), tf.float32)])  # type: ignore[untyped-decorator]
        def run(self, x: Any) -> Any:
            tf.raw_ops.SaveV2(prefix=str(tmp_path / "canary"), tensor_names=["a"], shape_and_slices=[""], tensors=[x])
            return {"p": tf.nn.softmax(tf.reduce_mean(x, [1, 2]))}

    module = Saving()
    tf.saved_model.save(module, str(tmp_path / "trap"), signatures={"serving_default": module.run})
    refused(tmp_path / "trap", tmp_path, capsys, "it holds the operation SaveV2")


def test_a_saved_model_with_a_table_isrefused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Loading would fill it from a file."""
    (tmp_path / "words.txt").write_text("a\nb\n")

    class Looking(tf.Module):  # type: ignore[misc]  # TensorFlow has no types
        def __init__(self) -> None:
            line = tf.lookup.TextFileIndex
            words = str(tmp_path / "words.txt")
            source = tf.lookup.TextFileInitializer(words, tf.string, line.WHOLE_LINE, tf.int64, line.LINE_NUMBER)
            self.table = tf.lookup.StaticHashTable(source, -1)

        @tf.function(input_signature=[tf.TensorSpec((None, 8, 8, 3), tf.float32)])  # type: ignore[untyped-decorator]
        def run(self, x: Any) -> Any:
            return {"p": tf.reduce_mean(x, [1, 2]) + tf.cast(self.table.lookup(tf.constant("a")), tf.float32)}

    module = Looking()
    tf.saved_model.save(module, str(tmp_path / "trap"), signatures={"serving_default": module.run})
    refused(tmp_path / "trap", tmp_path, capsys, "is refused")
