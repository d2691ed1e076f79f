"""conv_transpose2d: every code spreads its kernel over the outputs.

c = (x - x_zero_point) (w - w_zero_point)             (1)   x_zero_point_use, w_...,
                                                            code_difference
y[p s + i d - top] = bias + sum of c over whatever    (2)   kernel, transposed_layout,
meets there; output_padding adds rows at the bottom         group_assignment, gap_value,
                                                            padding_side, accumulator

Computed as a convolution of x with gaps between its codes, the kernel turned round.
"""

from functools import cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt

from refqnn import integer
from refqnn._types import Int
from refqnn.conformance.choices import axes, draws, kinds
from refqnn.conformance.choices.coverage import few
from refqnn.conformance.choices.families import convolution, operands
from refqnn.conformance.choices.family import Choices, Family, Inputs, Outputs
from refqnn.conformance.choices.rows import LARGE_LAYERS
from refqnn.geometry import Pair
from refqnn.integer.transposed import by_output

SEED = 20_261_201


def evaluate(
    choices: Choices,
    x: Int,
    w: Int,
    b: Int,
    x_zero_point: int,
    w_zero_point: npt.ArrayLike,
    stride: int | Pair,
    padding: operands.Padding,
    output_padding: int | Pair,
    dilation: int | Pair,
    groups: int,
) -> Outputs:
    """Equations (1) and (2)."""
    integer.conv_transpose2d(
        x[:0],
        w,
        b,
        x_zero_point=x_zero_point,
        w_zero_point=w_zero_point,
        stride=stride,
        padding=padding,
        output_padding=output_padding,
        dilation=dilation,
        groups=groups,
        accumulator="int64",
    )  # raises if unfit
    w = operands.read_layout(w, "IOHW", choices["transposed_layout"])
    out = w.shape[1]
    wz = np.broadcast_to(np.asarray(w_zero_point, np.int64), (out * groups,))
    interleaved = choices["group_assignment"] == "interleaved"
    if interleaved:
        x = operands.interleave(x, groups, 1)
        w, b, wz = (operands.interleave(a, groups, 0) for a in (w, b, wz))
    rows = operands.turn(by_output(w, groups), choices["kernel"])
    wz = operands.used_zero_point(wz, choices["w_zero_point_use"])
    rows = rows[:, :, ::-1, ::-1] - wz[:, None, None, None]
    extra = np.broadcast_to(output_padding, 2)
    apart = codes_apart(choices, x, x_zero_point, w.shape[2:], stride, dilation, extra)
    (t, u), (l, r) = operands.sides(padding, choices["padding_side"])
    y = operands.sum_products(apart, rows, 1, dilation, groups)
    y = y[:, :, t : y.shape[2] - u, l : y.shape[3] - r]
    y = y + (b if choices["bias"] == "added" else np.zeros_like(b))[:, None, None]
    y = operands.interleave(y, out, 1) if interleaved else y
    return {"y": operands.narrow(y, choices["accumulator"])}


def codes_apart(choices: Choices, x: Int, x_zero_point: int, *geometry: Any) -> Int:
    """Return x - x_zero_point, gaps between codes, and around as the kernel reaches.

    geometry: kernel, stride, dilation, output_padding;  x: (N, C, H, W)
    ->  (N, C, (H - 1) s + 1 + 2 d (Kh - 1) + output_padding, ...) int64
    """
    z = operands.used_zero_point(x_zero_point, choices["x_zero_point_use"])
    codes = operands.centre(x, z, choices["code_difference"])
    gap: Int = np.zeros((), np.int64)
    if choices["gap_value"] == "raw_zero":
        gap = operands.centre(np.zeros((), x.dtype), z, choices["code_difference"])
    kernel, steps, each, extra = (np.broadcast_to(v, 2) for v in geometry)
    reach = each * (kernel - 1)
    inside = (np.array(x.shape[2:]) - 1) * steps + 1
    apart = np.full((*x.shape[:2], *(inside + 2 * reach + extra)), gap, np.int64)
    rows, cols = (
        slice(r, r + n, s) for r, n, s in zip(reach, inside, steps, strict=True)
    )
    apart[:, :, rows, cols] = codes
    return apart


def canonical(choices: Choices) -> dict[str, str]:
    """As for conv2d; without a zero-point, a gap of real 0 is the code 0."""
    changed = convolution.canonical(choices)
    if changed["x_zero_point_use"] == "ignored":
        changed |= {"gap_value": "zero_point"}
    return changed


