r"""LSQ+: a learned step and a learned offset, for activations that go below zero.

Bhalgat, Lee, Nagel, Blankevoort, Kwak. LSQ+: Improving low-bit quantization through
learnable offsets and better initialization. CVPR Workshops 2020, arXiv:2004.09576.

    paper                        code        where
    x_bar, section 3.1, (Q)      q           lsq_plus
    x_hat, (D)                   x_hat       lsq_plus
    d x_hat / d s, (S)           ds          lsq_plus_backward
    d x_hat / d beta, (B)        dbeta       lsq_plus_backward
    s, beta                      s, beta     scale and offset
    n, p                         -q_n, q_p   the unsigned grid: q_n = 0, q_p = 2^b - 1

(Q), (D), (S) and (B) are names of this file. With u = (x - beta) / s,

    q = round(clip(u, -q_n, q_p))                                       (Q)
    x_hat = s q + beta                                                  (D)

Backward. Straight through the rounding, where u is not saturated: x_hat = s u + s (q -
u) + beta = x + s (q - u) with q - u held, so d x_hat / d x = 1, d x_hat / d s = q - u
(S), and beta has no gradient: what it adds, u takes away (B). Where u is saturated, q
is an end of the grid and x_hat = s q + beta: no gradient for x, q for s (S), 1 for beta
(B).

Zero is a level only where beta is a multiple of s. ``round_offset`` moves beta to the
nearest one, and says how far: then there is an integer zero-point, and a network with
this quantizer is deployed in integers. ``learned_range`` has one from the start.

Left open, chosen here: ties (half to even); the ends of the grid (u = -q_n and u = q_p
count as saturated, as in ``lsq``); the gradient scale g of LSQ, for both parameters;
where they start. The paper minimises the squared error of the first batches, beginning
at s = (max - min) / (p - n) and beta = min - n s; here they start at that beginning.
"""

import math
import warnings
from dataclasses import dataclass, field
from typing import Any, NamedTuple, final

import numpy as np

from refqnn._types import Bool, Float, Int
from refqnn.core import Buffer, Param, Run
from refqnn.ops.broadcast import sum_to
from refqnn.ops.checks import check_gradient
from refqnn.prompt import one_line
from refqnn.quantizers.checks import boundaries, check_values, codebook
from refqnn.quantizers.learned_step_size import check_step
from refqnn.quantizers.module import GridQuantizer, positive_one, unset, unsigned_codes


@one_line
class LSQPlusCache(NamedTuple):
    """What the backward needs, and what freezes rounding and mask."""

    u: Float  # (x - beta) / s, shape of x
    q: Float  # integer codes, shape of x
    s: Float
    beta: Float
    q_n: int
    q_p: int
    grad_scale: float

    def inside(self) -> Bool:
        """Mark u that is not saturated; an end of the grid is saturated."""
        return (-self.q_n < self.u) & (self.u < self.q_p)

    def residual(self) -> Float:
        """d x_hat / d s: q - u where not saturated, else q."""
        return np.where(self.inside(), self.q - self.u, self.q)


def lsq_plus(
    x: Float,
    s: Float,
    beta: Float,
    *,
    q_n: int = 0,
    q_p: int,
    grad_scale: float = 1.0,
    frozen: LSQPlusCache | None = None,
) -> tuple[Float, LSQPlusCache]:
    """x_hat = s round(clip((x - beta) / s, -q_n, q_p)) + beta

    x: (...), s, beta: broadcast to x, s > 0  ->  x_hat: (...), dtype of x

    q_n + q_p + 1 levels, ties to even. Raises ValueError for s below the smallest
    normal number, for NaN or infinity in x, s or beta, and for a grid without a
    positive level.

    ``frozen`` holds residual and mask; s and beta move by ``grad_scale`` times their
    changes: see Backward.

    >>> x = np.array([-9.0, 0.3, 0.6, 9.0])
    >>> lsq_plus(x, np.array(0.5), np.array(-0.25), q_p=3)[0]
    array([-0.25,  0.25,  0.75,  1.25])
    """
    s, beta = check_step(x, s, q_n, q_p, name="x", beta=beta)
    if frozen is not None:
        s = frozen.s + frozen.grad_scale * (s - frozen.s)
        beta = frozen.beta + frozen.grad_scale * (beta - frozen.beta)
        return np.where(frozen.inside(), x, beta) + s * frozen.residual(), frozen
    with np.errstate(over="ignore"):  # infinite where it is: saturated
        u = (x - beta) / s
    q = np.rint(np.clip(u, -q_n, q_p)) + 0.0  # (Q); + 0.0: a code has one zero
    return s * q + beta, LSQPlusCache(u, q, s, beta, q_n, q_p, grad_scale)  # (D)


