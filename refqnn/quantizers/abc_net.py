r"""ABC-Net: weights and activations as sums of binary bases.

Lin, Zhao, Pan. Towards Accurate Binary Convolutional Neural Network. NIPS 2017,
arXiv:1711.11294. The paper's names for the parts, without its equation numbers:

    paper                                     code        where
    W_bar = W - mean(W), std(W)               t           abc_thresholds
    u_i = -1 + 2 (i - 1) / (M - 1), (U)       u           abc_thresholds
    B_i = sign(W_bar + u_i std(W)), (B)       signs       nested_signs
    alpha = argmin ||W - B alpha||^2, (A)     alpha       abc_alpha
    W ~ sum alpha_i B_i, (W)                  y           abc_weight
    dL/dW with dB_i/dW = 1, (G)               dw          abc_weight_backward
    H_v(x) = sign(clip(x + v, 0, 1) - 1/2),   signs       abc_activation
      (H)
    R ~ sum beta_n H_(v_n)(R), (R)            y           abc_activation
    dH/dx where 0 <= x + v <= 1, (N)          near        abc_activation
    dL/dR, (X); dL/dv, (V); dL/dbeta, (E)     dx dv ...   abc_activation_backward

Letters are names of this file, not numbers of the paper.

The bases are nested: B_i is +1 from -u_i std(W) up. So the code of a value is how many
bases are +1, and M bases make at most M + 1 levels, not 2^M. All values up to the first
threshold get -sum alpha, all from the last get +sum alpha; the levels between are free.
Least squares makes those the means of their values, and ties the two ends to each
other: in a skewed tensor an end may lie inside its neighbour, and order is lost.

Backward. Signs are held, each moving with slope 1 in W (in R and v_n, where (N) holds,
with ``ste_slope``): W ~ sum alpha_i (B_i + W - W_recorded) has the slope sum alpha (G).
R ~ sum beta_n (H_n + near_n (R + v_n - recorded)) gives beta_n near_n for each n,
summed over n for R (X) and over R for v_n (V). beta_n stands outside the signs: its
derivative H_n is the true one (E).

Left open by the paper, and chosen here:

- A value on a threshold is +1.
- M = 1 has u = 0.
- alpha is the least-squares solution of least norm, by SVD: bases coincide where a
  tensor has few distinct values. It fits W, not W_bar.
- alpha is found again in every pass, in evaluation too: a stored one would belong to
  the weights before the last step. ``alpha=`` holds one.
- dw = dy sum alpha; ``clip_grad=True`` keeps it where |w| <= 1 only.
- The slope of H is 1 as B's; that of the line through the clip is 2: ``ste_slope``.
- v starts evenly inside (-1/2, 1/2), beta at 1. Equal v would get equal gradients and
  never part.
"""

from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple, final

import numpy as np

from refqnn._types import Bool, Float, Int
from refqnn.core import Param
from refqnn.ops.checks import check_gradient, check_real
from refqnn.prompt import one_line
from refqnn.quantizers.checks import LARGEST, check_bits, check_values
from refqnn.quantizers.module import Quantizer

MOST_BASES = 16


@one_line
class ABCWeightCache(NamedTuple):
    """What ``abc_weight_backward`` needs, and what freezes the signs."""

    w: Float
    y: Float
    slope: Float  # sum alpha, 0 where the gradient is clipped; shape of w


@one_line
class ABCActivationCache(NamedTuple):
    """What ``abc_activation_backward`` needs, and what freezes the signs."""

    x: Float
    v: Float  # (N,), in the dtype of x
    beta: Float  # (N,), in the dtype of x
    signs: Float  # H_(v_n)(x): (N, ...)
    near: Bool  # where 0 <= x + v_n <= 1: (N, ...)
    ste_slope: float


