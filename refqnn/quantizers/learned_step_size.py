r"""Learned Step Size Quantization (LSQ).

Esser, McKinstry, Bablani, Appuswamy, Modha. ICLR 2020, arXiv:1902.08153.

    paper                    code        where
    v_bar, eq. (1)           q           lsq
    v_hat, eq. (2)           v_hat       lsq
    d v_hat / d s, eq. (3)   ds          lsq_backward
    d v_hat / d v, eq. (5)   dv          lsq_backward
    Q_N, Q_P                 q_n, q_p    signed 4 bit: q_n = 8, q_p = 7

Backward. Straight through the rounding, where v / s is not saturated: v_hat = s (v / s
+ r) = v + s r with the residual r = v_bar - v / s held, so the slope in v is 1 (5) and
in s it is r (3). Where v / s is saturated v_bar is an end of the grid: v_hat = s v_bar,
slope 0 in v (5) and v_bar in s (3). Equation (4) is plain rounding's; it is not used.

Left open by the paper: how ties round. Here: half to even, as ``np.rint``.

One step a channel: (1) to (5) hold within each channel, because no channel's output
depends on another's step. What is summed for d s, and counted in N of the gradient
scale g = 1 / sqrt(N Q_P), is that channel's values alone (a choice: the paper has one
step a layer).
"""

import math
import warnings
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, final

import numpy as np

from refqnn._types import Bool, Float, Int
from refqnn.core import Buffer, Param, Run
from refqnn.ops.broadcast import sum_to
from refqnn.ops.checks import check_gradient
from refqnn.prompt import one_line
from refqnn.quantizers.checks import MOST_BITS, check_bits, check_values
from refqnn.quantizers.module import (
    GridQuantizer,
    check_channels,
    check_of,
    per_channel,
    positive,
    positive_one,
    unset,
)


@one_line
class LSQCache(NamedTuple):
    """What ``lsq_backward`` needs, and what freezes rounding and mask."""

    u: Float  # v / s, shape of v
    q: Float  # integer codes, shape of v
    s: Float  # in the dtype of v
    q_n: int
    q_p: int
    grad_scale: float

    def inside(self) -> Bool:
        """Return where v / s is not saturated; an end of the grid is saturated."""
        return (-self.q_n < self.u) & (self.u < self.q_p)

    def residual(self) -> Float:
        """Return d v_hat / d s (3): q - u where not saturated, else q."""
        return np.where(self.inside(), self.q - self.u, self.q)


def lsq(
    v: Float,
    s: Float,
    *,
    q_n: int,
    q_p: int,
    grad_scale: float = 1.0,
    frozen: LSQCache | None = None,
) -> tuple[Float, LSQCache]:
    """v_hat = s * round(clip(v / s, -q_n, q_p))

    v: (...), s: broadcasts to v, s > 0  ->  v_hat: (...), dtype of v

    q_n + q_p + 1 levels, ties to even. Raises ValueError for s below the smallest
    normal number, for NaN or infinity in v or s, and for a grid without a positive
    level.

    ``frozen`` holds residual and mask, and s moves by ``grad_scale`` times its change.

    >>> lsq(np.array([-9.0, 0.3, 0.6]), np.array(0.5), q_n=4, q_p=3)[0]
    array([-2. ,  0.5,  0.5])
    """
    (s,) = check_step(v, s, q_n, q_p, name="v")
    if frozen is not None:
        s = frozen.s + frozen.grad_scale * (s - frozen.s)
        return np.where(frozen.inside(), v, 0) + s * frozen.residual(), frozen
    with np.errstate(over="ignore"):  # infinite where |v| / s is: saturated
        u = v / s
    q = np.rint(np.clip(u, -q_n, q_p)) + 0.0  # (1); + 0.0: a code has one zero
    return s * q, LSQCache(u, q, s, q_n, q_p, grad_scale)  # (2)


def lsq_backward(dv_hat: Float, cache: LSQCache) -> tuple[Float, Float]:
    """Straight through the rounding, exact through everything else.

    dv_hat: (...)  ->  dv: (...), ds: shape of s, times ``grad_scale``

    >>> v, s = np.array([-9.0, 0.3, 0.6]), np.array(0.5)
    >>> dv, ds = lsq_backward(np.ones(3), lsq(v, s, q_n=4, q_p=3)[1])
    >>> dv, round(float(ds), 6)  # -4 + (1 - 0.6) + (1 - 1.2)
    (array([0., 1., 1.]), -3.8)
    """
    check_gradient(dv_hat, cache.u.shape)
    dv = np.where(cache.inside(), dv_hat, 0)  # (5)
    ds = sum_to((dv_hat * cache.residual()).astype(np.float64), cache.s.shape)  # (3)
    return dv, np.asarray(cache.grad_scale * ds, dv_hat.dtype)


def check_step(
    v: Float, s: Float | float, q_n: int, q_p: int, *, name: str, **others: Any
) -> list[Float]:
    """Check v, s > 0 and the ends of a grid with a level > 0; give s in v's dtype."""
    for end, value in (("q_n", q_n), ("q_p", q_p)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer):
            raise ValueError(f"{end} must be an int, got {value!r}")  # noqa: TRY004 - bad values are ValueErrors in this house
    if not (0 <= q_n <= 2**15 and 1 <= q_p < 2**16):
        raise ValueError(
            f"q_n must lie in [0, 2^15] and q_p in [1, 2^16), got {q_n} and {q_p}"
        )
    return check_values(v, name=name, positive={"step size s": s}, **others)