def lsq_plus_backward(dx_hat: Float, cache: LSQPlusCache) -> tuple[Float, Float, Float]:
    """Straight through the rounding; offset where saturated, step everywhere.

    dx_hat: (...)  ->  dx: (...), ds, dbeta: shapes of s, beta, times ``grad_scale``

    >>> x, s, beta = np.array([-9.0, 0.3, 9.0]), np.array(0.5), np.array(-0.25)
    >>> dx, ds, dbeta = lsq_plus_backward(np.ones(3), lsq_plus(x, s, beta, q_p=3)[1])
    >>> dx, round(float(ds), 6), dbeta  # 0 + (1 - 1.1) + 3
    (array([0., 1., 0.]), 2.9, array(2.))
    """
    check_gradient(dx_hat, cache.u.shape)
    inside = cache.inside()
    dx = np.where(inside, dx_hat, 0)
    every_s = (dx_hat * cache.residual()).astype(np.float64)  # (S)
    every_beta = np.where(inside, 0, dx_hat).astype(np.float64)  # (B)
    ds, dbeta = sum_to(every_s, cache.s.shape), sum_to(every_beta, cache.beta.shape)
    scale = cache.grad_scale
    return dx, np.asarray(scale * ds, dx.dtype), np.asarray(scale * dbeta, dx.dtype)


def range_start(x: Float, *, q_n: int, q_p: int) -> tuple[float, float]:
    """s = (max - min) / (q_n + q_p),  beta = min + q_n s: the grid over a batch.

    Values that are all equal have no step: warns and gives eps of the dtype.

    x: (...)  ->  (), ()

    >>> range_start(np.array([-1.0, 2.0]), q_n=0, q_p=3)
    (1.0, -1.0)
    """
    check_values(x, name="x")
    low, high = float(x.min()), float(x.max())
    s = (high - low) / (q_n + q_p)
    if s < np.finfo(x.dtype).tiny:
        warnings.warn("x is constant: step size s starts at eps", stacklevel=2)
        s = float(np.finfo(x.dtype).eps)
    return s, low + q_n * s


@final
@dataclass(eq=False)
class LSQPlus(GridQuantizer):
    """A learned step and offset for the activations of a layer, on the unsigned grid.

    Both start at the range of the first training batch. Their gradients are scaled by
    g = 1 / sqrt(N q_p), N the features of one example.
    """

    bits: int = 4
    s: Param = field(init=False, default_factory=positive_one)
    beta: Param = field(
        init=False, default_factory=lambda: Param(np.zeros(()), group="quantizer")
    )
    #: 1 once step and offset are known
    known: Buffer = field(init=False, default_factory=unset)

    pair = (lsq_plus, lsq_plus_backward)
    parameters = ("s", "beta")
    begins_once = True
    codes = staticmethod(unsigned_codes)
    unknown = "step and offset are unknown: train, or call set_step(s, beta)"

    def ends(self, bits: int | None = None) -> tuple[int, int]:
        """Give ``(q_n, q_p)`` of these bits, or of the module's."""
        return 0, 2 ** self.bits_of(bits) - 1

    def begin(self, v: Float, run: Run, bits: int) -> None:
        """Set step and offset to the range of the first batch."""
        self.set_step(*range_start(v, q_n=0, q_p=self.ends(bits)[1]))

    def keywords(self, v: Float, run: Run, bits: int) -> dict[str, Any]:
        """Give the grid and g."""
        q_n, q_p = self.ends(bits)
        scale = 1 / math.sqrt(max(math.prod(v.shape[1:]), 1) * q_p)
        return {"q_n": q_n, "q_p": q_p, "grad_scale": scale}

    def set_step(self, s: float, beta: float) -> None:
        """Set step and offset: calibration without training."""
        one = np.zeros(1)
        step, offset = check_step(one, s, *self.ends(), name="x", beta=beta)
        self.hold(s=step, beta=offset)

    def round_offset(self) -> float:
        """Move the offset to a whole number of steps; give the move, in steps.

        Then the levels are s (q - z), z = -beta / s, and the layer is deployed.
        """
        self.check_known(self.s.value)
        steps = float(self.beta.value) / float(self.s.value)
        self.beta.value[...] = np.rint(steps) * self.s.value
        return float(np.rint(steps) - steps)

    def codes_and_scale(self, v: Float) -> tuple[Float, Float, int]:
        """Give the codes of (Q), the step () and z = -beta / s.

        Raises ValueError where z is no integer: ``encode`` needs none.
        """
        z = -float(self.beta.value) / float(self.s.value)
        whole = round(z)
        if abs(z - whole) > 4 * np.finfo(self.s.value.dtype).eps * max(abs(z), 1):
            raise ValueError(
                f"an offset of {-z:.6g} steps has no integer zero-point: "
                "round_offset() moves it to the nearest"
            )
        return *self.codes_and_step(v), whole

    def codes_and_step(self, v: Float) -> tuple[Float, Float]:
        """Give the codes of (Q) and the step ()."""
        q_n, q_p = self.ends()
        cache = lsq_plus(v, self.s.value, self.beta.value, q_n=q_n, q_p=q_p)[1]
        return cache.q, cache.s

    def encode(self, v: Float) -> tuple[Int, Float]:
        """Give ``(codes, levels)`` with ``levels[codes] == y``."""
        self.check_known(v)
        check_values(v, name="v")
        q, s = self.codes_and_step(v)
        codes, levels = codebook(
            q.astype(np.int64), s, np.zeros((), np.int32), self.grid()
        )
        return codes, levels + self.beta.value.astype(v.dtype)

    def decision_boundaries(self, v: Float) -> Float:
        """Give the midpoints between neighbouring levels: (1, 2^b - 1)."""
        self.check_known(v)
        _, s = self.codes_and_step(v)
        middle = boundaries(s, np.zeros((), np.int32), self.grid())
        return middle + self.beta.value.astype(v.dtype)
