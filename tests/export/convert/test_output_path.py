"""What the path to the output says of its numbers, whatever they are."""

import onnx.parser
import pytest

from export.convert.output_path import Range, ending

GRAPH = """<ir_version: 8, opset_import: ["" : 18]> graph (float[n,3] x) => (float[n,3] y)
<int64[1] last = {{-1}}, float[1] small = {{1e-7}}> {{ {nodes} }}"""


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ("e = Exp(x)  s = ReduceSum(e, last)  y = Div(e, s)", "distribution"),
        ("s = ReduceSum(x, last)  more = Add(s, small)  y = Div(x, more)", "distribution"),
        ("s = ReduceSum(x, last)  most = Max(small, s)  y = Div(x, most)", "distribution"),
        ("s = ReduceSum(x, last)  c = Clip(s, small)  y = Div(x, c)", "distribution"),
        ("e = Exp(x)  s = ReduceSum(x, last)  y = Div(e, s)", None),
        ("a = Abs(x)  s = ReduceSum(a, last)  y = Div(x, s)", None),
        ("s = ReduceSum(x, last)  y = Div(s, x)", None),
    ],
)
def test_numbers_divided_by_their_sum_are_a_distribution(nodes: str, expected: Range | None) -> None:
    """The numbers of a model that is sure of every sample image do not show it: they look like decisions."""
    proto = onnx.parser.parse_model(GRAPH.format(nodes=nodes))
    assert ending(proto, "y").range == expected
