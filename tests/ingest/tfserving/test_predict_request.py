"""Requests as they may come: images, or a sentence about what is wrong, and nothing else."""

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest.classification import Image
from ingest.errors import BadParameter
from ingest.request_body import Upload
from ingest.tfserving.predict_request import parse_classify, parse_predict
from stream.model import ModelDescription, Resize

#: The same cases each time, however slow the machine is.
thorough = settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))

numbers = st.one_of(st.integers(-1, 256), st.sampled_from([0, 1, 255, 0.5, 1 / 255, 0.2, 1e300, -0.0, True, None, "1"]))
arrays = st.recursive(numbers, lambda inner: st.lists(inner, max_size=4), max_leaves=24)
items = st.one_of(
    arrays,
    st.dictionaries(st.sampled_from(["b64", "image", "x"]), st.one_of(arrays, st.text(max_size=8)), max_size=2),
)
documents = st.dictionaries(
    st.sampled_from(["instances", "inputs", "examples", "signature_name", "context"]),
    st.one_of(st.lists(items, max_size=3), items),
    max_size=2,
)


def model(channels: int) -> ModelDescription:
    return ModelDescription("m", "1", "", 2, 2, Resize(), ("a",), channels=channels)


@thorough
@given(documents, st.sampled_from([1, 3, 4]))
def test_any_document_gives_images_or_a_reason(document: dict[str, Any], channels: int) -> None:
    """Pixels have the model's size, and anything that must be resized is a file."""
    for parse in (_predict, parse_classify):
        try:
            images = parse(document, model(channels))
        except BadParameter:
            continue
        assert images
        assert all(isinstance(one, Upload) or len(one) == model(channels).input_bytes for one in images)


def _predict(document: dict[str, Any], about: ModelDescription) -> list[Image]:
    return parse_predict(document, about).images


@thorough
@given(st.lists(st.integers(0, 255), min_size=12, max_size=12), st.booleans())
def test_pixels_come_back_whatever_their_scale(pixels: list[int], divided: bool) -> None:
    """As they are, or divided by 255 in float32, unless that leaves only zeros and ones."""
    image = np.array(pixels, np.float32).reshape(2, 2, 3)
    sent = (image / np.float32(255) if divided else image).tolist()
    document = {"instances": [sent]}
    if set(np.ravel(sent)) <= {0.0, 1.0} and any(np.ravel(sent)):
        with pytest.raises(BadParameter, match="may mean either"):
            parse_predict(document, model(3))
    else:
        (found,) = parse_predict(document, model(3)).images
        assert isinstance(found, memoryview)
        assert found.tolist() == pixels
