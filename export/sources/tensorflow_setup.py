"""TensorFlow and Keras as an export needs them: quiet, on the CPU, channels last.

To import this module takes the time of TensorFlow's start, so only modules that need it do.
"""

import logging
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version

import keras
import tensorflow as tf

#: For a connection to the server of the weights, and for any pause in what it sends.
DOWNLOAD_TIMEOUT_S = 20.0


def prepare() -> None:
    """Undoes what a user's keras.json or a GPU would change in the exported numbers."""
    keras.config.set_image_data_format("channels_last")
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")
    # TF32 on a GPU rounds to ten bits; the answers that an artefact is held against come from the CPU.
    tf.config.set_visible_devices([], "GPU")
    # tf2onnx lists operators it can't express; the first of them is in the error that follows.
    for name in ("tensorflow", "tf2onnx", "absl"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module=r"(keras|tensorflow|tf2onnx|onnx)(\..*)?$")


def versions() -> dict[str, str]:
    """For the artefact's source entry."""
    return {name: version(name) for name in ("keras", "tensorflow", "tf2onnx", "onnx")}


@contextmanager
def download_timeout() -> Iterator[None]:
    """Keras downloads without a timeout: behind a firewall that drops packets it would wait for minutes."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT_S)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
