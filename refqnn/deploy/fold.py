"""Fold batch norm and quantizer scales into integers, one channel at a time.

With weights ``s_w q_w``, activations ``s_x (q_x - z_x)``, batch norm ``g v + h`` and
the accumulator ``a = sum q_w (q_x - z_x)``, a layer computes

    y = A a + h,    A = s_x s_w g,    g = gamma / sqrt(var + eps)                  (1)
    h = beta - g mean (+ g b where the layer has a bias)                           (2)

The sign of A moves into the weight codes. The bias becomes an integer in steps of the
accumulator, or of a 2^f-th of it:

    y = A / 2^f (2^f a + B),    B = round(2^f h / A)                               (3)

and what the next codes, of scale s_y, are computed with is the ratio M = A / (2^f s_y),
a 31-bit multiplier and a shift (refqnn.integer.quantize_multiplier).

A channel with A = 0 is its bias: its weights become 0, its steps 2^-16 s_y.

The steps are those of Jacob et al., arXiv:1712.05877, sections 2.2 to 2.4, but for f:
there f = 0. Where one step of the accumulator is a large part of a code (few levels, or
a dead channel whose variance is 0) a bias in whole steps is visibly wrong; f is the
smallest with ``|B error| <= 1/64`` code, and less where int32 leaves no room.
"""

from typing import Any, NamedTuple

import numpy as np

from refqnn._types import Float, Int
from refqnn.deploy.plan import Weighted
from refqnn.geometry import Window, window
from refqnn.integer import accumulator_bound, code_dtype
from refqnn.nn import BatchNorm2d
from refqnn.quantizers.module import GridQuantizer

INT32_MAX = 2**31 - 1
#: the bias of a channel is wrong by at most this part of a code, where int32 has room
BIAS_ERROR = 1 / 64
#: weights of 9 bits: uint8 codes less a zero-point, odd codes of 8 bits
LEAST_WEIGHT, MOST_WEIGHT = -256, 255
#: the step of a channel whose scale is 0, in codes
ZERO_STEP = 2.0**-16


class Grid(NamedTuple):
    """real = scale * (q - zero_point), q_min <= q <= q_max"""

    scale: float
    zero_point: int
    q_min: int
    q_max: int

    @property
    def dtype(self) -> Any:
        """Return the smallest dtype of its codes."""
        return code_dtype(self.q_min, self.q_max)

    def magnitude(self) -> int:
        """Return the largest ``|q - zero_point|``."""
        return max(self.q_max - self.zero_point, self.zero_point - self.q_min)


class Folded(NamedTuple):
    """A layer as codes and the affine map (1) of its accumulators, A >= 0."""

    w: Int  # int8 (O, ...), or int16
    step: Float  # A, float64 (O,)
    offset: Float  # h, float64 (O,)
    low: Int  # smallest and largest possible a, int64 (O,)
    high: Int
    at: Window  # of a convolution; of a product that of one pixel
    groups: int
    bits: int  # of the weights


class Bias(NamedTuple):
    """Equation (3), per channel."""

    bias: Int  # B, int32 (O,)
    fraction_bits: Int  # f, int32 (O,)
    step: Float  # A / 2^f, float64 (O,)
    low: Int  # smallest and largest possible 2^f a + B, int64 (O,)
    high: Int


def fold(weighted: Weighted, x: Grid) -> Folded:
    """Return codes and affine map of a layer that reads codes on the grid ``x``.

    Raises ValueError naming layer and channel where a number is not finite, where
    weights less their zero-point have more than 9 bits, and where the sign of a scale
    cannot move into the codes.
    """
    name, layer, norm = weighted
    q, scale, grid = weight_codes(name, layer)
    gain, offset = gain_and_offset(name, norm, channels=len(q))
    if layer.b is not None:
        offset = offset + gain * layer.b.value.astype(np.float64)
    real = x.scale * scale * gain  # (1)
    check_finite(name, "the folded scale", real)
    check_finite(name, "the folded bias", offset)
    w = signed_codes(name, q, real, grid)
    check_sums(name, w, x.zero_point)
    at = window(
        w.shape[2:] or 1,
        stride=getattr(layer, "stride", 1),
        padding=getattr(layer, "padding", 0),
        dilation=getattr(layer, "dilation", 1),
    )
    groups, bits = getattr(layer, "groups", 1), int(layer.weight_quant.bits)
    ends = accumulator_range(w, x)
    return Folded(w, np.abs(real), offset, *ends, at, groups, bits)


