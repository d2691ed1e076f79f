"""Softmax of codes: against float64, onnxruntime's table and gemmlowp's fixed point."""

import math

import numpy as np
import pytest

from refqnn.conformance.carry.runtimes_onnx import onnx_softmax
from refqnn.conformance.choices.families import softmax as probabilities
from refqnn.integer import softmax
from refqnn.integer.exponential import exp_of_negative, reciprocal, tables

LITE = {"scale": 1 / 256, "zero_point": -128, "q_min": -128, "q_max": 127}


def test_probabilities_are_rounded_once(rng):
    x = rng.integers(0, 256, (50, 7), dtype=np.uint8)
    given = {"x_scale": 0.05, "x_zero_point": 9, "scale": 1 / 256, "zero_point": 0}
    got = softmax(x, **given, q_min=0, q_max=255)
    for row, codes in zip(x.tolist(), got.tolist(), strict=True):
        e = [math.exp(0.05 * (v - max(row))) for v in row]
        want = [min(round(256 * v / math.fsum(e)), 255) for v in e]
        assert codes == want


def test_any_axis_and_any_zero_point(rng):
    x = rng.integers(-128, 128, (2, 3, 4), dtype=np.int8)
    given = {"x_scale": 0.1, **LITE}
    for semantics in ("exact", "onnxruntime", "tflite"):
        want = softmax(x, **given, semantics=semantics)
        moved = softmax(
            x.transpose(0, 2, 1), axis=1, **given, x_zero_point=5, semantics=semantics
        )
        np.testing.assert_array_equal(moved.transpose(0, 2, 1), want, strict=True)