def abc_weight(
    w: Float,
    *,
    bases: int,
    alpha: Float | None = None,
    clip_grad: bool = False,
    frozen: ABCWeightCache | None = None,
) -> tuple[Float, ABCWeightCache]:
    """y = sum alpha_i sign(w - mean + u_i std), alpha by least squares

    w: (...), alpha: (M,)  ->  y: (...), dtype of w

    Mean and standard deviation are those of the whole tensor; M = ``bases``. Raises
    ValueError for NaN or infinity, for M outside [1, 16] and an alpha of other length.

    With ``frozen``, sum alpha_i (B_i + w - w_recorded), B_i and alpha_i held.

    >>> abc_weight(np.array([-3.0, -1.0, 0.0, 4.0]), bases=1)[0]  # mean 0
    array([-2., -2.,  2.,  2.])
    """
    check_values(w, name="w")
    check_bases(bases)
    if frozen is not None:
        return frozen.y + frozen.slope * (w - frozen.w), frozen
    a = abc_alpha(w, bases=bases) if alpha is None else coefficients(alpha, bases, w)
    y = nested_levels(a, w)[nested_codes(w, abc_thresholds(w, bases))]  # (W)
    slope = np.full(w.shape, a.sum(), w.dtype)
    if clip_grad:
        slope = np.where(np.abs(w) <= 1, slope, 0)
    return y, ABCWeightCache(w, y, slope)


def abc_weight_backward(dy: Float, cache: ABCWeightCache) -> Float:
    """dw = dy sum alpha: dB_i/dw = 1; mean, std and alpha are constants.

    dy: (...)  ->  dw: (...)

    >>> w = np.array([-3.0, -1.0, 0.0, 4.0])
    >>> abc_weight_backward(np.ones(4), abc_weight(w, bases=1)[1])
    array([2., 2., 2., 2.])
    """
    check_gradient(dy, cache.y.shape)
    return dy * cache.slope  # (G)


def abc_alpha(w: Float, *, bases: int) -> Float:
    """alpha = argmin ||w - B alpha||^2, of least norm where bases coincide

    w: (...)  ->  (M,), float64

    A solver: it has no backward.

    >>> abc_alpha(np.array([-3.0, -1.0, 0.0, 4.0]), bases=1).round(12)
    array([2.])
    """
    check_values(w, name="w")
    check_bases(bases)
    if w.size == 0:
        return np.zeros(bases)
    codes = nested_codes(w, abc_thresholds(w, bases)).ravel()
    target = w.ravel().astype(np.float64)
    return np.linalg.lstsq(nested_signs(bases)[codes], target, rcond=None)[0]  # (A)


def abc_thresholds(w: Float, bases: int) -> Float:
    """t = mean - u std, ascending: base i is +1 from its threshold up.

    w: (...)  ->  (M,), float64

    The squares are those of shares of the largest: they neither overflow nor vanish.

    >>> abc_thresholds(np.array([1.0, 5.0]), 3)
    array([1., 3., 5.])
    """
    if w.size == 0:
        return np.zeros(bases)
    mean = w.mean(dtype=np.float64)
    centred = w - mean
    most = np.abs(centred).max()
    share = centred / most if most > 0 else centred
    std = most * np.sqrt(np.mean(share**2))
    u = np.linspace(-1, 1, bases) if bases > 1 else np.zeros(1)  # (U)
    return mean - u[::-1] * std


def nested_codes(x: Float, thresholds: Float) -> Int:
    """Return how many bases are +1: how many thresholds x has reached.

    x: (...), thresholds: (M,) ascending  ->  (...)

    >>> nested_codes(np.array([0.0, 1.0, 9.0]), np.array([1.0, 3.0]))
    array([0, 1, 2])
    """
    return np.searchsorted(thresholds, x, side="right")


def nested_signs(bases: int) -> Float:
    """Return the bases of every code: in code c the last c of u_1 .. u_M are +1.

    ->  (M + 1, M)

    >>> nested_signs(2)
    array([[-1., -1.],
           [-1.,  1.],
           [ 1.,  1.]])
    """
    on = np.arange(bases) >= bases - np.arange(bases + 1)[:, None]
    return np.where(on, 1.0, -1.0)  # (B)


