"""Sums and products of codes: every pair of codes, against rationals and runtimes."""

import math
import platform
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refqnn import fast
from refqnn.integer import add, mul, sub
from refqnn.integer.arithmetic import SUM_SEMANTICS, round_rational, saturated_rint

UINT8, INT8 = np.arange(256).astype(np.uint8), np.arange(-128, 128).astype(np.int8)


def every_pair(codes):
    """Return all 65 536 pairs: (256, 1) and (1, 256)."""
    return codes[:, None], codes[None, :]


def grids(rng, codes, scales=None):
    low, high = int(codes[0]), int(codes[-1])
    scales = rng.uniform(1e-3, 0.1, 3).astype(np.float32) if scales is None else scales
    zeros = [int(z) for z in rng.integers(low, high + 1, 3)]
    return {
        "x_scale": scales[0], "x_zero_point": zeros[0],
        "y_scale": scales[1], "y_zero_point": zeros[1],
        "scale": scales[2], "zero_point": zeros[2], "q_min": low, "q_max": high,
    }  # fmt: skip


def rational(given, x, y, operation):
    """The exact code of one pair, by Python's fractions; ties to even."""
    sx, sy, s = (Fraction(float(given[k])) for k in ("x_scale", "y_scale", "scale"))
    a, b = sx * (x - given["x_zero_point"]), sy * (y - given["y_zero_point"])
    real = {"add": a + b, "sub": a - b, "mul": a * b}[operation] / s
    return min(max(given["zero_point"] + round(real), given["q_min"]), given["q_max"])


@pytest.mark.parametrize("codes", [UINT8, INT8], ids=["uint8", "int8"])
@pytest.mark.parametrize("operation", [add, sub, mul])
def test_every_pair_of_codes_is_exact(rng, operation, codes):
    """Scales with ties on many pairs (1/2, 1/4), and scales without structure."""
    x, y = every_pair(codes)
    for scales in ((0.5, 0.25, 0.5), (0.5, 0.5, 1.0), (0.125, 0.75, 0.25), None):
        given = grids(rng, codes, scales)
        got = operation(x, y, **given)
        assert got.dtype == codes.dtype
        rows = rng.integers(0, 256, 24)
        for i in rows:
            want = [rational(given, int(x[i, 0]), int(v), operation.__name__)
                    for v in y[0]]  # fmt: skip
            np.testing.assert_array_equal(got[i], want)


@given(
    numerators=st.lists(st.integers(-(2**16), 2**16), min_size=1, max_size=6),
    first=st.fractions(-4, 4, max_denominator=64),
    second=st.fractions(-4, 4, max_denominator=64),
)
def test_rationals_are_rounded_once(numerators, first, second):
    n = np.array(numerators)
    got = round_rational([(n, first), (n[::-1], second)])
    want = [
        round(a * first + b * second)
        for a, b in zip(numerators, numerators[::-1], strict=True)
    ]
    np.testing.assert_array_equal(got, want)


def doubling_high_product(a, b):
    """SaturatingRoundingDoublingHighMul of gemmlowp, on Python's integers."""
    if a == b == -(2**31):
        return 2**31 - 1
    nudge = 2**30 if a * b >= 0 else 1 - 2**30
    total = a * b + nudge
    return total // 2**31 if total >= 0 else -(-total // 2**31)


def divide_by_power(a, exponent):
    """RoundingDivideByPOT of gemmlowp: ties away from 0."""
    sign = -1 if a < 0 else 1
    return sign * ((abs(a) + (1 << exponent >> 1)) >> exponent)


def multiply_lite(a, real):
    """MultiplyByQuantizedMultiplier of TensorFlow Lite."""
    fraction, exponent = math.frexp(real)
    multiplier = math.floor(fraction * 2**31 + 0.5)
    if multiplier == 2**31:
        multiplier, exponent = 2**30, exponent + 1
    left, right = max(exponent, 0), max(-exponent, 0)
    return divide_by_power(doubling_high_product(a << left, multiplier), right)


