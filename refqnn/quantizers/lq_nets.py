r"""LQ-Nets: a basis of K floats for every K-bit filter, found by QEM.

Zhang, Yang, Ye, Hua. LQ-Nets: Learned Quantization for Highly Accurate and Compact
Deep Neural Networks. ECCV 2018, arXiv:1807.10029. Section titles are the paper's.

    paper                           code       where
    basis v, code e_l               v, e       lq; section "Quantization with basis"
    q_l = v^T e_l, (L)              levels     lq_levels
    t_l = (q_(l-1) + q_l) / 2, (T)  t          lq_thresholds
    Q(x, v) = v^T e_l, (Q)          y          lq
    B* given v, (B)                 e          lq_codes, "quantization error min."
    v* = (B B^T)^-1 B x, (V)        v_star     qem_step
    QEM, T steps                    qem        qem
    moving average of v, 0.9, (M)   basis      moving_average, BasisQuantizer
    straight-through, (X)           dx         lq_backward
    dQ/dv with codes held, (D)      dv         lq_backward

Letters are names of this file. Codes are {-1, +1}^K for weights (``signed``), one basis
a filter, and {0, 1}^K for activations, one basis a layer. Outputs use the stored basis;
what QEM finds in a training pass is used from the next pass on.

Backward. Codes e are held: Q = v^T e, whose derivative in v is e, exactly (D). In x the
residual Q - x is held: slope 1, or 0 above the largest level of an activation (X).

Left open by the paper, and chosen here:
- A value half way between two levels goes to the lower one (as the released code).
- B B^T is singular where a bit never fires or two bits always agree. Every solve has a
  proximal ridge: min ||x - B v||^2 + d ||v - v_old||^2, d = 1e-4. What the data do not
  determine stays as it was, and the error still never rises. The released code has the
  ridge for weights only, and its activations can fail. d = 0 is the plain minimum,
  nearest to v_old where it is not unique.
- The paper has a plain moving average; that of the released code is presumably debiased
  (the default of its framework, not confirmed): ``ema="debiased"``, the default here,
  makes the first basis count in full. ``ema="plain"``.
- Activations pass no gradient above the largest level; below the smallest they do,
  because a ReLU comes before.
- No gradient trains the basis; ``lq_backward`` has it, the sum of dy times the code.
"""

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple, final

import numpy as np

from refqnn._types import Bool, Float, Int
from refqnn.core import Buffer, Run
from refqnn.ops.checks import check_gradient, check_real
from refqnn.prompt import one_line
from refqnn.quantizers.checks import LARGEST, check_choice, check_values
from refqnn.quantizers.module import Quantizer, unset

MOST_BASES = 8
DECAY = 0.9
RIDGE = 1e-4
#: the upper quartile of a unit Gaussian, as the released code rounds it
QUARTILE = 0.6745

Average = Literal["debiased", "plain"]


@one_line
class LQCache(NamedTuple):
    """What ``lq_backward`` needs, and what freezes codes and mask."""

    x: Float
    e: Int  # the code of every value: shape of x, then K
    inside: Bool  # where the gradient passes
    v_shape: tuple[int, ...]


def lq(
    x: Float, v: Float, *, signed: bool, frozen: LQCache | None = None
) -> tuple[Float, LQCache]:
    """y = v^T e of the nearest level

    x: (...), v: (K,); or x: (O, ...), v: (O, K)  ->  y: shape and dtype of x

    2^K levels a basis, ties to the lower. ``signed``: e in {-1, 1}^K, else {0, 1}^K.
    Raises ValueError for NaN or infinity in x or v, and for a v of another shape.

    With ``frozen``, the codes and the mask recorded there are held.

    >>> lq(np.array([-9.0, 0.0, 0.6, 2.1]), np.array([1.0, 2.0]), signed=True)[0]
    array([-3., -1.,  1.,  3.])
    >>> lq(np.array([-9.0, 0.5, 0.6, 2.1]), np.array([1.0, 2.0]), signed=False)[0]
    array([0., 0., 1., 2.])
    """
    check_values(x, name="x")
    basis = check_basis(v, x)
    if frozen is not None:
        e = by_group(frozen.e, len(basis), basis.shape[1])
        y = combine(e, basis, x).reshape(x.shape)
        return np.where(frozen.inside, x - frozen.x, 0) + y, frozen
    levels, e = lq_levels(x, basis, signed=signed)
    index = lq_codes(x, levels)
    group = np.arange(len(basis))[:, None]
    y = levels[group, index]  # (Q)
    inside = (by_group(x, len(basis)) <= levels[:, -1:]) | signed
    codes = e[group, index].reshape(*x.shape, basis.shape[1])
    return y.reshape(x.shape), LQCache(x, codes, inside.reshape(x.shape), np.shape(v))