def nested_levels(alpha: Float, w: Float) -> Float:
    """Return the levels sum alpha_i B_i in the order of the codes, in the dtype of w.

    alpha: (M,)  ->  (M + 1,); not ascending where an alpha is negative
    """
    return (nested_signs(alpha.size) * alpha).sum(1).astype(w.dtype)


check_bases = partial(check_bits, least=1, most=MOST_BASES, name="bases")


def coefficients(p: Float, bases: int, x: Float, *, name: str = "alpha") -> Float:
    """Return a coefficient for every basis in float64; raise for other shapes."""
    p = np.asarray(p).astype(np.float64)
    if p.shape != (bases,):
        raise ValueError(f"{name} must be ({bases},), one for every basis: {p.shape}")
    if not np.all(np.abs(p) <= LARGEST[x.dtype]):
        raise ValueError(
            f"{name} must be finite and at most {LARGEST[x.dtype]:.3g}: {p}"
        )
    return p


def abc_activation(
    x: Float,
    v: Float,
    beta: Float,
    *,
    ste_slope: float = 1,
    frozen: ABCActivationCache | None = None,
) -> tuple[Float, ABCActivationCache]:
    """y = sum beta_n H_(v_n)(x),  H_v(x) = +1 where clip(x + v, 0, 1) >= 1/2, else -1

    x: (...), v: (N,), beta: (N,)  ->  y: (...), dtype of x

    H_v is computed as x >= 1/2 - v. Raises ValueError for NaN or infinity, and where v
    and beta are not vectors of one length in [1, 16].

    With ``frozen``, H_(v_n) moves by ste_slope times the change of x + v_n where
    0 <= x + v_n <= 1 was recorded, and not at all elsewhere.

    >>> x, v, beta = np.array([0.0, 0.5, 0.9]), np.array([0.25, -0.25]), np.ones(2)
    >>> abc_activation(x, v, beta)[0]  # thresholds 0.25 and 0.75
    array([-2.,  0.,  2.])
    """
    check_values(x, name="x")
    check_real(ste_slope, name="ste_slope", low=0, high=LARGEST[x.dtype])
    v, beta = check_shifts(x, v, beta)
    if frozen is not None:
        moved = (x - frozen.x) + along(v - frozen.v, x)
        h = frozen.signs + np.where(frozen.near, frozen.ste_slope * moved, 0)
        return (along(beta, x) * h).sum(0).astype(x.dtype), frozen
    shifted = x + along(v, x)
    near = (shifted >= 0) & (shifted <= 1)  # (N)
    one = np.ones((), x.dtype)
    signs = np.where(x >= along(shift_thresholds(v), x), one, -one)  # (H)
    codes, levels = shift_codes_and_levels(x, v, beta)
    y = levels[codes]  # (R)
    return y, ABCActivationCache(x, v, beta, signs, near, ste_slope)


def abc_activation_backward(
    dy: Float, cache: ABCActivationCache
) -> tuple[Float, Float, Float]:
    """dx = dy sum beta_n near_n, dv_n = beta_n sum dy near_n, dbeta_n = sum dy H_n

    dy: (...)  ->  dx: (...), dv: (N,), dbeta: (N,); dx and dv times ``ste_slope``

    dbeta is the true derivative.

    >>> x, v, beta = np.array([-9.0, 0.7]), np.array([0.0, 0.5]), np.array([2.0, 3.0])
    >>> abc_activation_backward(np.ones(2), abc_activation(x, v, beta)[1])
    (array([0., 2.]), array([2., 0.]), array([0., 0.]))
    """
    check_gradient(dy, cache.x.shape)
    g = dy.astype(np.float64)
    axes = tuple(range(1, cache.near.ndim))
    passed = cache.ste_slope * cache.near
    dx = g * (along(cache.beta, g) * passed).sum(0)  # (X)
    dv = cache.beta * (g * passed).sum(axes)  # (V)
    dbeta = (g * cache.signs).sum(axes)  # (E)
    return dx.astype(dy.dtype), dv.astype(dy.dtype), dbeta.astype(dy.dtype)


