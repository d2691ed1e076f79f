"""ONNX's own node cases, and the installed onnxruntime: which of our options is it?

Every comparison is exact.
"""

import itertools
import warnings

import numpy as np
import pytest

from refqnn import integer
from refqnn.integer.affine import SCALINGS, ZERO_POINT_WHEN
from refqnn.integer.rescale import FORMS
from refqnn.integer.rounding import ROUNDINGS

onnx = pytest.importorskip("onnx", reason="needs the optional package onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402 - after the skip
from onnx.backend.test.loader import load_model_tests  # noqa: E402 - after the skip

NARROW = {
    TensorProto.INT4: (-8, 7),
    TensorProto.UINT4: (0, 15),
    TensorProto.INT2: (-2, 1),
    TensorProto.UINT2: (0, 3),
}


def as_array(value):
    """Return integers and floats of NumPy's own dtypes; None for 8-bit floats."""
    if not isinstance(value, TensorProto):
        return value
    if value.data_type not in NARROW:
        return None
    q_min = NARROW[value.data_type][0]
    return numpy_helper.to_array(value).astype(np.int8 if q_min else np.uint8)


def code_range(value):
    if isinstance(value, TensorProto):
        return NARROW[value.data_type]
    info = np.iinfo(value.dtype)
    return int(info.min), int(info.max)


def spread(parameter, x, attributes):
    """Give one scale or zero-point a channel, or a block, the shape it has in x."""
    axis, block = attributes.get("axis", 1), attributes.get("block_size", 0)
    if block:
        return np.repeat(parameter, block, axis=axis)
    if parameter.ndim == 0:
        return parameter
    return parameter.reshape(-1, *[1] * (x.ndim - axis - 1))


def quantize_linear(inputs, outputs, attributes):
    x, scale, *given = inputs
    q_min, q_max = code_range(outputs[0])
    z = as_array(given[0]) if given else np.array(0)
    scale, z = (spread(p, x, attributes) for p in (scale, z))
    return integer.quantize(x, scale, z, q_min=q_min, q_max=q_max)


def dequantize_linear(inputs, _, attributes):
    q, scale, *given = (as_array(v) for v in inputs)
    z = given[0] if given else np.array(0)
    return integer.dequantize(q, *(spread(p, q, attributes) for p in (scale, z)))


def conv_integer(inputs, _, attributes):
    x, w, *z = inputs
    top, left, bottom, right = attributes.get("pads", [0] * 4)
    zero_points = dict(zip(("x_zero_point", "w_zero_point"), z, strict=False))
    return integer.conv2d(x, w, **zero_points, padding=((top, bottom), (left, right)))


def matmul_integer(inputs, *_):
    a, b, a_z, b_z = inputs
    columns = np.broadcast_to(b_z, b.shape[1])
    return integer.linear(a, b.T, x_zero_point=a_z.item(), w_zero_point=columns)


def rescale(acc, scales, z, rounding="float32_half_even"):
    """acc times x_scale w_scale / y_scale, the ratio rounded to float32."""
    x_scale, w_scale, y_scale = (np.asarray(s, np.float32) for s in scales)
    multiplier, shift = integer.quantize_multiplier(x_scale * w_scale / y_scale)
    q_min, q_max = code_range(z)
    lift = (slice(None), *[None] * (acc.ndim - 2))
    if np.ndim(multiplier) and np.size(multiplier) > 1:
        multiplier, shift = multiplier[lift], shift[lift]
    else:
        multiplier, shift = np.asarray(multiplier).item(), np.asarray(shift).item()
    return integer.requantize(
        acc, multiplier, shift, z.item(), q_min=q_min, q_max=q_max, rounding=rounding
    )


def qlinear_conv(inputs, _, __):
    x, x_s, x_z, w, w_s, w_z, y_s, y_z = inputs
    acc = integer.conv2d(x, w, x_zero_point=x_z, w_zero_point=w_z)
    return rescale(acc, (x_s, w_s, y_s), y_z)


def qlinear_matmul(inputs, _, __):
    a, a_s, a_z, b, b_s, b_z, y_s, y_z = inputs
    zero_points = {"x_zero_point": a_z.item(), "w_zero_point": b_z.item()}
    pairs = zip(a.reshape(-1, *a.shape[-2:]), b.reshape(-1, *b.shape[-2:]), strict=True)
    acc = np.stack([integer.linear(p, q.T, **zero_points) for p, q in pairs])
    return rescale(acc, (a_s, b_s, y_s), y_z).reshape(*a.shape[:-1], b.shape[-1])


OURS = {
    "QuantizeLinear": quantize_linear,
    "DequantizeLinear": dequantize_linear,
    "ConvInteger": conv_integer,
    "MatMulInteger": matmul_integer,
    "QLinearConv": qlinear_conv,
    "QLinearMatMul": qlinear_matmul,
}
#: how many cases there are of each, floats of 8 and 4 bits left out
COUNTS = {
    "QuantizeLinear": 9,
    "DequantizeLinear": 9,
    "ConvInteger": 2,
    "MatMulInteger": 1,
    "QLinearConv": 1,
    "QLinearMatMul": 8,
}


def expressible(inputs, outputs):
    return all(
        as_array(v) is not None and as_array(v).dtype.kind in "fiu"
        for v in (*inputs, *outputs)
    )


def cases():
    """Return [(name, node, inputs, outputs)] of the operators of ``OURS``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # other operators' cases overflow on purpose
        tests = load_model_tests(kind="node")
    nodes = [(t, t.model.graph.node) for t in tests if t.model]
    return [
        (test.name, node[0], *data)
        for test, node in nodes
        if len(node) == 1 and node[0].op_type in OURS
        for data in test.data_sets
        if expressible(*data)
    ]


CASES = cases()


@pytest.mark.parametrize(
    ("name", "node", "inputs", "outputs"), CASES, ids=[c[0] for c in CASES]
)
def test_equals_the_case_of_onnx(name, node, inputs, outputs):
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    got = OURS[node.op_type](inputs, outputs, attributes)
    np.testing.assert_array_equal(got, as_array(outputs[0]), strict=True, err_msg=name)


def test_no_case_was_lost():
    ran = {op: sum(c[1].op_type == op for c in CASES) for op in OURS}
    assert all(ran[op] >= COUNTS[op] for op in OURS), ran


def session(op, inputs, y_type, names):
    """One operator with constant parameters, run by onnxruntime on x."""
    ort = pytest.importorskip("onnxruntime", reason="needs the package onnxruntime")
    x, *constants = inputs
    graph = helper.make_graph(
        [helper.make_node(op, ["x", *names], ["y"])],
        op,
        [helper.make_tensor_value_info("x", as_type(x), x.shape)],
        [helper.make_tensor_value_info("y", y_type, None)],
        [numpy_helper.from_array(c, n) for n, c in zip(names, constants, strict=True)],
    )
    opsets = [helper.make_opsetid("", 13)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    ran = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return ran.run(None, {"x": x})[0]


def as_type(x):
    return helper.np_dtype_to_tensor_dtype(x.dtype)


@pytest.mark.parametrize("code", [np.uint8, np.int8])
def test_quantize_linear_of_onnxruntime_is_the_default(code, rng):
    """Ties, and for every scale the inputs that a reciprocal moves."""
    info = np.iinfo(code)
    q_min, q_max = int(info.min), int(info.max)
    every = set(itertools.product(ROUNDINGS, SCALINGS, ZERO_POINT_WHEN))
    for s, z in ((0.5, 1), (49.0, 3), (0.1, q_min), (1e-3, q_max)):
        scale = np.float32(s)
        ties = (np.arange(-300, 300, dtype=np.float32) / 2) * scale
        x = np.concatenate(
            [ties, rng.normal(size=2000).astype(np.float32) * 60 * scale]
        )
        zero = np.array(z, code)
        inputs = (x, np.array(scale), zero)
        want = session("QuantizeLinear", inputs, as_type(zero), ("s", "z"))
        for choice in sorted(every):
            rounding, scaling, when = choice
            got = integer.quantize(
                x, scale, z, q_min=q_min, q_max=q_max, rounding=rounding,
                scaling=scaling, zero_point_when=when,
            )  # fmt: skip
            assert got.dtype == want.dtype
            if not np.array_equal(got, want):
                every.discard(choice)
    assert every == {("half_even", "divide", "after_rounding")}


@pytest.mark.parametrize("code", [np.uint8, np.int8])
def test_qlinear_conv_of_onnxruntime_is_float32_half_even(code):
    """Every code times 1/2, whose ties tell roundings apart, and times 0.1.

    Five times the float32 nearest to 0.1 is above 1/2; its float32 product is 1/2.
    """
    info = np.iinfo(code)
    x = np.arange(info.min, info.max + 1).astype(code).reshape(1, 1, 16, 16)
    x_z, y_z = np.array(info.min + 120, code), np.array(info.min + 100, code)
    one, w, w_z = np.array(1, np.float32), np.ones((1, 1, 1, 1), np.int8), np.zeros(1)
    left = set(FORMS)
    for ratio in (0.5, 0.1):
        w_scale = np.array([ratio], np.float32)
        inputs = (x, one, x_z, w, w_scale, w_z.astype(np.int8), one, y_z)
        names = ("xs", "xz", "w", "ws", "wz", "ys", "yz")
        want = session("QLinearConv", inputs, as_type(y_z), names)
        acc = integer.conv2d(x, w, x_zero_point=x_z)
        scales = (one, w_scale, one)
        left &= {f for f in FORMS if np.array_equal(rescale(acc, scales, y_z, f), want)}
    assert left == {"float32_half_even"}


@pytest.mark.parametrize("code", [np.uint8, np.int8])
def test_qlinear_conv_of_onnxruntime_on_random_codes(code, rng):
    info = np.iinfo(code)
    x = rng.integers(info.min, info.max, (2, 3, 12, 12), code, endpoint=True)
    w = rng.integers(-64, 63, (8, 3, 3, 3), np.int8, endpoint=True)
    w_scale = rng.uniform(1e-3, 1e-2, 8).astype(np.float32)
    x_scale, y_scale = np.array(0.37, np.float32), np.array(0.7, np.float32)
    x_z, y_z = np.array(info.min + 120, code), np.array(info.min + 100, code)
    inputs = (x, x_scale, x_z, w, w_scale, np.zeros(8, np.int8), y_scale, y_z)
    names = ("xs", "xz", "w", "ws", "wz", "ys", "yz")
    want = session("QLinearConv", inputs, as_type(y_z), names)
    acc = integer.conv2d(x, w, x_zero_point=x_z)
    got = rescale(acc, (x_scale, w_scale, y_scale), y_z)
    np.testing.assert_array_equal(got, want, strict=True)
    assert len(np.unique(got)) > 100