@pytest.mark.parametrize("code", [np.uint8, np.int8])
def test_onnxruntime_gives_the_same(rng, code):
    onnx = pytest.importorskip("onnx", reason="needs the optional package onnx")
    ort = pytest.importorskip("onnxruntime", reason="needs the package onnxruntime")
    helper, info = onnx.helper, np.iinfo(code)
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(code))
    for length, x_scale in ((5, 0.02), (10, 0.1), (1000, 0.3), (3, 1e-4)):
        z = info.min
        held = {
            "xs": np.float32(x_scale), "xz": code(3), "s": np.float32(1 / 256),
            "z": code(z),
        }  # fmt: skip
        node = helper.make_node(
            "QLinearSoftmax", ["x", "xs", "xz", "s", "z"], ["q"], opset=13, axis=-1,
            domain="com.microsoft",
        )  # fmt: skip
        shape = ["N", length]
        graph = helper.make_graph(
            [node], "g", [helper.make_tensor_value_info("x", kind, shape)],
            [helper.make_tensor_value_info("q", kind, shape)],
            [onnx.numpy_helper.from_array(np.array(v), k) for k, v in held.items()],
        )  # fmt: skip
        sets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
        made = helper.make_model(graph, opset_imports=sets, ir_version=8)
        session = ort.InferenceSession(
            made.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        x = rng.integers(info.min, info.max + 1, (200, length)).astype(code)
        got = softmax(
            x, x_scale=x_scale, x_zero_point=3, scale=1 / 256, zero_point=z,
            q_min=info.min, q_max=info.max, semantics="onnxruntime",
        )  # fmt: skip
        want = session.run(None, {"x": x})[0]
        np.testing.assert_array_equal(got, want, strict=True)


def test_onnxruntime_gives_the_same_beside_ties():
    pytest.importorskip("onnx", reason="needs the optional package onnx")
    pytest.importorskip("onnxruntime", reason="needs the package onnxruntime")
    rng = np.random.default_rng(5)
    for _ in range(120):
        x, x_scale, scale, z, low, high = probabilities.beside_tie(rng).values()
        given = {"scale": scale, "zero_point": z, "q_min": low, "q_max": high}
        got = softmax(x, x_scale=x_scale, **given, semantics="onnxruntime")
        want = onnx_softmax(x, x_scale, scale, z, low, high)
        np.testing.assert_array_equal(got, want, strict=True)


def test_the_exponential_of_fixed_point():
    """Off by less than 2^-22 on all of (-32, 0], and 1 at 0."""
    a = -np.unique(np.geomspace(1, 2**31 - 1, 20_000).astype(np.int64))
    got = exp_of_negative(a) / 2.0**31
    assert np.abs(got - np.exp(a / 2.0**26)).max() < 2.0**-22
    assert exp_of_negative(np.array([0]))[0] == 2**31 - 1


def test_the_reciprocal_of_fixed_point():
    a = np.linspace(0, 2**31 - 1, 10_001).astype(np.int64)
    want = 1 / (1 + a / 2.0**31)
    assert np.abs(reciprocal(a) / 2.0**31 - want).max() < 2.0**-27


def test_the_form_of_tensorflow_lite_is_near_the_exact_one(rng):
    """Within one code of the exact probabilities, and not everywhere equal."""
    x = rng.integers(-128, 128, (500, 10), dtype=np.int8)
    different = 0
    for x_scale in (0.01, 0.1, 0.5):
        lite = softmax(x, x_scale=x_scale, **LITE, semantics="tflite").astype(int)
        exact = softmax(x, x_scale=x_scale, **LITE).astype(int)
        assert np.abs(lite - exact).max() <= 1
        different += int((lite != exact).sum())
    assert different < 30


def test_a_row_of_one_is_certain():
    x = np.array([[-5], [100]], np.int8)
    for semantics in ("exact", "tflite"):
        assert softmax(x, x_scale=0.1, **LITE, semantics=semantics).tolist() == [
            [127],
            [127],
        ]


def test_unsigned_codes_are_those_of_signed_ones_shifted():
    x = np.random.default_rng(1).integers(-128, 128, (20, 30)).astype(np.int8)
    unsigned = {"scale": 1 / 256, "zero_point": 0, "q_min": 0, "q_max": 255}
    shifted = (x.astype(np.int16) + 128).astype(np.uint8)
    got = softmax(shifted, x_scale=0.1, **unsigned, semantics="tflite")
    want = softmax(x, x_scale=0.1, **LITE, semantics="tflite")
    np.testing.assert_array_equal(got, want.astype(np.int16) + 128)


WIDE = {"scale": 2.0**-15, "zero_point": 0, "q_min": -(2**15), "q_max": 2**15 - 1}


def test_probabilities_of_16_bits_are_near_the_exact_ones():
    """exp is that of -10 below -10: codes there still weigh 2 / 32768 each."""
    x = np.random.default_rng(1).integers(-(2**15), 2**15, (50, 20)).astype(np.int16)
    x[0] = 7
    for semantics, real in (("tflite", np.float64), ("tflite-micro", np.float32)):
        for x_scale, most in ((2.0**-14, 3), (2.0**-12, 32)):
            got = softmax(x, x_scale=x_scale, **WIDE, semantics=semantics)
            e = np.exp(x.astype(float) * x_scale)
            want = 2**15 * e / e.sum(1, keepdims=True)
            assert got.dtype == np.int16
            assert np.abs(got - want).max() < most
            assert got[0].tolist() == [1638] * 20  # 2^15 / 20 is 1638.4
        exponential, inverse = tables(real)
        assert (exponential[0], exponential[-1]) == (2, 2**15 - 1)
        assert (inverse[0], inverse[-1]) == (2**15 - 1, 2**14)
    assert np.any(tables(np.float64)[1] != tables(np.float32)[1])


def test_probabilities_in_float32_round_ties_away():
    """1/2 of two steps of 1; beside ties the codes that LiteRT 2.3.0 gives."""
    x, grid = np.array([[3, 3]], np.int8), {"scale": 1.0, "zero_point": 4}
    ends = {"x_scale": 0.5, "q_min": -128, "q_max": 127, "semantics": "table"}
    assert softmax(x, **grid, **ends).tolist() == [[5, 5]]
    for x_scale, row, want in (
        (0.375, [49, 50, 34], [-24, 24, -128]),  # of (3) the second is 23
        (0.0625, [18, -1, -5, -11], [22, -82, -92, -103]),  # of a quotient -104
        (0.21875, [39, 13, 25, -28, 28], [97, -127, -117, -128, -108]),  # float64: 96
    ):
        x = np.array([row], np.int8)
        got = softmax(x, **LITE, x_scale=x_scale, semantics="table")
        assert got.tolist() == [want]


def test_tables_of_16_bits_are_those_of_their_kernels():
    x = np.array([[2995, -16088]], np.int16)
    for semantics, code in (("tflite", 24975), ("tflite-micro", 24974)):
        got = softmax(x, x_scale=2.0**-14, **WIDE, semantics=semantics)
        assert got.tolist() == [[code, 7793]]


def test_bad_arguments_raise():
    x = np.zeros((1, 2), np.int8)
    for wrong, message in (
        ({"semantics": "sum"}, "semantics must be one of"),
        ({"x": np.zeros((1, 2), np.int16)}, "codes of x must have 8 bits, got int16"),
        ({"x_scale": 0.0}, "scale must be positive"),
        ({"x_zero_point": 128}, "x_zero_point must lie in"),
        (
            {"semantics": "tflite", "zero_point": 0},
            "semantics='tflite' has scale 1/256",
        ),
        (
            {"semantics": "tflite", "x": np.zeros((1, 2), np.int16)},
            "semantics='tflite' of int16 has scale 1/32768 and zero-point 0",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            softmax(**({"x": x, "x_scale": 0.1} | LITE | wrong))