def inputs(rng: np.random.Generator, n: int, side: int, groups: int = 2) -> Inputs:
    """Draw codes that fill their dtypes, 4 channels in, 6 out, stride 2."""
    x = rng.integers(0, 256, (n, 4, side, side)).astype(np.uint8)
    w = rng.integers(-128, 128, (4, 6 // groups, 3, 3)).astype(np.int8)
    b = rng.integers(-1000, 1000, 6).astype(np.int32)
    zeros = int(rng.integers(1, 256)), 0
    return draws.call(evaluate, x, w, b, *zeros, 2, ((0, 1), (0, 1)), 1, 1, groups)


def one_hot(place: int) -> Inputs:
    """Make one weight of 9 a 1, codes 0 to 3: the smallest call that shows order."""
    w = np.zeros((1, 1, 3, 3), np.int8)
    w.flat[place] = 1
    x, none = np.arange(4, dtype=np.uint8).reshape(1, 1, 2, 2), np.zeros(1, np.int32)
    return draws.call(evaluate, x, w, none, 3, 0, 2, ((0, 1), (0, 1)), 0, 1, 1)


@cache
def candidates() -> list[Inputs]:
    """List one-hot kernels, then planes of every kind, and a sum beyond 32 bits."""
    rng = np.random.default_rng(SEED)
    deep = {key: convolution.deep_conv2d()[key] for key in ("x", "w", "padding")}
    deep["w"] = deep["w"].swapaxes(0, 1)
    return [
        *(one_hot(place) for place in (1, 3)),
        inputs(rng, 1, 2, groups=1),
        inputs(rng, 1, 3),
        one_hot(0) | deep,
        *few(REGIONS, wide, (24, 64), SEED, pairs=False),
    ]


def draw(rng: np.random.Generator, n: int) -> Inputs:
    """Draw planes of 5 x 5, as many as give about n outputs."""
    return inputs(rng, max(n // (6 * 121), 1), 5, int(draws.pick(rng, 1, 2)))


def wide(rng: np.random.Generator, n: int) -> Inputs:
    """Draw planes of any geometry; sums of 16-bit codes that no int32 holds."""
    sizes = convolution.sizes_of(n)
    large = sizes is convolution.LARGE
    kernel = draws.pick(rng, *sizes.kernels)
    dtypes = draws.pick(rng, *sizes.dtypes), draws.pick(rng, "int8", "uint8")
    groups, each, out = draws.pick(rng, *sizes.channels)
    deep = rng.random() < 0.15 and not large
    if deep:
        groups, each, out, kernel = 1, 600, 1, (1, 1)
    stride, dilation = (draws.pair(rng, *of) for of in (sizes.strides, sizes.dilations))
    least, most = (1, 3 if deep else min(max(n, 24) // 6, 4) + 1)
    if large:
        least, most = 9, 11
    h, k = (int(v) for v in rng.integers(least, most, 2))
    shape = draws.pick(rng, 1, sizes.examples), groups * each, h, k
    x = draws.codes(rng, shape, dtypes[0])
    w = draws.codes(rng, (groups * each, out, *kernel), dtypes[1])
    extra = draws.pair(rng, 0, 0, 1)
    size = [
        (length - 1) * s + d * (taps - 1) + 1
        for length, s, d, taps in zip(
            (h, k),
            convolution.both(stride),
            convolution.both(dilation),
            kernel,
            strict=True,
        )
    ]
    padding = draws.padding(rng, min((min(size) - 1) // 2, sizes.padding))
    outputs = groups * out
    sums = convolution.operands_of_sums(rng, x, w, outputs, outputs, deep=deep)
    return draws.call(evaluate, *sums, stride, padding, extra, dilation, groups)


ASKED = axes.of(
    "kernel transposed_layout group_assignment gap_value padding_side accumulator "
    "x_zero_point_use w_zero_point_use code_difference bias"
)
#: pairs that saturate are those of one kernel, of convolutions
ASKED["accumulator"] = tuple(v for v in ASKED["accumulator"] if "pairs" not in v)
SUMS = partial(convolution.real_sums, integer.conv_transpose2d)
REGIONS = (
    convolution.CODES
    | kinds.regions(
        "w: kernels",
        "stride: pairs",
        "padding: padding",
        "dilation: pairs",
        "groups: number 1 2 3",
    )
    | LARGE_LAYERS
    | kinds.where(
        "output_padding",
        {
            "none": lambda v: not v.any(),
            "1": lambda v: v == 1,
            "h unlike w": lambda v: v.ndim and v[0] != v[1],
        },
    )
    | kinds.wide_sums(SUMS, 16, 24, 32)
)

FAMILIES = (
    Family(
        "conv_transpose2d",
        (
            "{transposed_layout}; {kernel}; {group_assignment}",
            "{x_zero_point_use}: {code_difference}; {w_zero_point_use}",
            "gaps: {gap_value}; {padding_side}",
            "{accumulator}; {bias}",
        ),
        ASKED,
        evaluate,
        candidates,
        draw,
        canonical=canonical,
        wide=wide,
        regions=REGIONS,
    ),
)
