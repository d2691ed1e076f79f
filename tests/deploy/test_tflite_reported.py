"""Reported differences between kernels of TFLite, with the right value of each set."""

import numpy as np
import pytest
from deploy.tflite_cases import case
from deploy.tflite_record import few

from refqnn.deploy import import_tflite
from refqnn.deploy.formats.tflite_run import RESOLVERS, tflite_trace
from refqnn.deploy.formats.tflite_schema import Model, Operator, Tensor
from refqnn.deploy.formats.tflite_write import write_model
from refqnn.integer import quantize_multiplier


def one_sum(op, acc, x_scale, w_scale, y_scale, zero_point):
    """Write a layer whose accumulator is its bias."""
    planes = op == "CONV_2D"
    shape = (1, 1, 1, 1) if planes else (1, 1)
    scale = [np.float32(x_scale) * np.float32(w_scale)]
    tensors = (
        Tensor(shape, "int8", x_scale, 0, name="x"),
        Tensor(shape, "int8", [w_scale], 0, np.zeros(shape, np.int8), "w"),
        Tensor((1,), "int32", scale, 0, np.array([acc], np.int32), "b"),
        Tensor(shape, "int8", y_scale, zero_point, name="y"),
    )
    options = {"stride_w": 1, "stride_h": 1} if planes else {}
    operator = Operator(op, (0, 1, 2), (3,), options, 3 if planes else 4)
    return write_model(Model(tensors, (operator,), (0,), (3,)))


def answers(model):
    """Return the one code of a model by the kernels."""
    x = np.zeros((1, 1, 1, 1) if len(import_tflite(model).image_shape) == 3 else (1, 1),
                 np.int8)  # fmt: skip
    ours = {k: int(import_tflite(model, kernels=k).forward(x).item())
            for k in (*RESOLVERS, "tflite-micro")}  # fmt: skip
    try:
        for kernels in RESOLVERS:
            theirs = tflite_trace(model, x, kernels)["y"].item()
            assert ours[kernels] == theirs, kernels
    except ValueError as error:
        assert "ai_edge_litert is not installed" in str(error)  # noqa: PT017
    return ours


def scales_of(multiplier, shift):
    """Find two float32 scales whose product is the multiplier in 31 bits."""
    real = np.ldexp(multiplier, shift - 31)
    for p in range(2**23, 2**23 + 5000):
        x_scale = np.float32(p * 2.0**-24)
        w_scale = np.float32(real / float(x_scale))
        if quantize_multiplier(float(x_scale) * float(w_scale)) == (multiplier, shift):
            return float(x_scale), float(w_scale)
    raise AssertionError(multiplier)


def test_585_becomes_minus_119_or_minus_120():
    """tensorflow#102943: 585 * 0.0111.. = 6.5000005, in float32 6.5, to even 6."""
    scales = (0.05296124517917633, 0.024093778803944588, 0.11484327912330627)
    ratio = scales[0] * scales[1] / scales[2]
    assert quantize_multiplier(ratio) == (1527099593, -6)
    exact, single = -119, -120
    assert answers(one_sum("CONV_2D", 585, *scales, -126)) == {
        "reference": exact,
        "optimized": exact,
        "xnnpack": single,
        "tflite-micro": exact,
    }
    product = answers(one_sum("FULLY_CONNECTED", 585, *scales, -126))
    assert (product["reference"], product["xnnpack"]) == (exact, single)


def test_7984_becomes_12_or_11():
    """tensorflow#25087: 7984 * 0.00144027 = 11.499; two roundings make it 11.5, 12."""
    scales = scales_of(1583594044, -9)
    convolved = answers(one_sum("CONV_2D", 7984, *scales, 1.0, 0))
    assert convolved == {
        "reference": 12,
        "optimized": 12,
        "xnnpack": 11,
        "tflite-micro": 12,
    }
    assert answers(one_sum("FULLY_CONNECTED", 7984, *scales, 1.0, 0))["reference"] == 11


def test_micro_and_the_delegate_differ_by_one_in_a_few_codes():
    """tflite-micro#3252: validated with XNNPACK, deployed with two roundings."""
    model, x = case("conv", ties=False)
    micro, delegate, reference = (
        import_tflite(model, kernels=k).forward(few(x)).astype(np.int64)
        for k in ("tflite-micro", "xnnpack", "reference")
    )
    apart = np.abs(micro - delegate)
    assert set(np.unique(apart)) == {0, 1}
    assert 0 < apart.mean() < 0.02
    np.testing.assert_array_equal(micro, reference)
    if pytest.importorskip("tflite_micro", reason="no wheel of tflite-micro"):
        *_, output = tflite_trace(model, few(x), "tflite-micro").values()
        np.testing.assert_array_equal(output, micro)


def test_the_code_that_tells_quantizers_apart():
    grids = (Tensor((1, 16), "int8", s, 0, name=n) for s, n in ((1.0, "x"), (4.0, "y")))
    operator = Operator("QUANTIZE", (0,), (1,), {}, 2)
    model = write_model(Model(tuple(grids), (operator,), (0,), (1,)))
    x = np.full((1, 16), -2, np.int8)
    expected = {"reference": -1, "optimized": 0, "xnnpack": 0, "tflite-micro": -1}
    for kernels, want in expected.items():
        assert set(import_tflite(model, kernels=kernels).forward(x).ravel()) == {want}
