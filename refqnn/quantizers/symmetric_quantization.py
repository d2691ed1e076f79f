r"""Symmetric quantization (SYQ): binary or ternary codes, a learned scale a pixel.

Faraone, Fraser, Blott, Leong. SYQ: Learning Symmetric Quantization For Efficient Deep
Neural Networks. CVPR 2018, arXiv:1807.00301.

    paper                        code         where
    codes Q_l, masks, (Q)        code         syq_codes
    threshold eta max|W_l|, (T)  threshold    syq_threshold
    diag(alpha) Q_l, (S)         y            syq
    dE/dalpha, (A)               dalpha       syq_backward
    dE/dW, (W)                   dw           syq_backward
    alpha at the start, mean|W|  alpha        syq_scale

(Q), (T), (S), (A) and (W) are names of this file, not numbers of the paper.

A group of weights that shares a scale is a pixel of the kernel (all filters and
channels at one place), a row of the kernel, or the layer. The threshold is one for the
layer. Weights without a kernel, (O, I), are a kernel of 1 x 1: one group.

Backward. The codes are held: y = alpha q, whose derivative in alpha is q, exactly (A).
In w the layer is read as y = alpha q + slope (w - w_recorded), so dw = slope dy (W).

Left open, and chosen here. The slope in w is alpha where the code is not 0 and 1 in the
dead zone, as in the published code; the printed gradient may not name the dead zone
(unconfirmed). A weight exactly at the threshold is 0; in the published code it is +-1.
Binary codes take eta = 0 and sgn(0) = 1, so weights that are all zero become alpha;
with another eta the published code would give the dead zone the scale 1. A scale is not
constrained: one that is not positive flips or drops its group, with a warning.
"""

import warnings
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, final

import numpy as np

from refqnn._types import Float, Int
from refqnn.core import Buffer, Param, Run
from refqnn.ops.broadcast import sum_to
from refqnn.ops.checks import check_gradient
from refqnn.prompt import one_line
from refqnn.quantizers.checks import check_choice, check_values, flush
from refqnn.quantizers.module import GridQuantizer, unset

Group = Literal["pixel", "row", "layer"]


@one_line
class SYQCache(NamedTuple):
    """What ``syq_backward`` needs, and what freezes codes and slopes."""

    code: Float  # -1, 0 or 1, shape of w
    slope: Float  # dy / dw: alpha where the code is not 0, else 1
    shift: Float  # slope * w
    shape: tuple[int, ...]  # of alpha


def syq(
    w: Float,
    alpha: Float,
    *,
    eta: float,
    levels: int = 3,
    group: Group = "pixel",
    frozen: SYQCache | None = None,
) -> tuple[Float, SYQCache]:
    """y = alpha * sgn(w) * 1{|w| > eta max|w|}, or alpha * sgn(w) with two levels

    w: (O, I, Kh, Kw), alpha: (Kh, Kw), (Kh, 1) or ()  ->  y: (O, I, Kh, Kw), dtype of w

    The shapes of alpha are those of a pixel, a row and a layer, axes of length 1 before
    them allowed; ``w`` of another rank is a kernel of 1 x 1. Raises ValueError for eta
    outside [0, 1), for eta > 0 with two levels, for levels other than 2 and 3, for
    alpha of another shape, and NaN or infinity. Warns where alpha <= 0.

    ``frozen`` holds codes and slopes: see Backward.

    >>> w = np.array([-4.0, 1.0, 2.0]).reshape(3, 1, 1, 1)
    >>> syq(w, np.array(0.5), eta=0.25, group="layer")[0].ravel()
    array([-0.5,  0. ,  0.5])
    """
    shape = np.shape(alpha)
    alpha = check_alpha(alpha, w, group)
    if frozen is not None:
        return alpha * frozen.code + frozen.slope * w - frozen.shift, frozen
    code = syq_codes(w, syq_threshold(w, eta, levels), levels)
    slope = np.where(code != 0, alpha, w.dtype.type(1))
    y = alpha * code  # (S)
    return y, SYQCache(code, slope, slope * w, shape)


def syq_backward(dy: Float, cache: SYQCache) -> tuple[Float, Float]:
    """dw = dy alpha where the code is not 0, else dy; dalpha = sum of dy * code

    dy: (O, I, Kh, Kw)  ->  dw: (O, I, Kh, Kw), dalpha: shape of alpha

    dalpha is the true gradient.

    >>> w = np.array([-4.0, 1.0, 2.0]).reshape(3, 1, 1, 1)
    >>> _, cache = syq(w, np.array(0.5), eta=0.25, group="layer")
    >>> dw, dalpha = syq_backward(np.full(w.shape, 2.0), cache)
    >>> dw.ravel(), dalpha  # -2 + 2
    (array([1., 2., 1.]), array(0.))
    """
    check_gradient(dy, cache.code.shape)
    dalpha = sum_to((dy * cache.code).astype(np.float64), cache.shape)  # (A)
    dw = dy * cache.slope  # (W)
    return dw, np.asarray(dalpha, dy.dtype)


def syq_codes(w: Float, threshold: Float, levels: int) -> Float:
    """Return the codes -1, 0, 1, or -1, 1 with sgn(0) = 1, as floats."""
    sign = np.where(w < 0, -1, 1).astype(w.dtype)
    return sign if levels == 2 else np.where(np.abs(w) > threshold, sign, 0)  # (Q)


