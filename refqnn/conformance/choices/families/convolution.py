"""conv2d and linear: what is multiplied with what, and in what it is summed.

x_p = x surrounded by padding                         (1)   padding_value, _side
c = (x_p - x_zero_point) (w - w_zero_point)           (2)   x_zero_point_use, w_...,
                                                            code_difference
y = bias + sum of c over the window and the group     (3)   kernel, weight_layout,
                                                            group_assignment,
                                                            accumulator, bias
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from refqnn import integer
from refqnn._types import Int
from refqnn.conformance.choices import axes, draws, kinds, rows
from refqnn.conformance.choices.coverage import few
from refqnn.conformance.choices.families import operands
from refqnn.conformance.choices.family import Choices, Family, Inputs, Outputs
from refqnn.geometry import Pair, pad_planes, window
from refqnn.integer.checks import as_zero_points

Padding = tuple[Pair, Pair]
SEED = 20_240_611


def conv2d(
    choices: Choices,
    x: Int,
    w: Int,
    b: Int,
    x_zero_point: int,
    w_zero_point: npt.ArrayLike,
    stride: int | Pair,
    padding: Padding,
    dilation: int | Pair,
    groups: int,
) -> Outputs:
    """Equations (1) to (3): the inputs rearranged, then ``integer.conv2d``."""
    as_zero_points(x, w, x_zero_point, w_zero_point)  # raises if unfit
    raw = choices["padding_value"] == "raw_zero"
    at = window(
        (1, 1), stride=1, padding=operands.sides(padding, choices["padding_side"])
    )
    x = pad_planes(x, at, 0 if raw else x_zero_point)
    w = operands.read_layout(w, "OIHW", choices["weight_layout"])
    w = operands.turn(w, choices["kernel"])
    wz = np.broadcast_to(np.asarray(w_zero_point, np.int64), w.shape[:1])
    if choices["group_assignment"] == "interleaved":
        x = operands.interleave(x, groups, 1)
        w, b, wz = (operands.interleave(a, groups, 0) for a in (w, b, wz))
    z = operands.used_zero_point(x_zero_point, choices["x_zero_point_use"])
    rows = (
        w
        - operands.used_zero_point(wz, choices["w_zero_point_use"])[:, None, None, None]
    )
    b = b if choices["bias"] == "added" else np.zeros_like(b)
    if choices["accumulator"] == "int16_saturating_pairs" and x.dtype == np.uint8:
        y = operands.paired_conv2d(x, rows, b, z, stride, dilation, groups)
    else:
        codes = operands.centre(x, z, choices["code_difference"])
        y = (
            operands.sum_products(codes, rows, stride, dilation, groups)
            + b[:, None, None]
        )
    if choices["group_assignment"] == "interleaved":
        y = operands.interleave(y, y.shape[1] // groups, 1)
    return {"y": operands.narrow(y, choices["accumulator"])}


def linear(
    choices: Choices,
    x: Int,
    w: Int,
    b: Int,
    x_zero_point: int,
    w_zero_point: npt.ArrayLike,
) -> Outputs:
    """Equations (2) and (3) without windows."""
    as_zero_points(x, w, x_zero_point, w_zero_point)  # raises if unfit
    w = operands.read_layout(w, "OI", choices["weight_order"])
    z = operands.used_zero_point(x_zero_point, choices["x_zero_point_use"])
    wz = operands.used_zero_point(
        np.asarray(w_zero_point, np.int64), choices["w_zero_point_use"]
    )
    rows = w.astype(np.int64) - np.reshape(wz, (-1, 1))
    if choices["accumulator"] == "int16_saturating_pairs" and x.dtype == np.uint8:
        y = operands.sum_pairs(x.astype(np.int64)[:, None] * rows) - z * rows.sum(
            axis=-1
        )
    else:
        codes = operands.centre(x, z, choices["code_difference"])
        y = integer.linear(
            codes.astype(np.int32), rows.astype(np.int32), accumulator="int64"
        )
    y = y + b if choices["bias"] == "added" else y
    return {"y": operands.narrow(y, choices["accumulator"])}


def canonical(choices: Choices) -> dict[str, str]:
    """Replace answers by others that provably give the same sums.

    A code from which nothing is subtracted fits its type: that does not wrap.
    Products of 8 and 9 bits overflow 32 bits only where 2^16 and more are summed.
    """
    changed = dict(choices)
    fits = changed["code_difference"] == "wraps_in_type"
    if fits and choices["x_zero_point_use"] == "ignored":
        changed |= {"code_difference": "exact"}
    if choices["code_difference"] == "wraps" and choices["accumulator"] == "int32_wrap":
        changed |= {"accumulator": "int32"}
    return changed


def conv2d_inputs(
    rng: np.random.Generator,
    n: int,
    side: int,
    *,
    groups: int = 2,
    x_zero_point: int = 7,
    padding: Padding = ((0, 1), (0, 1)),
    stride: int = 1,
) -> Inputs:
    """Draw codes that fill their dtypes, 4 channels in, 6 out, kernels of 3 x 3."""
    c, o = 4, 6
    x = rng.integers(0, 256, (n, c, side, side)).astype(np.uint8)
    w = rng.integers(-128, 128, (o, c // groups, 3, 3)).astype(np.int8)
    b = rng.integers(-1000, 1000, o).astype(np.int32)
    return draws.call(conv2d, x, w, b, x_zero_point, 0, stride, padding, 1, groups)


def one_hot_conv2d(place: int) -> Inputs:
    """Make one weight of 9 a 1, codes 0 to 15: the smallest call that shows order."""
    w = np.zeros((1, 1, 3, 3), np.int8)
    w.flat[place] = 1
    x = np.arange(16, dtype=np.uint8).reshape(1, 1, 4, 4)
    return draws.call(
        conv2d, x, w, np.zeros(1, np.int32), 3, 0, 1, ((0, 1), (0, 1)), 1, 1
    )


def conv2d_candidates() -> list[Inputs]:
    """List one-hot kernels, then planes of every kind."""
    rng = np.random.default_rng(SEED)
    return [
        *(one_hot_conv2d(place) for place in (1, 3)),
        conv2d_inputs(rng, 1, 4, groups=1),
        conv2d_inputs(rng, 1, 4),
        conv2d_inputs(rng, 1, 5, stride=2),
        conv2d_inputs(rng, 2, 5, padding=((1, 1), (1, 1))),
        deep_conv2d(),
        *few(CONV2D, wide_conv2d, (24, 64), SEED, pairs=False),
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
    x = rng.integers(0, 256, (n, i)).astype(np.uint8)
    w = rng.integers(-128, 128, (o, i)).astype(np.int8)
    b = rng.integers(-1000, 1000, o).astype(np.int32)
    return draws.call(linear, x, w, b, int(rng.integers(1, 256)), 0)


def linear_candidates() -> list[Inputs]:
    """List one small product by hand, then drawn ones."""
    rng = np.random.default_rng(SEED)
    x, w = np.array([[1, 2]], np.uint8), np.array([[1, 2], [3, 4]], np.int8)
    small = draws.call(linear, x, w, np.array([10, 20], np.int32), 1, 0)
    drawn = [linear_inputs(rng, n, i, o) for n, i, o in ((1, 4, 3), (4, 16, 8))]
    return [small, *drawn, DEEP, *few(LINEAR, wide_linear, (24, 65), SEED)]


def deep_conv2d() -> Inputs:
    """Return 600 large products in each sum, whatever the zero-points.

    Beyond int32; beyond 24 bits where 32 130 - 3 wraps to 127.
    """
    x = np.full((1, 600, 2, 2), 32_130, np.int16)
    w = np.full((1, 600, 1, 1), 120, np.int8)
    return one_hot_conv2d(0) | {"x": x, "w": w, "padding": ((0, 0), (0, 0))}


#: the same for ``linear``
DEEP = {
    "x": np.full((1, 600), 32_130, np.int16),
    "w": np.full((2, 600), 120, np.int8),
    "b": np.array([5, -7], np.int32),
    "x_zero_point": 3,
    "w_zero_point": 0,
}


class Sizes(NamedTuple):
    """What convolutions are drawn from, each as likely; h and w are drawn apart."""

    kernels: tuple[Pair, ...]
    #: groups, channels in and channels out of each
    channels: tuple[tuple[int, int, int], ...]
    dtypes: tuple[str, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    #: the most rows of padding on a side
    padding: int
    #: one example, or so many
    examples: int


USUAL = Sizes(
    ((1, 1), (3, 3), (2, 2), (3, 2), (1, 3), (5, 5), (2, 7)),
    (
        (1, 3, 4), (1, 1, 1), (1, 7, 2), (1, 2, 11), (2, 2, 3), (3, 2, 2),
        (4, 1, 1), (3, 1, 2), (5, 1, 3),
    ),
    ("uint8", "int8", "int16"), (1, 1, 2, 3), (1, 1, 2), 2, 2,
)  # fmt: skip
#: 32 bits hold what these sum
LARGE = Sizes(
    ((7, 7), (3, 3), (9, 4), (1, 1)),
    ((1, 3, 37), (1, 18, 3), (8, 2, 3), (18, 1, 1)),
    ("uint8", "int8", "int8"), (1, 4, 7), (1, 3, 6), 6, 3,
)  # fmt: skip


def sizes_of(n: int) -> Sizes:
    """Choose the sizes of layers for calls of about n elements."""
    return LARGE if n > draws.MOST else USUAL


def wide_conv2d(rng: np.random.Generator, n: int) -> Inputs:
    """Draw planes of any geometry; sums of 16-bit codes that no int32 holds."""
    sizes = sizes_of(n)
    kernel = draws.pick(rng, *sizes.kernels)
    x_dtype = draws.pick(rng, *sizes.dtypes)
    w_dtype = draws.pick(rng, "int8", "int8", "uint8")
    groups, each, out = draws.pick(rng, *sizes.channels)
    deep = rng.random() < 0.15 and sizes is USUAL  # enough products to pass 32 bits
    each = 600 if deep and groups == 1 else each
    stride, dilation = (draws.pair(rng, *of) for of in (sizes.strides, sizes.dilations))
    padding = draws.padding(rng, 0 if deep else sizes.padding)
    reach = [d * (k - 1) + 1 for d, k in zip(both(dilation), kernel, strict=True)]
    least, most = (0, 3 if deep else max(min(n, 9), 2))
    if sizes is LARGE:
        least, most = 12, 20
    h, w = (r + int(rng.integers(least, most)) for r in reach)
    if not deep and rng.random() < 0.2:  # rows above what a kernel computes at once
        h, w, stride = reach[0], w + int(rng.integers(8, 13)), 1
    shape = draws.pick(rng, 1, sizes.examples), groups * each, h, w
    weights = draws.codes(rng, (groups * out, each, *kernel), w_dtype)
    x = draws.codes(rng, shape, x_dtype)
    outputs = groups * out
    sums = operands_of_sums(rng, x, weights, outputs, outputs, deep=deep)
    return draws.call(conv2d, *sums, stride, padding, dilation, groups)


def both(size: int | Pair) -> Pair:
    """Return a size for h and one for w."""
    return size if isinstance(size, tuple) else (size, size)


#: the upper quarter of codes of one byte, and of two
QUARTER = {1: 63, 2: 16_383}


def operands_of_sums(
    rng: np.random.Generator,
    x: Int,
    w: Int,
    outputs: int,
    zero_points: int,
    *,
    deep: bool,
) -> tuple[Any, ...]:
    """Lay out x and w, draw biases and zero-points: those of weights up to so many."""
    return (
        draws.laid_out(rng, draws.high(x, QUARTER[x.itemsize]) if deep else x),
        draws.laid_out(rng, draws.high(w, QUARTER[1]) if deep else w),
        draws.biases(rng, outputs),
        draws.offset(rng, x.dtype.name),
        draws.offsets(rng, w.dtype.name, zero_points),
    )


def real_sums(op: Callable[..., Int], call: Mapping[str, Any]) -> Int:
    """Return the outputs of refqnn, in int64."""
    return op(**call, accumulator="int64")


def wide_linear(rng: np.random.Generator, n: int) -> Inputs:
    """Draw rows of any length; sums of 16-bit codes that no int32 holds."""
    x_dtype = draws.pick(rng, "uint8", "int8", "int16")
    w_dtype = draws.pick(rng, "int8", "int8", "uint8")
    rows, i, o, deep = draws.product(rng, n)
    x = draws.codes(rng, (rows, i), x_dtype)
    w = draws.codes(rng, (o, i), w_dtype)
    # beside a square matrix (O,) could be read along either axis
    each = 1 if i == o else o
    return draws.call(linear, *operands_of_sums(rng, x, w, o, each, deep=deep))


#: what products of codes have in common
CODES = kinds.regions(
    "x: dtypes uint8 int8 int16, integers, layout, examples, tails",
    "w: dtypes int8 uint8, integers, layout",
    "b: reals, biases",
    "x_zero_point: integers",
    "w_zero_point: integers, an_output_each",
)
CONV2D = (
    CODES
    | kinds.regions(
        "w: kernels",
        "stride: pairs",
        "padding: padding",
        "dilation: pairs",
        "groups: groups",
    )
    | rows.LARGE_LAYERS
    | kinds.where("x", {"planes, large": lambda x: min(x.shape[2:]) > 17})
    | kinds.wide_sums(partial(real_sums, integer.conv2d), 16, 24, 32)
    | rows.long_rows(rows.windows_in_a_row)
    | rows.LARGE_ROWS
    | kinds.where("w", {"above eight outputs": lambda w: len(w) > 8})
)
LINEAR = (
    CODES
    | kinds.regions("x: columns values 1 7 64 65, matrix", "w: matrix")
    | rows.LARGE_ROWS
    | kinds.wide_sums(partial(real_sums, integer.linear), 16, 24, 32)
    | rows.long_rows(lambda call: len(call["w"]))
)

PRODUCTS = axes.of("accumulator x_zero_point_use w_zero_point_use code_difference bias")

FAMILIES = (
    Family(
        "conv2d",
        (
            "surround: {padding_value}; {padding_side}",
            "{weight_layout}; {kernel}; {group_assignment}",
            "{x_zero_point_use}: {code_difference}; {w_zero_point_use}",
            "{accumulator}; {bias}",
        ),
        axes.of("padding_value padding_side kernel weight_layout group_assignment")
        | PRODUCTS,
        conv2d,
        conv2d_candidates,
        draw_conv2d,
        canonical=canonical,
        wide=wide_conv2d,
        regions=CONV2D,
    ),
    Family(
        "linear",
        (
            "{weight_order}",
            "{x_zero_point_use}: {code_difference}; {w_zero_point_use}",
            "{accumulator}; {bias}",
        ),
        axes.of("weight_order") | PRODUCTS,
        linear,
        linear_candidates,
        lambda rng, n: linear_inputs(rng, max(n // 8, 1), 16, 8),
        canonical=canonical,
        wide=wide_linear,
        regions=LINEAR,
    ),
)