def along(p: Float, x: Float) -> Float:
    """Return p with one more axis for every axis of x: (N,)  ->  (N, 1, ...)."""
    return p.reshape(-1, *(1,) * x.ndim)


def check_shifts(x: Float, v: Float, beta: Float) -> tuple[Float, Float]:
    """Return v and beta in the dtype of x; raise unless (N,) both, 1 <= N <= 16."""
    if np.ndim(v) != 1 or not 1 <= np.size(v) <= MOST_BASES:
        raise ValueError(f"v must be (N,), 1 <= N <= {MOST_BASES}, got {np.shape(v)}")
    v = coefficients(v, np.size(v), x, name="v")
    beta = coefficients(beta, v.size, x, name="beta")
    return v.astype(x.dtype), beta.astype(x.dtype)


def shift_thresholds(v: Float) -> Float:
    """Return 1/2 - v: from where up each basis is +1."""
    return np.asarray(0.5 - v, v.dtype)


def shift_codes_and_levels(x: Float, v: Float, beta: Float) -> tuple[Int, Float]:
    """Return ``(codes, levels)``: how many bases are +1, and what they sum to.

    x: (...), v: (N,), beta: (N,)  ->  codes: (...), levels: (N + 1,)

    The order of u in ``nested_signs`` is here that of ascending v.
    """
    order = np.argsort(v, kind="stable")
    codes = nested_codes(x, shift_thresholds(v)[order[::-1]])
    return codes, nested_levels(beta[order].astype(np.float64), x)


def shifts_apart(bases: int) -> Float:
    """Return the first v: N values that cut (-1/2, 1/2) evenly.

    >>> shifts_apart(3)
    array([-0.25,  0.  ,  0.25])
    """
    return np.linspace(-0.5, 0.5, bases + 2)[1:-1]


class BasesQuantizer(Quantizer):
    """A quantizer of M bases in place of bits."""

    bases: int

    def bits_of(self, bits: int | None) -> int:
        """Count the bases: the method has no bits, and ``bits`` must be left out."""
        if bits is not None:
            raise ValueError(f"bits must be None, the bases are fixed: {bits!r}")
        check_bases(self.bases)
        return self.bases


@final
@dataclass(eq=False)
class ABCWeight(BasesQuantizer):
    """Weights as M bases, alpha and the bases found again at every pass."""

    bases: int = 5
    clip_grad: bool = False

    pair = (abc_weight, abc_weight_backward)
    options = ("bases", "clip_grad")

    def encode(self, v: Float) -> tuple[Int, Float]:
        """Count the bases that are +1; give that and the M + 1 levels they make."""
        levels = nested_levels(abc_alpha(v, bases=self.bases), v)
        return nested_codes(v, abc_thresholds(v, self.bases)), levels

    def decision_boundaries(self, v: Float) -> Float:
        """Give mean - u_i std, ascending: (1, M)."""
        check_values(v, name="v")
        return abc_thresholds(v, self.bases)[None].astype(v.dtype)


@final
@dataclass(eq=False)
class ABCActivation(BasesQuantizer):
    """Activations as N bases with learned shifts v and scales beta, any reals."""

    bases: int = 5
    ste_slope: float = 1
    v: Param = field(init=False)
    beta: Param = field(init=False)

    pair = (abc_activation, abc_activation_backward)
    options = ("ste_slope",)
    parameters = ("v", "beta")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_real(self.ste_slope, name="ste_slope", low=0)
        self.v = Param(shifts_apart(self.bases), group="quantizer")
        self.beta = Param(np.ones(self.bases), group="quantizer")

    def encode(self, v: Float) -> tuple[Int, Float]:
        """Count the bases that are +1; give that and the N + 1 levels they make."""
        check_values(v, name="v")
        shifts, beta = check_shifts(v, self.v.value, self.beta.value)
        return shift_codes_and_levels(v, shifts, beta)

    def decision_boundaries(self, v: Float) -> Float:
        """Give 1/2 - v_n, ascending: (1, N)."""
        shifts, _ = check_shifts(v, self.v.value, self.beta.value)
        return np.sort(shift_thresholds(shifts))[None]
