"""Calls of conv2d and linear: candidates, random ones, regions."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from refqnn import integer
from refqnn._types import Int
from refqnn.conformance.choices import draws, kinds
from refqnn.conformance.choices.coverage import few
from refqnn.conformance.choices.family import Inputs
from refqnn.geometry import Pair

Padding = tuple[Pair, Pair]
CHOSEN = {"rng": 20_240_611}


def conv2d_inputs(
    rng: np.random.Generator,
    n: int,
    side: int,
    *,
    groups: int = 2,
    x_zero_point: int = 7,
    padding: Padding = ((0, 1), (0, 1)),
    stride: int = 1,
    kernel: int = 3,
) -> Inputs:
    """Draw codes that fill their dtypes, 4 channels in, 6 out."""
    c, o = 4, 6
    return {
        "x": rng.integers(0, 256, (n, c, side, side)).astype(np.uint8),
        "w": rng.integers(-128, 128, (o, c // groups, kernel, kernel)).astype(np.int8),
        "b": rng.integers(-1000, 1000, o).astype(np.int32),
        "x_zero_point": x_zero_point,
        "w_zero_point": 0,
        "stride": stride,
        "padding": padding,
        "dilation": 1,
        "groups": groups,
    }


def one_hot_conv2d(place: int) -> Inputs:
    """Make one weight of 9 a 1, codes 0 to 15: the smallest call that shows order."""
    w = np.zeros((1, 1, 3, 3), np.int8)
    w.flat[place] = 1
    return {
        "x": np.arange(16, dtype=np.uint8).reshape(1, 1, 4, 4),
        "w": w,
        "b": np.zeros(1, np.int32),
        "x_zero_point": 3,
        "w_zero_point": 0,
        "stride": 1,
        "padding": ((0, 1), (0, 1)),
        "dilation": 1,
        "groups": 1,
    }


def conv2d_candidates() -> list[Inputs]:
    """List one-hot kernels, then planes of every kind."""
    rng = np.random.default_rng(CHOSEN["rng"])
    return [
        *(one_hot_conv2d(place) for place in (1, 3)),
        conv2d_inputs(rng, 1, 4, groups=1),
        conv2d_inputs(rng, 1, 4),
        conv2d_inputs(rng, 1, 5, stride=2),
        conv2d_inputs(rng, 2, 5, padding=((1, 1), (1, 1))),
        deep_conv2d(),
        *few(CONV2D, wide_conv2d, (24, 64), CHOSEN["rng"], pairs=False),
    ]


def draw_conv2d(rng: np.random.Generator, n: int) -> Inputs:
    """Draw planes of 8 x 8, as many as give about n outputs."""
    return conv2d_inputs(
        rng,
        max(n // (6 * 49), 1),
        8,
        groups=int(rng.choice([1, 2])),
        x_zero_point=int(rng.integers(1, 256)),
        padding=((0, 1), (0, 1)) if rng.random() < 0.8 else ((1, 1), (1, 1)),
    )


def linear_inputs(rng: np.random.Generator, n: int, i: int, o: int) -> Inputs:
    """Draw codes that fill their dtypes."""
    return {
        "x": rng.integers(0, 256, (n, i)).astype(np.uint8),
        "w": rng.integers(-128, 128, (o, i)).astype(np.int8),
        "b": rng.integers(-1000, 1000, o).astype(np.int32),
        "x_zero_point": int(rng.integers(1, 256)),
        "w_zero_point": 0,
    }


def linear_candidates() -> list[Inputs]:
    """List one small product by hand, then drawn ones."""
    rng = np.random.default_rng(CHOSEN["rng"])
    small = {
        "x": np.array([[1, 2]], np.uint8),
        "w": np.array([[1, 2], [3, 4]], np.int8),
        "b": np.array([10, 20], np.int32),
        "x_zero_point": 1,
        "w_zero_point": 0,
    }
    drawn = [linear_inputs(rng, n, i, o) for n, i, o in ((1, 4, 3), (4, 16, 8))]
    return [small, *drawn, DEEP, *few(LINEAR, wide_linear, (24, 65), CHOSEN["rng"])]


def draw_linear(rng: np.random.Generator, n: int) -> Inputs:
    """Draw rows of 16 codes, as many as give about n outputs."""
    return linear_inputs(rng, max(n // 8, 1), 16, 8)


def deep_conv2d() -> Inputs:
    """Return 600 large products in each sum, whatever the zero-points.

    Beyond int32; beyond 24 bits where 32 130 - 3 wraps to 127.
    """
    call = one_hot_conv2d(0)
    return call | {
        "x": np.full((1, 600, 2, 2), 32_130, np.int16),
        "w": np.full((1, 600, 1, 1), 120, np.int8),
        "x_zero_point": 3,
        "padding": ((0, 0), (0, 0)),
    }


#: the same for ``linear``
DEEP = {
    "x": np.full((1, 600), 32_130, np.int16),
    "w": np.full((2, 600), 120, np.int8),
    "b": np.array([5, -7], np.int32),
    "x_zero_point": 3,
    "w_zero_point": 0,
}


def wide_conv2d(rng: np.random.Generator, n: int) -> Inputs:
    """Draw planes of any geometry; sums of 16-bit codes that no int32 holds."""
    kernel = draws.pick(rng, (1, 1), (3, 3), (2, 2), (3, 2), (1, 3), (2, 3))
    x_dtype = draws.pick(rng, "uint8", "int8", "int16")
    w_dtype = draws.pick(rng, "int8", "int8", "uint8")
    groups, each, out = draws.pick(rng, *CHANNELS)
    deep = rng.random() < 0.15  # enough products to pass 32 bits
    each = 600 if deep and groups == 1 else each
    stride, dilation = draws.pair(rng, 1, 1, 2, 3), draws.pair(rng, 1, 1, 2)
    padding = draws.padding(rng, 0 if deep else 2)
    reach = [d * (k - 1) + 1 for d, k in zip(both(dilation), kernel, strict=True)]
    most = 3 if deep else max(min(n, 9), 2)
    h, w = (r + int(rng.integers(0, most)) for r in reach)
    shape = draws.pick(rng, 1, 2), groups * each, h, w
    weights = draws.codes(rng, (groups * out, each, *kernel), w_dtype)
    x = draws.codes(rng, shape, x_dtype)
    return {
        "x": draws.laid_out(rng, high(x) if deep else x),
        "w": draws.laid_out(rng, high(weights) if deep else weights),
        "b": draws.biases(rng, groups * out),
        "x_zero_point": draws.offset(rng, x_dtype),
        "w_zero_point": draws.offsets(rng, w_dtype, groups * out),
        "stride": stride,
        "padding": padding,
        "dilation": dilation,
        "groups": groups,
    }


#: groups, channels in and channels out of each
CHANNELS = (
    (1, 3, 4), (1, 1, 1), (1, 7, 2), (2, 2, 3), (3, 2, 2),
    (4, 1, 1), (3, 1, 2), (5, 1, 3),
)  # fmt: skip


def both(size: int | Pair) -> Pair:
    """Return a size for h and one for w."""
    return size if isinstance(size, tuple) else (size, size)


def high(x: Int) -> Int:
    """Return codes of the upper quarter of their type: sums of them grow."""
    info = np.iinfo(x.dtype)
    span = (info.max - info.min) // 4
    return np.asarray(info.max - np.abs(x.astype(np.int64)) % span).astype(x.dtype)


def real_sums(op: Callable[..., Int], call: Mapping[str, Any]) -> Int:
    """Return the outputs of refqnn, in int64."""
    return op(**call, accumulator="int64")


def wide_linear(rng: np.random.Generator, n: int) -> Inputs:
    """Draw rows of any length; sums of 16-bit codes that no int32 holds."""
    x_dtype = draws.pick(rng, "uint8", "int8", "int16")
    w_dtype = draws.pick(rng, "int8", "int8", "uint8")
    deep = rng.random() < 0.25
    i = 600 if deep else int(draws.pick(rng, 1, 2, 3, 7, 8, 64, 65))
    o = int(draws.pick(rng, 1, 3, 8))
    rows = i if rng.random() < 0.1 and not deep else max(min(n, 65) // o, 1)
    x = draws.codes(rng, (rows, i), x_dtype)
    w = draws.codes(rng, (o, i), w_dtype)
    return {
        "x": draws.laid_out(rng, high(x) if deep else x),
        "w": draws.laid_out(rng, high(w) if deep else w),
        "b": draws.biases(rng, o),
        "x_zero_point": draws.offset(rng, x_dtype),
        # beside a square matrix (O,) could be read along either axis
        "w_zero_point": draws.offsets(rng, w_dtype, 1 if i == o else o),
    }


#: what products of codes have in common
CODES = (
    kinds.dtypes("x", "uint8", "int8", "int16")
    | kinds.integers("x")
    | kinds.layout("x")
    | kinds.examples("x")
    | kinds.tails("x")
    | kinds.dtypes("w", "int8", "uint8")
    | kinds.integers("w")
    | kinds.layout("w")
    | kinds.reals("b")
    | kinds.integers("x_zero_point")
    | kinds.integers("w_zero_point")
    | kinds.zero_points_of_weights()
)

CONV2D = (
    CODES
    | kinds.kernels("w")
    | kinds.pairs("stride")
    | kinds.padding_regions()
    | kinds.pairs("dilation")
    | kinds.channels()
    | kinds.wide_sums(partial(real_sums, integer.conv2d), 16, 24, 32)
)
LINEAR = (
    CODES
    | {f"x: {n} values": kinds.has_columns("x", n) for n in kinds.LENGTHS}
    | {
        f"{name}: square": lambda call, name=name: (
            len({*call[name].shape}) == 1 and len(call[name]) > 1
        )
        for name in ("x", "w")
    }
    | kinds.wide_sums(partial(real_sums, integer.linear), 16, 24, 32)
)