def weight_codes(name: str, layer: Any) -> tuple[Int, Float, Int]:
    """Return integer weights less their zero-point, their scale, the codes there are.

    ->  q: (O, ...), scale: (O,) float64 per output channel, codes of the grid: (L,)

    Odd codes of 8 bits, and codes of 8 bits less a zero-point, need 9.
    """
    try:
        q, scale, zero_point, grid = codes_on_grid(layer.weight_quant, layer.w.value)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    if np.any(zero_point):
        q = q.astype(np.int64) - zero_point
        grid = np.arange(q.min(initial=0), q.max(initial=0) + 1)
        grid = np.union1d(grid, -grid)  # no code is without its negative
    if q.size and not LEAST_WEIGHT <= q.min() <= q.max() <= MOST_WEIGHT:
        raise ValueError(
            f"{name}: weight codes less their zero-point must fit 9 bits, reach "
            f"{np.abs(q.astype(np.int64)).max()}"
        )
    try:
        scale = np.broadcast_to(scale.ravel().astype(np.float64), len(q))
    except ValueError as error:
        raise ValueError(
            f"{name}: weights need one scale an output channel, have {scale.shape}"
        ) from error
    return q, scale, grid


def codes_on_grid(quant: Any, v: Float) -> tuple[Int, Float, Int, Int]:
    """Return codes, scale and zero-point of values, and every code of the grid."""
    if isinstance(quant, GridQuantizer):
        return quant.quantize_on_grid(v)
    return (*quant.quantize(v), quant.grid())  # one of a user's own


def activation_codes(name: str, quant: Any, dtype: Any) -> tuple[Int, Float, int]:
    """Return the codes of an activation quantizer in order, its scale and zero-point.

    Raises ValueError, naming the layer that it follows, where the range is unknown, and
    where values are not given the code of the nearest level: integers round to it.
    """
    try:
        _, scale, zero_point, codes = codes_on_grid(quant, np.zeros(1, dtype))
        steps = codes - int(zero_point) + np.array([[-0.4], [0.0], [0.4]])
        near = (np.asarray(scale).reshape(()) * steps).astype(dtype)
        got = codes_on_grid(quant, near.reshape(-1))[0].reshape(near.shape)
    except ValueError as error:
        raise ValueError(f"the quantizer after {name}: {error}") from error
    stray = got != codes
    if np.any(stray & (near >= 0)):
        v = near[stray & (near >= 0)][0]
        raise ValueError(
            f"the quantizer after {name} gives {v:.4g} another level than the nearest: "
            "integers round to the nearest"
        )
    return codes, scale, int(zero_point)


def gain_and_offset(
    name: str, norm: BatchNorm2d | None, *, channels: int
) -> tuple[Float, Float]:
    """Return g of (1) and h of (2), (O,) float64; 1 and 0 where there is no norm."""
    if norm is None:
        return np.ones(channels), np.zeros(channels)
    gamma, beta = norm.gamma.value.astype(np.float64), norm.beta.value
    var = norm.var.value.astype(np.float64)
    check_finite(name, "the variance of the batch norm", var)
    if np.any(var + norm.eps <= 0):
        c = int(np.argmax(var + norm.eps <= 0))
        raise ValueError(f"{name} channel {c}: var + eps must be positive, is {var[c]}")
    gain = gamma / np.sqrt(var + norm.eps)
    return gain, beta - gain * norm.mean.value.astype(np.float64)  # (2)


def signed_codes(name: str, q: Int, real: Float, grid: Int) -> Int:
    """Move the signs of the folded scales into the codes; a zero scale zeroes them.

    q: (O, ...), real: (O,)  ->  (O, ...) int8, or int16 where they need 9 bits

    Raises ValueError where a negated code is not on the grid, such as -8 in [-8, 7].

    >>> q, grid = np.array([[2, -1], [2, -1], [2, -1]]), np.arange(-3, 4)
    >>> signed_codes("conv", q, np.array([0.5, -0.5, 0.0]), grid)
    array([[ 2, -1],
           [-2,  1],
           [ 0,  0]], dtype=int8)
    """
    sign = np.sign(real).astype(np.int64).reshape(-1, *(1,) * (q.ndim - 1))
    turned = q * sign
    stuck = (sign < 0) & ~np.isin(turned, grid)
    if stuck.any():
        c = int(np.argwhere(stuck)[0][0])
        code = q[stuck][0]
        raise ValueError(
            f"{name} channel {c}: the folded scale {real[c]:.3g} is negative and code "
            f"{code} has no negative on the grid [{grid[0]}, {grid[-1]}]"
        )
    narrow = turned.min(initial=0) >= -128 and turned.max(initial=0) <= 127
    return turned.astype(np.int8 if narrow else np.int16)