def lsq_levels(bits: int, *, signed: bool) -> tuple[int, int]:
    """Return ``(Q_N, Q_P)``, section 2; signed needs two bits or more.

    >>> lsq_levels(4, signed=True), lsq_levels(4, signed=False)
    ((8, 7), (0, 15))
    """
    if type(bits) is not int or not 1 + signed <= bits <= MOST_BITS:
        check_bits(bits, least=1 + signed)
    if signed:
        return 2 ** (bits - 1), 2 ** (bits - 1) - 1
    return 0, 2**bits - 1


def lsq_step(v: Float, *, q_p: int) -> float:
    """s = 2 mean|v| / sqrt(Q_P): the first step, section 2.1.

    Values that are all zero have no step: warns and returns eps of the dtype.

    v: (...)  ->  ()

    >>> lsq_step(np.array([1.0, -3.0]), q_p=4)
    2.0
    """
    check_values(v, name="v")
    s = 2 * float(np.abs(v).mean(dtype=np.float64)) / math.sqrt(q_p)
    if s < np.finfo(v.dtype).tiny:
        warnings.warn("v is all zero: step size s starts at eps", stacklevel=2)
        return float(np.finfo(v.dtype).eps)
    return s


@final
@dataclass(eq=False)
class LSQ(GridQuantizer):
    """A quantizer with one learned step for a whole tensor, or one for each channel.

    ``of="weight"``: the signed grid, ds divided by sqrt(N Q_P) with N the number of
    weights. ``of="activation"``: the unsigned grid, N the features of one example. With
    ``channels`` there is a step for each filter of the weights, or channel of the
    activations, and N counts its values. The first training pass sets the steps.
    """

    bits: int = 4
    of: Literal["weight", "activation"] = "weight"
    #: filters of weights or channels of activations, each with a step; None: one in all
    channels: int | None = None
    s: Param = field(init=False, default_factory=positive_one)
    #: 1 once the step is known
    known: Buffer = field(init=False, default_factory=unset)

    pair = (lsq, lsq_backward)
    parameters = ("s",)
    begins_once = True
    unknown = "the step is unknown: train, or call set_step(s)"

    def __post_init__(self) -> None:
        check_of(self.of)
        self.fewest_bits = 2 if self.of == "weight" else 1
        super().__post_init__()
        self.s = Param(
            np.ones(check_channels(self.channels)), group="quantizer", project=positive
        )

    def ends(self, bits: int | None = None) -> tuple[int, int]:
        """Give ``(Q_N, Q_P)`` of these bits, or of the module's."""
        return lsq_levels(self.bits_of(bits), signed=self.of == "weight")

    def begin(self, v: Float, run: Run, bits: int) -> None:
        """Set the first step."""
        q_p = self.ends(bits)[1]
        if self.channels is None:
            self.set_step(lsq_step(v, q_p=q_p))
        else:
            per_channel(self.s.value, v, self.of)
            parts = np.moveaxis(v, int(self.of == "activation"), 0)
            self.set_step(np.array([lsq_step(part, q_p=q_p) for part in parts]))

    def arguments(self, v: Float, run: Run, bits: int) -> tuple[Any, ...]:
        """Give the step, or the steps in a shape that broadcasts to ``v``."""
        if not self.known.value:
            self.check_known(v)
        s = self.s.value
        return (per_channel(s, v, self.of) if s.ndim else s,)

    def keywords(self, v: Float, run: Run, bits: int) -> dict[str, Any]:
        """Give Q_N, Q_P and g."""
        q_n, q_p = lsq_levels(bits, signed=self.of == "weight")
        return {"q_n": q_n, "q_p": q_p, "grad_scale": self.grad_scale(v, q_p)}

    def grad_scale(self, v: Float, q_p: int) -> float:
        """g = 1 / sqrt(N Q_P), section 2.2; of activations the batch is not in N."""
        n = v.size if self.of == "weight" else math.prod(v.shape[1:])
        n //= self.channels or 1
        return 1 / math.sqrt(max(n, 1) * q_p)

    def set_step(self, s: float | Float) -> None:
        """Set the step, or one for each channel: calibration without training."""
        shape = self.s.value.shape
        if np.size(s) != 1 and np.shape(s) != shape:
            raise ValueError(f"s must have shape {shape} or one number: s{np.shape(s)}")
        check_step(np.zeros(shape), np.asarray(s), *self.ends(), name="v")
        self.hold(s=np.full(shape, s, self.s.value.dtype))

    def grid(self) -> Int:
        """List the integer codes ``-Q_N .. Q_P``."""
        q_n, q_p = self.ends()
        return np.arange(-q_n, q_p + 1)

    def codes_and_scale(self, v: Float) -> tuple[Float, Float, int]:
        """Give the codes of (1) and the step ()."""
        q_n, q_p = self.ends()
        cache = lsq(v, per_channel(self.s.value, v, self.of), q_n=q_n, q_p=q_p)[1]
        return cache.q, cache.s, 0
