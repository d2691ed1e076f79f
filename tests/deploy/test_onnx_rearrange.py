"""Shapes of rearranged codes, without the batch, are those of NumPy's operators."""

import numpy as np
import pytest

from refqnn.deploy.formats.onnx_read import Node, Reader
from refqnn.deploy.formats.onnx_rearrange import REARRANGED


def arranged(op, shape, axes=None, *, opset=13, **attributes):
    """Rearrange by a node whose axes are a second input, or before 13 an attribute."""
    late = opset >= 13 and axes is not None
    constants = {"axes": np.asarray(axes)} if late else {}
    attributes |= {} if late or axes is None else {"axes": axes}
    reader = Reader(constants, {}, None, opset, {})
    node = Node(op, "n", ["x", *constants], "y", attributes)
    return REARRANGED[op](reader, node, shape)


@pytest.mark.parametrize("opset", [11, 13])
@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((5, 1, 1), None),
        ((1, 5, 1), None),
        ((5, 1, 4), [2]),
        ((5, 1, 1), [-1]),
        ((5, 1, 1), [2, -1]),
        ((5, 4), None),
    ],
)
def test_squeeze(shape, axes, opset):
    whole = np.zeros((7, *shape))
    want = np.squeeze(whole, None if axes is None else tuple(axes)).shape[1:]
    made = arranged("Squeeze", shape, axes, opset=opset)
    assert made.operation == "reshape"
    assert made.options["shape"] == made.shape == want


@pytest.mark.parametrize("axes", [[1], [0], [-3], [1, 2]])
def test_squeeze_leaves_the_batch_and_axes_of_several_elements(axes):
    with pytest.raises(ValueError, match="cannot be left out"):
        arranged("Squeeze", (5, 1), axes)


@pytest.mark.parametrize("axes", [[1], [-1], [1, 3], [3, 1], [2, -1]])
def test_unsqueeze(axes):
    want = np.expand_dims(np.zeros((7, 5, 4)), tuple(axes)).shape[1:]
    assert arranged("Unsqueeze", (5, 4), axes).shape == want
    with pytest.raises(ValueError, match="the batch must stay the first axis"):
        arranged("Unsqueeze", (5, 4), [0])