def lq_backward(dy: Float, cache: LQCache) -> tuple[Float, Float]:
    """dx = dy, but 0 above the largest level of {0, 1}^K;  dv = sum of dy e

    dy: (...)  ->  dx: (...), dv: shape of v

    dv is the true derivative: codes do not change with v, except on a threshold.

    >>> x, v = np.array([0.6, 2.1, 9.0]), np.array([1.0, 2.0])
    >>> lq_backward(np.ones(3), lq(x, v, signed=False)[1])  # codes 10, 01, 11
    (array([1., 1., 0.]), array([2., 2.]))
    """
    check_gradient(dy, cache.x.shape)
    groups, k = math.prod(cache.v_shape[:-1]), cache.v_shape[-1]
    g = by_group(dy.astype(np.float64), groups)
    dv = np.einsum("gn,gnk->gk", g, by_group(cache.e, groups, k))  # (D)
    dx = np.where(cache.inside, dy, 0)  # (X)
    return dx, dv.reshape(cache.v_shape).astype(dy.dtype)


def check_basis(v: Float, x: Float) -> Float:
    """Return the bases of x in float64, (groups, K); raise for v of another shape.

    v: (K,) or (O, K), x: (O, ...)  ->  (1, K) or (O, K)
    """
    v = np.asarray(v).astype(np.float64)
    fits = v.ndim in {1, 2} and v.shape[:-1] in {(), x.shape[:1]}
    if not fits or not 1 <= v.shape[-1] <= MOST_BASES:
        raise ValueError(
            f"v must be (K,) or (O, K), 1 <= K <= {MOST_BASES}, O the filters of x: "
            f"v{v.shape}, x{x.shape}"
        )
    if not np.all(np.abs(v) <= LARGEST[x.dtype]):
        raise ValueError(f"v must be finite and at most {LARGEST[x.dtype]:.3g}: {v}")
    return v.reshape(-1, v.shape[-1])