def lite(given, x, y, operation):
    """One code as the reference kernels of TensorFlow Lite compute it."""
    sx, sy, s = (np.float32(given[k]) for k in ("x_scale", "y_scale", "scale"))
    a, b = x - given["x_zero_point"], y - given["y_zero_point"]
    if operation == "mul":
        raw = multiply_lite(a * b, float(sx * sy / s))
    else:
        most = 2 * max(float(sx), float(sy))
        one = multiply_lite(a << 20, float(sx) / most)
        two = multiply_lite(b << 20, float(sy) / most)
        total = one + two if operation == "add" else one - two
        raw = multiply_lite(total, most / (2.0**20 * float(s)))
    return min(max(given["zero_point"] + raw, given["q_min"]), given["q_max"])


@pytest.mark.parametrize("operation", [add, sub, mul])
def test_the_form_of_tensorflow_lite(rng, operation):
    for scales in (None, (0.5, 0.25, 0.5), None):
        given = grids(rng, INT8, scales)
        x, y = every_pair(INT8)
        got = operation(x, y, **given, semantics="tflite")
        for i in rng.integers(0, 256, 8):
            want = [lite(given, int(x[i, 0]), int(v), operation.__name__) for v in y[0]]
            np.testing.assert_array_equal(got[i], want)


def test_the_form_of_tensorflow_lite_of_16_bits():
    """Shifted by 15 bits, not 20, which int32 would not hold."""
    given = {
        "x_scale": 0.5, "x_zero_point": 0, "y_scale": 0.25, "y_zero_point": 0,
        "scale": 1.0, "zero_point": 0, "q_min": -(2**15), "q_max": 2**15 - 1,
    }  # fmt: skip
    x = np.array([-(2**15), -3, 1, 2**15 - 1], np.int16)
    got = add(x, x, **given, semantics="tflite")
    np.testing.assert_array_equal(got, np.array([-24576, -2, 1, 24575], np.int16))


def runtime_session(operation, given, code):
    onnx = pytest.importorskip("onnx", reason="needs the optional package onnx")
    ort = pytest.importorskip("onnxruntime", reason="needs the package onnxruntime")
    helper = onnx.helper
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(code))
    values = {
        "xs": np.float32(given["x_scale"]), "xz": code(given["x_zero_point"]),
        "ys": np.float32(given["y_scale"]), "yz": code(given["y_zero_point"]),
        "s": np.float32(given["scale"]), "z": code(given["zero_point"]),
    }  # fmt: skip
    names = ["x", "xs", "xz", "y", "ys", "yz", "s", "z"]
    node = helper.make_node(operation, names, ["q"], domain="com.microsoft")
    held = [onnx.numpy_helper.from_array(np.array(v), k) for k, v in values.items()]
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [node], "g", [info(k, kind, ["N"]) for k in "xy"], [info("q", kind, ["N"])],
        held,
    )  # fmt: skip
    sets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    made = helper.make_model(graph, opset_imports=sets, ir_version=8)
    return ort.InferenceSession(
        made.SerializeToString(), providers=["CPUExecutionProvider"]
    )


@pytest.mark.parametrize("codes", [UINT8, INT8], ids=["uint8", "int8"])
@pytest.mark.parametrize(
    ("operation", "name"), [(add, "QLinearAdd"), (mul, "QLinearMul")]
)
def test_onnxruntime_gives_the_same_for_every_pair(rng, operation, name, codes):
    if platform.machine() not in {"x86_64", "AMD64"}:
        pytest.skip("the form is that of onnxruntime on x86")
    x, y = (v.ravel() for v in np.broadcast_arrays(*every_pair(codes)))
    for _ in range(4):
        given = grids(rng, codes)
        session = runtime_session(name, given, codes.dtype.type)
        want = session.run(None, {"x": x.copy(), "y": y.copy()})[0]
        got = operation(x, y, **given, semantics="onnxruntime")
        np.testing.assert_array_equal(got, want, strict=True)


def test_the_forms_differ():
    """What each form decides otherwise: the zero-point moves ties, two roundings do."""
    given = {
        "x_scale": 0.5, "x_zero_point": 0, "y_scale": 0.5, "y_zero_point": 0,
        "scale": 1.0, "zero_point": 1, "q_min": -128, "q_max": 127,
    }  # fmt: skip
    x, y = np.array([1], np.int8), np.array([0], np.int8)
    codes = {s: int(add(x, y, **given, semantics=s)[0]) for s in SUM_SEMANTICS}
    assert codes.pop("exact") == 1
    assert set(codes.values()) == {2}


