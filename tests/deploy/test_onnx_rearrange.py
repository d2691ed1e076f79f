"""Shapes of rearranged codes, without the batch, are those of NumPy's operators."""

import numpy as np
import pytest
from refusals import refuses

from refqnn.deploy.formats.onnx_import import quantize_constant
from refqnn.deploy.formats.onnx_options import softmax_options
from refqnn.deploy.formats.onnx_read import Codes, Node, Reader
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
    refuses("cannot be left out", arranged, "Squeeze", (5, 1), axes)


@pytest.mark.parametrize("axes", [[1], [-1], [1, 3], [3, 1], [2, -1]])
def test_unsqueeze(axes):
    want = np.expand_dims(np.zeros((7, 5, 4)), tuple(axes)).shape[1:]
    assert arranged("Unsqueeze", (5, 4), axes).shape == want
    refuses("the batch must stay the first axis", arranged, "Unsqueeze", (5, 4), [0])


def node(op, *constants, **attributes):
    names = [f"c{i}" for i in range(len(constants))]
    made = Node(op, "n", ["x", *names], "y", attributes)
    return made, dict(zip(names, map(np.asarray, constants), strict=True))


def test_constant_weights_are_quantized_along_axis_1_unless_said(rng):
    v = rng.normal(size=(3, 3)).astype(np.float32)
    scales = np.array([0.5, 0.25, 1.0], np.float32)
    for axis, shape in ((None, (1, 3)), (1, (1, 3)), (0, (3, 1)), (-1, (1, 3))):
        attributes = {} if axis is None else {"axis": axis}
        made, constants = node(
            "QuantizeLinear", scales, np.zeros(3, np.int8), **attributes
        )
        reader = Reader(constants, {}, None, 13, {})
        want = np.clip(np.rint(v / scales.reshape(shape)), -128, 127)
        np.testing.assert_array_equal(quantize_constant(reader, made, v), want)


@pytest.mark.parametrize(
    ("opset", "axis", "ok"),
    [(11, None, True), (11, 1, True), (11, -1, True), (13, None, True), (13, -1, True),
     (11, 0, False), (13, 0, False), (13, -2, False)],
)  # fmt: skip
def test_axes_of_softmax_over_classes(opset, axis, ok):
    made, _ = node("Softmax", **({} if axis is None else {"axis": axis}))
    reader, (x,) = Reader({}, {}, None, opset, {}), [Codes("s", (10,))]
    if ok:
        assert softmax_options(reader, made, [x]) == {"axis": 1}
    else:
        refuses("mixes images or several axes", softmax_options, reader, made, [x])


def test_axes_of_softmax_over_planes():
    x = Codes("s", (3, 4, 4))
    first, _ = node("Softmax", axis=1)
    last, _ = node("Softmax", axis=3)
    old, new = (Reader({}, {}, None, opset, {}) for opset in (11, 13))
    with pytest.raises(ValueError, match="axis 1 of 4 mixes images or several axes"):
        softmax_options(old, first, [x])  # all but the batch together, before 13
    assert softmax_options(old, last, [x]) == softmax_options(new, last, [x])
    assert softmax_options(new, first, [x]) == {"axis": 1}
