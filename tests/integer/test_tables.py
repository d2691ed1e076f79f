"""Tables of functions: every code; interpolation; inputs of several grids."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import refuses

from refqnn.integer import activation_table, concat, lookup
from refqnn.integer.tables import ACTIVATIONS

GRID = {"scale": 0.0625, "zero_point": 3, "q_min": -128, "q_max": 127}
#: the functions again, one number at a time
SCALAR = {
    "identity": lambda v: v,
    "relu": lambda v: max(v, 0.0),
    "relu6": lambda v: min(max(v, 0.0), 6.0),
    "leaky_relu": lambda v: v if v > 0 else 0.01 * v,
    "sigmoid": lambda v: 1 / (1 + math.exp(-v)),
    "tanh": math.tanh,
    "hard_sigmoid": lambda v: min(max(0.2 * v + 0.5, 0.0), 1.0),
    "hard_swish": lambda v: v * min(max(v + 3, 0.0), 6.0) / 6,
    "elu": lambda v: v if v > 0 else math.exp(v) - 1,
    "silu": lambda v: v / (1 + math.exp(-v)),
    "gelu": lambda v: v / 2 * math.erfc(-v / math.sqrt(2)),
    "gelu_tanh": lambda v: (
        v / (1 + math.exp(-2 * math.sqrt(2 / math.pi) * (v + 0.044715 * v**3)))
    ),
    "softplus": lambda v: math.log1p(math.exp(v)),
    "negative": lambda v: -v,
    "absolute": abs,
    "exponential": math.exp,
}


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize("function", sorted(SCALAR))
def test_every_entry_is_the_function_of_its_code(function, dtype):
    x_scale, z = 0.03125, int(np.iinfo(dtype).min) + 100
    options = {"dtype": dtype, "x_scale": x_scale, "x_zero_point": z}
    table = activation_table(function, **options, **GRID)
    assert table.dtype == np.int8
    codes = range(np.iinfo(dtype).min, np.iinfo(dtype).max + 1)
    for entry, q in zip(table, codes, strict=True):
        real = SCALAR[function](x_scale * (q - z)) / 0.0625
        want = min(max(round(real) + 3, -128), 127)
        tie = abs(real - math.floor(real) - 0.5) < 1e-5
        assert int(entry) == want or (tie and abs(int(entry) - want) == 1)


def test_every_function_is_tested():
    assert {*SCALAR, "clip"} == {*ACTIVATIONS}
    options = {"dtype": np.int8, "x_scale": 1.0, "x_zero_point": 0, "a_min": -2}
    grid = {"scale": 1.0, "zero_point": 0, "q_min": -128, "q_max": 127}
    table = activation_table("clip", **options, a_max=5, **grid)
    np.testing.assert_array_equal(table, np.clip(np.arange(-128, 128), -2, 5))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint16])
def test_a_table_holds_one_entry_a_code(dtype):
    codes = np.arange(np.iinfo(dtype).min, np.iinfo(dtype).max + 1).astype(dtype)
    table = np.arange(codes.size)[::-1].astype(f"u{codes.itemsize}")
    np.testing.assert_array_equal(lookup(codes, table), table, strict=True)


def test_16_bit_codes_are_interpolated():
    """Every code, against the line between two entries, rounded ties up."""
    rng = np.random.default_rng(0)
    table = np.sort(rng.integers(-(2**15), 2**15, 513)).astype(np.int16)
    codes = np.arange(-(2**15), 2**15).astype(np.int16)
    got = lookup(codes, table)
    assert got.dtype == np.int16
    for at in rng.integers(0, 2**16, 3000):
        i, j = divmod(int(at), 128)
        line = int(table[i]) + Fraction(int(table[i + 1]) - int(table[i]), 128) * j
        assert int(got[at]) == math.floor(line + Fraction(1, 2))


@given(
    scales=st.lists(st.floats(1e-3, 1.0), min_size=1, max_size=3),
    zeros=st.lists(st.integers(0, 255), min_size=3, max_size=3),
)
def test_inputs_side_by_side_are_rational_numbers(scales, zeros):
    codes = np.arange(256, dtype=np.uint8).reshape(1, 256)
    zeros = zeros[: len(scales)]
    got = concat(
        [codes] * len(scales), scales=scales, zero_points=zeros, scale=0.25,
        zero_point=7, q_min=0, q_max=255,
    )  # fmt: skip
    want = [
        min(max(7 + round(Fraction(s) * (q - z) * 4), 0), 255)
        for s, z in zip(scales, zeros, strict=True)
        for q in range(256)
    ]
    np.testing.assert_array_equal(got, np.array([want], np.uint8), strict=True)


def test_forms_of_concatenation():
    """(q - 1) / 2: ties to even, to even before the zero-point, away from 0."""
    x = np.array([[0, 2, 4]], np.int8)
    options = {"scales": [0.5], "zero_points": [1], "zero_point": 1, "scale": 1.0}
    options |= {"q_min": -128, "q_max": 127}
    rows = {s: concat([x], **options, semantics=s)[0].tolist()
            for s in ("exact", "onnxruntime", "tflite")}  # fmt: skip
    assert rows == {"exact": [1, 1, 3], "onnxruntime": [1, 1, 3], "tflite": [0, 2, 3]}


def test_a_grid_of_its_own_is_copied():
    x = np.array([[250, 3]], np.uint8)
    options = {"scales": [0.1], "zero_points": [9], "scale": 0.1, "zero_point": 9}
    for semantics in ("exact", "onnxruntime", "tflite"):
        got = concat([x], **options, q_min=0, q_max=255, semantics=semantics)
        np.testing.assert_array_equal(got, x, strict=True)
        some = concat([x], **options, q_min=0, q_max=99, semantics=semantics)
        np.testing.assert_array_equal(some, np.array([[99, 3]], np.uint8), strict=True)
        wide, ends = np.array([[-300, 3]], np.int16), {"q_min": -400, "q_max": 400}
        got = concat([wide], **options, **ends, semantics=semantics)
        np.testing.assert_array_equal(got, wide, strict=True)


def test_bad_arguments_raise():
    table = np.arange(256, dtype=np.uint8)
    refuses("table must hold 256 entries", lookup, np.zeros(2, np.int8), table[:-1])
    refuses("513 for 16-bit ones", lookup, np.zeros(2, np.int16), table)
    refuses("table must hold", lookup, np.zeros(2, np.int32), table)
    with pytest.raises(ValueError, match="function must be one of"):
        activation_table("cube", dtype=np.int8, x_scale=1.0, x_zero_point=0, **GRID)
    with pytest.raises(ValueError, match=r"one of 8-bit codes, got .*int16"):
        activation_table("relu", dtype=np.int16, x_scale=1.0, x_zero_point=0, **GRID)
    x, options = [np.zeros((1, 2), np.int8)], {"scales": [1.0], "zero_points": [0]}
    refuses("semantics must be one of", concat, x, **options, **GRID, semantics="mean")
    with pytest.raises(ValueError, match="must have one length, at least 1: 2, 1, 1"):
        concat(x * 2, **options, **GRID)
