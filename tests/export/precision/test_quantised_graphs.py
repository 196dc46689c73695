"""Which layers int8 leaves in float, and what becomes of older operator sets."""

from export.precision import int8
from tests.support.models import tiny_keras, tiny_onnx

pytestmark = tiny_keras.quiet_keras


def test_a_stem_before_a_depthwise_convolution_stays_in_float() -> None:
    """With its activations; where the first depthwise one comes late, or never, nothing is left out."""
    made = tiny_onnx.model()
    assert int8.stem(made) == ["stem", "depthwise", "clip", "relu"]
    (depthwise,) = [node for node in made.graph.node if node.name == "depthwise"]
    made.graph.node.remove(depthwise)
    assert int8.stem(made) == []
    made.graph.node.extend([made.graph.node[1], made.graph.node[1], depthwise])
    assert int8.stem(made) == []


def test_an_older_graph_is_brought_up_to_per_channel_scales() -> None:
    """QuantizeLinear has an axis since opset 13 only."""
    made = tiny_onnx.model()
    made.opset_import[0].version = 12
    newer = int8._modern(made)
    assert newer.opset_import[0].version >= int8.LEAST_OPSET
    assert int8._modern(newer) is newer