def by_group(a: Any, groups: int, *last: int) -> Any:
    """Return ``a`` as (groups, n, *last).

    >>> by_group(np.zeros((4, 3, 3)), 4).shape
    (4, 9)
    """
    return a.reshape(groups, a.size // max(groups * math.prod(last), 1), *last)


def combine(e: Int, basis: Float, x: Float) -> Float:
    """Return v^T e in the dtype of x.

    e: (G, n, K), basis: (G, K)  ->  (G, n)
    """
    return (e * basis[:, None]).sum(-1, np.float64).astype(x.dtype)


def lq_levels(x: Float, basis: Float, *, signed: bool) -> tuple[Float, Int]:
    """Return the levels v^T e in ascending order, dtype of x, and their codes.

    basis: (G, K)  ->  levels: (G, 2^K), e: (G, 2^K, K)

    Bits may be negative or out of order: only sorting makes neighbours of levels.
    """
    k = basis.shape[1]
    bits = np.arange(2**k)[:, None] >> np.arange(k) & 1
    e = (2 * bits - 1 if signed else bits).astype(np.int8)
    every = combine(e[None], basis, x)  # (L)
    order = np.argsort(every, axis=1, kind="stable")
    return np.take_along_axis(every, order, axis=1), e[order]


def lq_thresholds(levels: Float) -> Float:
    """Return the midpoints between levels, each below the level above it.

    levels: (G, L)  ->  (G, L - 1)

    The bound is for neighbouring floats, whose midpoint rounds to one of them.

    >>> lq_thresholds(np.array([[-3.0, -1.0, 1.0, 3.0]]))
    array([[-2.,  0.,  2.]])
    """
    low, high = levels[:, :-1], levels[:, 1:]
    return np.minimum((low + high) / 2, np.nextafter(high, low))  # (T)


def lq_codes(x: Float, levels: Float) -> Int:
    """Return the index of the nearest level: how many thresholds lie below x.

    x: (O, ...), levels: (G, L)  ->  (G, n)
    """
    rows = by_group(x, len(levels))
    index = np.zeros(rows.shape, np.int64)
    for g, t in enumerate(lq_thresholds(levels)):
        index[g] = np.searchsorted(t, rows[g], side="left")  # (B)
    return index


def qem_step(x: Float, v: Float, *, signed: bool, ridge: float = RIDGE) -> Float:
    """v* = argmin ||x - B v*||^2 + d ||v* - v||^2, B the codes of x by v

    x: (O, ...), v: (K,) or (O, K)  ->  v*: shape of v, float64

    Solved for the change: (B^T B + d) (v* - v) = B^T (x - B v). With d = 0 what the
    values do not determine does not change. An empty x changes nothing. A solver: it
    has no backward.

    >>> qem_step(np.array([1.0, -3.0]), np.array([7.0]), signed=True, ridge=0)
    array([2.])
    """
    check_values(x, name="x")
    check_real(ridge, name="ridge", low=0)
    basis = check_basis(v, x)
    levels, e = lq_levels(x, basis, signed=signed)
    b = e[np.arange(len(basis))[:, None], lq_codes(x, levels)].astype(np.float64)
    gram = np.swapaxes(b, 1, 2) @ b + ridge * np.eye(basis.shape[1])
    rest = by_group(x, len(basis)) - (b @ basis[..., None])[..., 0]
    right = np.swapaxes(b, 1, 2) @ rest[..., None]
    change = np.linalg.pinv(gram, rcond=1e-12, hermitian=True) @ right
    return (basis + change[..., 0]).reshape(np.shape(v))  # (V)


def qem(
    x: Float, v: Float, *, signed: bool, steps: int = 10, ridge: float = RIDGE
) -> Float:
    """Return the basis after ``steps`` steps of QEM: a basis without training.

    x: (O, ...), v: (K,) or (O, K)  ->  shape of v, float64

    The squared error never rises, and ends in a minimum that may be local for K > 1.

    >>> qem(np.array([3.0, 1.0, -1.0, -3.0]), np.array([0.5, 1.0]), signed=True)
    array([1., 2.])
    """
    v = np.asarray(v).astype(np.float64)
    for _ in range(steps):
        v = qem_step(x, v, signed=signed, ridge=ridge)
    return v


def moving_average(v: Float, v_star: Float, t: int, *, ema: Average) -> Float:
    """Return the basis after the t-th v*: v + r (v* - v), t from 1.

    plain: r = 1 - 0.9; debiased: r = (1 - 0.9) / (1 - 0.9^t), which is the mean of
    v*_1 .. v*_t with weights that fall by 0.9 a step. At t = 1 it is v*_1 exactly.

    >>> moving_average(np.array([8.0]), np.array([2.0]), 1, ema="debiased")
    array([2.])
    """
    check_choice(ema, "debiased", "plain", name="ema")
    r = (1 - DECAY) / (1 - DECAY**t) if ema == "debiased" else 1 - DECAY
    return (1 - r) * v + r * v_star  # (M)


def first_weight_basis(shape: tuple[int, ...], *, bits: int) -> Float:
    """v_j = 2^j 0.6745 sqrt(2 / n) / 2^(K-1), n = Kh Kw O: before the first step.

    shape of the weights (O, I, Kh, Kw) or (O, I)  ->  (O, K)

    >>> first_weight_basis((1, 3, 1, 2), bits=2)  # n = 2
    array([[0.33725, 0.6745 ]])
    """
    n = max(math.prod((*shape[:1], *shape[2:])), 1)
    v = 2.0 ** np.arange(bits) * QUARTILE * math.sqrt(2 / n) / 2 ** (bits - 1)
    return np.tile(v, (*shape[:1], 1))


def first_activation_basis(*, bits: int) -> Float:
    """v_j = 2^j 2 0.6745 / (2^K - 1): before the first step.

    ->  (K,)

    >>> first_activation_basis(bits=1)
    array([1.349])
    """
    return 2.0 ** np.arange(bits) * 2 * QUARTILE / (2**bits - 1)


def codes_and_levels(x: Float, v: Float, *, signed: bool) -> tuple[Int, Float]:
    """Return ``(codes, levels)``, one codebook a basis, ``levels[codes] == y``.

    x: (O, ...), v: (K,) or (O, K)  ->  codes: (O, ...), levels: (G * 2^K,)
    """
    check_values(x, name="x")
    levels, _ = lq_levels(x, check_basis(v, x), signed=signed)
    start = np.arange(len(levels))[:, None] * levels.shape[1]
    return (lq_codes(x, levels) + start).reshape(x.shape), levels.ravel()


class BasisQuantizer(Quantizer):
    """A quantizer whose basis training passes move: they use it from the next pass on.

    A pass that is recorded leaves it, so that its replay meets the same basis. The bits
    of a call can only be the module's, for the basis has that length.
    """

    pair = (lq, lq_backward)
    options = ("signed",)
    most_bits = MOST_BASES
    #: codes {-1, 1}^K, else {0, 1}^K
    signed: ClassVar[bool]
    ema: Average
    basis: Buffer
    count: Buffer

    def __post_init__(self) -> None:
        super().__post_init__()
        moving_average(np.zeros(1), np.zeros(1), 1, ema=self.ema)

    def basis_of(self, v: Float) -> Float:
        """Give the basis in use: (K,) or (O, K)."""
        return self.basis.value

    def bits_of(self, bits: int | None) -> int:
        """Give K; raise where a call asks for another length of the basis."""
        own = self.bits
        if super().bits_of(bits) != own:
            raise ValueError(f"bits must be {own}, the length of the basis, got {bits}")
        return own

    def arguments(self, v: Float, run: Run, bits: int) -> tuple[Any, ...]:
        """Give the basis."""
        return (self.basis_of(v),)

    def after(self, v: Float, run: Run) -> None:
        """Move the basis by one step of QEM."""
        if run.training and run.tape is None and run.replay is None and v.size:
            basis, t = self.basis_of(v), int(self.count.value) + 1
            star = qem_step(v, basis, signed=self.signed)
            self.basis.value = moving_average(basis, star, t, ema=self.ema)
            self.count.value = np.asarray(t)

    def set_basis(self, basis: Float) -> None:
        """Set the basis, (K,) or (O, K): no training needed; counts as one pass."""
        v = np.array(basis, np.float64)
        if v.ndim != 1 + self.signed or v.shape[-1] != self.bits:
            want = f"(O, {self.bits})" if self.signed else f"({self.bits},)"
            raise ValueError(f"basis must be {want}, got {v.shape}")
        check_basis(v, np.zeros(v.shape[:-1], np.float32))
        self.basis.value, self.count.value = v, np.asarray(1)

    def encode(self, v: Float) -> tuple[Int, Float]:
        """Give ``(codes, levels)``, one codebook a basis, ``levels[codes] == y``."""
        return codes_and_levels(v, self.basis_of(v), signed=self.signed)

    def decision_boundaries(self, v: Float) -> Float:
        """Give the midpoints between the levels: (1, 2^K - 1) or (O, 2^K - 1)."""
        basis = check_basis(self.basis_of(v), v)
        return lq_thresholds(lq_levels(v, basis, signed=self.signed)[0])


@final
@dataclass(eq=False)
class LQWeight(BasisQuantizer):
    """Weights: a basis a filter, codes {-1, 1}^K.

    Until the first training pass the basis follows from the shape of the weights. Give
    ``filters``, O, where a checkpoint will be loaded before that pass: it makes the
    buffer its final shape.
    """

    bits: int = 4
    filters: int = 0
    ema: Average = "debiased"
    basis: Buffer = field(init=False)
    #: how many training passes the basis has seen
    count: Buffer = field(init=False, default_factory=unset)

    signed = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.basis = Buffer(np.zeros((self.filters, self.bits)))

    def basis_of(self, v: Float) -> Float:
        """Give the basis in use, (O, K); raise for another number of filters."""
        if self.filters and v.shape[:1] != (self.filters,):
            raise ValueError(f"filters is {self.filters}, the weights are {v.shape}")
        if self.count.value:
            return super().basis_of(v)
        return first_weight_basis(v.shape, bits=self.bits)


@final
@dataclass(eq=False)
class LQActivation(BasisQuantizer):
    """Activations: one basis, codes {0, 1}^K, no gradient above the largest level."""

    bits: int = 4
    ema: Average = "debiased"
    basis: Buffer = field(init=False)
    #: how many training passes the basis has seen
    count: Buffer = field(init=False, default_factory=unset)

    signed = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.basis = Buffer(first_activation_basis(bits=self.bits))