def test_inner_products_of_16_bits_are_rounded_once_or_twice():
    """A converted MobileNetV2 has this sum: 6112.4999 a code, twice rounded 6113."""
    given = {
        "x_scale": 5.4041524e-05, "x_zero_point": 0, "y_scale": 6.6912864e-05,
        "y_zero_point": 0, "scale": 6.6912864e-05, "zero_point": 0,
        "q_min": -(2**15), "q_max": 2**15 - 1,
    }  # fmt: skip
    x, y = np.array([4437], np.int16), np.array([2529], np.int16)
    assert add(x, y, **given, semantics="tflite") == 6113
    assert add(x, y, **given, semantics="tflite-avx2") == 6112


def test_ratios_of_products_have_24_or_53_bits():
    """With both scales 0.9 the float32 ratio moves squares of codes across ties."""
    given = {
        "x_scale": 0.9, "x_zero_point": 0, "y_scale": 0.9, "y_zero_point": 0,
        "scale": 40000.0, "zero_point": 0, "q_min": -(2**15), "q_max": 2**15 - 1,
    }  # fmt: skip
    x = np.arange(1, 2**15, dtype=np.int16)
    one, other = (mul(x, x, **given, semantics=s) for s in ("tflite", "tflite-micro"))
    real = np.float64(np.float32(0.9)) ** 2 / 40000 * x.astype(np.float64) ** 2
    np.testing.assert_array_equal(other, np.floor(real + 0.5))
    assert 0 < np.sum(one != other) < 20
    given |= {"x_scale": 0.3, "y_scale": 1.0, "scale": 0.2}
    pair = np.array([[1], [-1]], np.int8)
    assert mul(*pair, **given, semantics="tflite") == -1
    assert mul(*pair, **given, semantics="tflite-micro") == -2


def test_shapes_broadcast_and_the_compiled_side_is_complete():
    given = {
        "x_scale": 1.0, "x_zero_point": 0, "y_scale": 1.0, "y_zero_point": 0,
        "scale": 1.0, "zero_point": 0, "q_min": 0, "q_max": 255,
    }  # fmt: skip
    x, y = np.ones((2, 3, 1), np.uint8), np.ones((3, 4), np.uint8)
    assert add(x, y, **given).shape == (2, 3, 4)
    assert fast.integer.add(x, y, **given).shape == (2, 3, 4)
    assert mul(x[:0], y, **given).shape == (0, 3, 4)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"semantics": "round"}, "semantics must be one of"),
        ({"x_scale": 0.0}, "x_scale must be positive and finite, got 0.0"),
        ({"scale": np.inf}, "scale must be positive and finite"),
        ({"y_scale": 1e-60}, "y_scale must be positive and finite"),
        ({"x_zero_point": 256}, r"x_zero_point must lie in \[0, 255\]"),
        ({"zero_point": -1}, r"zero_point must lie in \[0, 255\]"),
        ({"y_zero_point": 0.5}, "y_zero_point must be integer"),
        ({"q_max": 2**17}, "codes of the result must fit 16 bits"),
        ({"x": np.ones(3, np.int32)}, "codes of x must fit 16 bits, got int32"),
        ({"y": np.ones(2, np.uint8)}, r"x and y must broadcast: x\(3,\), y\(2,\)"),
        ({"x": np.ones(3)}, "x must have an integer dtype"),
    ],
)
def test_bad_arguments_raise(wrong, message):
    good = {
        "x": np.ones(3, np.uint8), "y": np.ones(3, np.uint8),
        "x_scale": 1.0, "x_zero_point": 0, "y_scale": 1.0, "y_zero_point": 0,
        "scale": 1.0, "zero_point": 0, "q_min": 0, "q_max": 255,
    }  # fmt: skip
    for operation in (add, sub, mul):
        with pytest.raises(ValueError, match=message):
            operation(**(good | wrong))


def test_beyond_int32_codes_are_its_ends():
    t = np.array([0.5, 1.5, -2.5, 2.0**31 - 0.75, 1e10, 1e300, -1e10, -(2.0**31) - 3])
    want = [0, 2, -2, 2**31 - 1, 2**31, 2**31, -(2**31), -(2**31)]
    np.testing.assert_array_equal(saturated_rint(t), want)