def check_sums(name: str, w: Int, x_zero_point: int) -> None:
    """Raise where sums over any uint8 codes, not only those of a grid, leave int32."""
    bounds = accumulator_bound(np.dtype(np.uint8), x_zero_point, w, None)
    c = int(np.argmax(bounds))
    if bounds[c] > INT32_MAX:
        raise ValueError(
            f"{name} channel {c}: sums could reach {bounds[c]}, int32 holds {INT32_MAX}"
        )


def accumulator_range(w: Int, x: Grid) -> tuple[Int, Int]:
    """Return the smallest and the largest sum of w (x - z) over all codes x.

    w: (O, ...)  ->  low, high: (O,) int64

    >>> w = np.array([[2, -1]], np.int8)
    >>> accumulator_range(w, Grid(scale=1.0, zero_point=3, q_min=0, q_max=7))
    (array([-10]), array([11]))
    """
    rows = w.reshape(len(w), -1)
    positive = np.maximum(rows, 0).sum(axis=1, dtype=np.int64)
    negative = np.minimum(rows, 0).sum(axis=1, dtype=np.int64)
    least, most = x.q_min - x.zero_point, x.q_max - x.zero_point
    return (
        positive * least + negative * most,
        positive * most + negative * least,
    )


def place_bias(
    name: str, folded: Folded, output_scale: float, *, finer: bool = True
) -> Bias:
    """Return the integer biases (3), in whole steps of the accumulator if not finer.

    Raises ValueError, naming layer and channel, where a bias or an accumulator with
    its bias does not fit int32.
    """
    step = np.where(folded.step == 0, output_scale * ZERO_STEP, folded.step)
    with np.errstate(over="ignore"):  # infinite where the step is tiny: too large
        offset = folded.offset / step
    peak = np.maximum(np.abs(folded.low), np.abs(folded.high)) + np.abs(offset) + 1
    if np.any(peak > INT32_MAX):
        c = int(np.argmax(peak > INT32_MAX))
        raise ValueError(
            f"{name} channel {c}: sums reach [{folded.low[c]}, "
            f"{folded.high[c]}], the bias is {offset[c]:.3g} steps of {step[c]:.3g}: "
            "together more than int32 holds"
        )
    f = fraction_bits(step / output_scale, peak) if finer else np.zeros(len(step), int)
    bias = np.rint(np.ldexp(offset, f)).astype(np.int64)  # (3)
    low, high = (folded.low << f) + bias, (folded.high << f) + bias
    return Bias(
        bias.astype(np.int32), f.astype(np.int32), np.ldexp(step, -f), low, high
    )


def fraction_bits(ratio: Float, peak: Float) -> Int:
    """Return ceil(log2(32 A / s_y)), at least 0, while 2^f peak stays within int32.

    ratio: A / s_y (O,), peak: largest accumulator (O,)  ->  f: (O,) int64

    >>> ratio, peak = np.array([0.01, 0.1, 3.0, 3.0]), np.array([9.0, 9.0, 9.0, 1e8])
    >>> fraction_bits(ratio, peak)
    array([0, 2, 7, 4])
    """
    wanted = np.ceil(np.log2(ratio / (2 * BIAS_ERROR)))
    room = np.floor(np.log2(INT32_MAX / peak))
    return np.maximum(np.minimum(wanted, room), 0).astype(np.int64)


def check_finite(name: str, what: str, values: Float) -> None:
    """Raise for NaN or infinity, naming layer and channel."""
    fine = np.isfinite(values)
    if not fine.all():
        c = int(np.argmin(fine))
        raise ValueError(f"{name} channel {c}: {what} must be finite, is {values[c]}")