def syq_threshold(w: Float, eta: float, levels: int) -> Float:
    """eta max|w|, (); raises for eta outside [0, 1) and levels other than 2 and 3."""
    if isinstance(levels, bool) or levels not in {2, 3}:
        raise ValueError(f"levels must be 2 or 3, got {levels!r}")
    if not 0 <= eta < 1:
        raise ValueError(f"eta must lie in [0, 1), got {eta}")
    if levels == 2 and eta != 0:
        raise ValueError(f"eta must be 0 with 2 levels, got {eta}")
    return np.asarray(eta * np.abs(w).max(initial=0), w.dtype)  # (T)


def check_alpha(alpha: Float, w: Float, group: Group) -> Float:
    """Return alpha in the dtype of w; raise where it is not one scale a group."""
    want = group_shape(w.shape, group)
    shape = np.shape(alpha)
    if (1,) * (w.ndim - len(shape)) + shape != want:
        raise ValueError(
            f"alpha must have the shape {want} of a {group} of w{w.shape}, got {shape}"
        )
    (alpha,) = check_values(w, name="w", alpha=alpha)
    if np.any(alpha <= 0):
        warnings.warn("alpha <= 0 flips or drops a group of weights", stacklevel=3)
    return alpha


def group_shape(shape: tuple[int, ...], group: Group) -> tuple[int, ...]:
    """Return the shape of one scale a group, of the rank of w.

    >>> group_shape((8, 4, 3, 5), "pixel"), group_shape((8, 4, 3, 5), "row")
    ((1, 1, 3, 5), (1, 1, 3, 1))
    """
    if group not in {"pixel", "row", "layer"}:
        check_choice(group, "pixel", "row", "layer", name="group")
    own = {"pixel": shape[2:], "row": (*shape[2:3], 1), "layer": (1, 1)}[group]
    return (1, 1, *own) if len(shape) == 4 else (1,) * len(shape)


def syq_scale(w: Float, *, group: Group) -> Float:
    """alpha = mean|w| over the group, those in the dead zone too: the first scales.

    w: (O, I, Kh, Kw)  ->  (1, 1, Kh, Kw), (1, 1, Kh, 1) or (1, 1, 1, 1)

    >>> syq_scale(np.array([[1.0, -3.0]]), group="layer")
    array([[2.]])
    """
    check_values(w, name="w")
    shape = group_shape(w.shape, group)
    total = sum_to(np.abs(w).astype(np.float64), shape)
    return flush((total / max(w.size // max(total.size, 1), 1)).astype(w.dtype))


@final
@dataclass(eq=False)
class SYQ(GridQuantizer):
    """Weights with learned scales of a kernel; the first training pass sets them.

    ``eta`` is 0.05 with three levels and 0 with two, unless given. The bits of a call
    can only be 1 or 2, as the levels are.
    """

    kernel: tuple[int, int] = (1, 1)
    levels: int = 3
    group: Group = "pixel"
    eta: float | None = None
    alpha: Param = field(init=False)
    #: 1 once the scales are known
    known: Buffer = field(init=False, default_factory=unset)

    pair = (syq, syq_backward)
    parameters = ("alpha",)
    unknown = "the scales are unknown: train, or call set_scale(alpha)"
    begins_once = True

    def __post_init__(self) -> None:
        syq_threshold(np.zeros(1), self.share(), self.levels)
        shape = group_shape((1, 1, *self.kernel), self.group)
        # no projection: a scale may take any sign
        self.alpha = Param(
            np.ones(() if self.group == "layer" else shape[2:]), group="quantizer"
        )

    def bits_of(self, bits: int | None) -> int:
        """levels - 1"""
        if bits is not None and (isinstance(bits, bool) or bits != self.levels - 1):
            raise ValueError(f"bits must be {self.levels - 1}, got {bits!r}")
        return self.levels - 1

    def begin(self, v: Float, run: Run, bits: int) -> None:
        """Set the first scales."""
        self.set_scale(syq_scale(v, group=self.group))

    def keywords(self, v: Float, run: Run, bits: int) -> dict[str, Any]:
        """Give eta, levels and group."""
        return {"levels": self.levels, "group": self.group, "eta": self.share()}

    def share(self) -> float:
        """Give eta."""
        return (0.05 if self.levels == 3 else 0.0) if self.eta is None else self.eta

    def set_scale(self, alpha: Float) -> None:
        """Set the scales: calibration without training."""
        alpha, own = np.asarray(alpha, np.float64), self.alpha.value
        if alpha.shape != (1,) * (alpha.ndim - own.ndim) + own.shape:
            raise ValueError(
                f"alpha must have the shape {own.shape} of a {self.group} of the "
                f"kernel {self.kernel}, got {alpha.shape}"
            )
        self.hold(alpha=alpha.reshape(own.shape).astype(own.dtype))

    def grid(self) -> Int:
        """List the integer codes -1, 0, 1, or -1, 1."""
        return np.array([-1, 1] if self.levels == 2 else [-1, 0, 1])

    def codes_and_scale(self, v: Float) -> tuple[Float, Float, int]:
        """Give the codes and alpha, of its shape."""
        scale = check_alpha(self.alpha.value, v, self.group)
        threshold = syq_threshold(v, self.share(), self.levels)
        return syq_codes(v, threshold, self.levels), scale, 0

    def decision_boundaries(self, v: Float) -> Float:
        """Give the values where the code changes: (groups, levels - 1)."""
        check_values(v, name="v")
        t = syq_threshold(v, self.share(), self.levels)
        ends = np.array([0] if self.levels == 2 else [-t, t], v.dtype)
        return np.tile(ends, (self.alpha.value.size, 1))
