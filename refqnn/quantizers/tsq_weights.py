r"""Two-step quantization (TSQ), step 2: ternary weights for the codes of step 1.

Wang, Hu, Zhang, Zhang, Liu, Cheng. Two-Step Quantization for Low-Bit Neural Networks.
CVPR 2018; it is not on arXiv. Step 1, the activations (arXiv:1702.00953 with a dead
zone), is in tsq.py. Letters are names of this file, not numbers of the paper.

    paper                               code             where
    ternary start, (T)                  alpha, t         optimal_ternary
    straight through, (G)               dw               optimal_ternary_backward
    min |y - Q(alpha X^T t)|^2, (A)     fit              transformation_objective
    its relaxation in z, lambda, (B)    lam              transformation_objective
    z, alpha, t in turn, (C) (D) (E)    z, alpha, t      z_step, alpha_step, t_step

Backward. Hold the residual r = alpha t - w of the recorded weights: y = w + r has slope
1; alpha and the threshold are treated as constants (G).

Step 2 learns the ternary weights of one output channel at a time, from the layer's
inputs X and the codes of step 1; ``learn_transformation`` does it, and its ``alpha *
t`` are the weights of the channel. An ``offset`` o, what a batch norm or a shortcut
adds before Q, makes (A) |y - Q(alpha X^T t + o)|^2; z is what alpha X^T t shall be.

Open: how lambda grows and how many sweeps there are, so ``learn_transformation`` has no
default for them. A t_j moves only where z is half a step away from alpha X^T t, which
is rare: mostly alpha is learned. No step raises the relaxed objective; the error
|y - Q(alpha X^T t)|^2 itself may rise.

Chosen here: z keeps the label of its level, because the best z of an interval may be
its open end, which by value belongs to the level below. Ties of levels go to the lower
one. The published start of the ternary search has a floor of 1e-5, which breaks scale
equivariance; here there is none.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, final

import numpy as np

from refqnn._types import Float, Int
from refqnn.ops.checks import check_gradient
from refqnn.quantizers.checks import ResidualCache, check_values, group_axes, mean_kept
from refqnn.quantizers.module import GridQuantizer, signed_codes
from refqnn.quantizers.tsq import check_interval, tsq_codes


def optimal_ternary(
    w: Float, *, frozen: ResidualCache | None = None
) -> tuple[Float, ResidualCache]:
    """y = alpha_i t_i,  (alpha_i, t_i) = argmin |w_i - alpha t|^2, t in {-1, 0, 1}

    w: (O, ...)  ->  y: (O, ...), dtype of w

    Exact: for r kept weights the best are the r largest and alpha their mean, which
    leaves |w|^2 - (sum of the r)^2 / r. Of equal r the smallest. A filter of zeros
    gives zeros. Raises ValueError for NaN or infinity in w.

    ``frozen`` holds the residual that a cache recorded: see Backward, above.

    >>> optimal_ternary(np.array([[4.0, -3.0, 1.0, 0.0]]))[0]  # 49 / 2 > 16, 64 / 3
    array([[ 3.5, -3.5,  0. ,  0. ]])
    """
    check_values(w, name="w")
    if frozen is not None:
        return w + frozen.residual, frozen
    alpha, t = best_ternary(w, kept_from(w))
    y = alpha * t  # (T)
    return y, ResidualCache(y - w)


def optimal_ternary_backward(dy: Float, cache: ResidualCache) -> Float:
    """dw = dy; alpha and the threshold are treated as constants.

    dy: (O, ...)  ->  dw: (O, ...)

    >>> optimal_ternary_backward(np.ones((1, 1)), optimal_ternary(np.ones((1, 1)))[1])
    array([[1.]])
    """
    check_gradient(dy, cache.residual.shape)
    return dy.copy()  # (G)


def kept_from(w: Float) -> Float:
    """Return the smallest magnitude that is kept: w (O, ...)  ->  (O, 1, ...)."""
    shape = (w.shape[0], *(1 for _ in group_axes(w, "filter")))
    if not w.size:
        return np.zeros(shape, w.dtype)
    a = -np.sort(-np.abs(w).reshape(w.shape[0], -1), axis=1)
    r = np.arange(1, a.shape[1] + 1)
    best = (a.cumsum(1, np.float64) / np.sqrt(r)).argmax(1)  # the first of equals
    return np.take_along_axis(a, best[:, None], 1).reshape(shape)


def best_ternary(w: Float, threshold: Float) -> tuple[Float, Float]:
    """Return alpha (O, 1, ...) and t (O, ...), as floats, where |w| >= threshold."""
    keep = np.abs(w) >= threshold
    alpha = mean_kept(np.abs(w), keep)
    return alpha, np.where(keep & (alpha > 0), np.sign(w), 0)


class Transformation(NamedTuple):
    """The ternary weights of one output channel, and the auxiliary variable."""

    alpha: float  # >= 0
    t: Float  # (d,) in {-1, 0, 1}
    z: Float  # (N,)
    k: Int  # (N,), the level each z stands for


def transformation_start(
    w: Float,
    x: Float,
    *,
    eps: float,
    delta: float,
    bits: int,
    offset: Float | float = 0.0,
) -> Transformation:
    """Return the best ternary approximation of ``w``, z = alpha X^T t and its levels.

    w: (d,), x: (d, N), offset: () or (N,)
    """
    w = np.asarray(w, np.float64)
    alpha, t = best_ternary(w[None], kept_from(w[None]))
    z = alpha.item() * (x.T @ t[0])
    ends = check_interval(z, np.asarray(eps), np.asarray(delta), bits)
    k = tsq_codes(z + offset, *ends, bits)
    return Transformation(alpha.item(), t[0], z, k.astype(np.int64))


def transformation_objective(
    state: Transformation, x: Float, y: Float, *, delta: float, lam: float
) -> float:
    """|y - delta k|^2 + lambda |z - alpha X^T t|^2

    x: (d, N), y: (N,)  ->  ()
    """
    fit = np.sum((y - delta * state.k) ** 2)  # (A)
    far = np.sum((state.z - state.alpha * (x.T @ state.t)) ** 2)
    return float(fit + lam * far)  # (B)


def z_step(
    state: Transformation,
    x: Float,
    y: Float,
    *,
    eps: float,
    delta: float,
    bits: int,
    lam: float,
    offset: Float | float = 0.0,
) -> Transformation:
    """Set every z and its level to the best: v = alpha X^T t, clipped to each interval.

    x: (d, N), y: (N,), offset: () or (N,), by which the intervals lie lower
    """
    v = state.alpha * (x.T @ state.t) + offset
    levels = np.arange(2**bits)[:, None]
    ends = np.append([-np.inf, eps], (np.arange(1.5, 2**bits - 1)) * delta)
    ends = np.append(ends, np.inf)[:, None]
    z = np.clip(v, ends[:-1], ends[1:])  # (2^b, N)
    cost = (y - delta * levels) ** 2 + lam * (z - v) ** 2
    k = cost.argmin(0)  # (C)
    return state._replace(z=np.take_along_axis(z, k[None], 0)[0] - offset, k=k)


def alpha_step(state: Transformation, x: Float) -> Transformation:
    """alpha = z^T X^T t / t^T A t,  A = X X^T; 0 for 0 / 0; t flips for alpha >= 0.

    x: (d, N)
    """
    u = x.T @ state.t
    square = float(u @ u)
    alpha = float(state.z @ u) / square if square > 0 else 0.0  # (D)
    return state._replace(alpha=abs(alpha), t=-state.t if alpha < 0 else state.t)


def t_step(state: Transformation, x: Float) -> Transformation:
    """t_j = nearest of -1, 0, 1 to (b_j - alpha sum_{k != j} A_jk t_k) / (alpha A_jj)

    x: (d, N). One j after another, b = X z; t_j stays where it has no effect.
    """
    t, u = state.t.copy(), x.T @ state.t
    levels = np.array([-1.0, 0.0, 1.0])
    for j, row in enumerate(x):
        weight = state.alpha * float(row @ row)
        if weight > 0:
            rest = u - t[j] * row
            best = float(row @ (state.z - state.alpha * rest)) / weight
            t[j] = levels[np.abs(levels - best).argmin()]  # (E)
            u = rest + t[j] * row
    return state._replace(t=t)


def transformation_step(
    state: Transformation,
    x: Float,
    y: Float,
    *,
    eps: float,
    delta: float,
    bits: int,
    lam: float,
    offset: Float | float = 0.0,
) -> Transformation:
    """Update z, alpha and t in turn; none raises the objective.

    x: (d, N), inputs of the layer as columns; y: (N,), delta times the codes of step 1
    """
    at: Any = {"eps": eps, "delta": delta, "bits": bits, "offset": offset}
    state = z_step(state, x, y, **at, lam=lam)
    return t_step(alpha_step(state, x), x)


def learn_transformation(
    w: Float,
    x: Float,
    y: Float,
    *,
    eps: float,
    delta: float,
    bits: int,
    lams: Sequence[float],
    offset: Float | float = 0.0,
) -> Transformation:
    """Learn the ternary weights of an output channel, one sweep for each lambda.

    w: (d,), float weights; x: (d, N), inputs as columns; y: (N,), delta times codes;
    offset: () or (N,), what is added to alpha X^T t

    ``alpha * t`` are weights that ``optimal_ternary`` leaves as they are. Computes in
    float64. Raises ValueError for a lambda that is not positive, for shapes that
    disagree, for eps and delta outside their domain, and NaN or infinity.

    >>> x, w = np.array([[1.0, 2.0, -1.0], [0.0, 1.0, 3.0]]), np.array([0.9, -0.1])
    >>> learned = learn_transformation(w, x, np.array([1.0, 2.0, 0.0]), eps=0.5,
    ...                                delta=1.0, bits=2, lams=[1.0, 1.0])
    >>> learned.t, learned.k
    (array([1., 0.]), array([1, 2, 0]))
    """
    offset = np.asarray(offset, np.float64)
    for name, array in (("w", w), ("x", x), ("y", y), ("offset", offset)):
        check_values(array, name=name)
    if x.ndim != 2 or (w.shape, y.shape) != (x.shape[:1], x.shape[1:]):
        raise ValueError(
            f"w (d,), x (d, N) and y (N,) disagree: w{w.shape}, x{x.shape}, y{y.shape}"
        )
    x, y = x.astype(np.float64), y.astype(np.float64)
    if offset.shape not in {(), y.shape}:
        raise ValueError(f"offset must be () or {y.shape}, got {offset.shape}")
    at: Any = {"eps": eps, "delta": delta, "bits": bits, "offset": offset}
    state = transformation_start(w, x, **at)
    for lam in lams:
        if not 0 < lam < math.inf:
            raise ValueError(f"lams must be positive and finite, got {lam}")
        state = transformation_step(state, x, y, **at, lam=lam)
    return state


@final
@dataclass(eq=False)
class TSQWeight(GridQuantizer):
    """The best ternary approximation of every filter, found at every pass.

    Step 2 ends with weights ``alpha * t``, which it leaves as they are.
    """

    bits: int = 2

    pair = (optimal_ternary, optimal_ternary_backward)
    codes = staticmethod(signed_codes)
    options = ()
    fewest_bits = most_bits = 2

    def codes_and_scale(self, v: Float) -> tuple[Float, Float, int]:
        """Give t and alpha (O, 1, ...)."""
        alpha, t = best_ternary(v, kept_from(v))
        return t, alpha, 0

    def decision_boundaries(self, v: Float) -> Float:
        """Give -+ the smallest magnitude that is kept: (O, 2)."""
        check_values(v, name="v")
        t = kept_from(v).reshape(-1, 1)
        return np.hstack([-t, t])
