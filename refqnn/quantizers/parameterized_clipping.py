r"""PACT: activations clipped at a learned level.

Choi, Wang, Venkataramani, Chuang, Srinivasan, Gopalakrishnan. PACT: Parameterized
Clipping Activation for Quantized Neural Networks. 2018, arXiv:1805.06085.

    paper                         code           where
    alpha, the clipping level     alpha          pact
    clipped y, (C)                clipped        pact
    y_q, (Q)                      y              pact
    d y_q / d x, (X)              dx             pact_backward
    d y_q / d alpha, (G)          slope          pact, summed in pact_backward
    lambda alpha^2, its gradient, decay          PACT.param_gradient
      (W)

Letters are names of this file, not numbers of the paper.

Backward. "whole" holds y - clip(x, 0, alpha): the slope of the clip is 1 in x inside
(X) and 1 in alpha above it (G). "rounding" holds q - t, t = x n / alpha: inside, y =
alpha / n (t + (q - t)) = x + alpha (q - t) / n adds (q - t) / n to the slope in alpha
(G).

``scope="whole"`` is the paper: straight through rounding *and* scaling, so inside the
range alpha has no gradient. ``scope="rounding"`` (PACT+ in released code) passes
through the rounding only: the step alpha / n depends on alpha, and inside the range
each element adds (round(t) - t) / n, t = x n / alpha.

The regulariser is lambda alpha^2, its gradient 2 lambda alpha. As the weight decay of
an optimiser, which adds lambda alpha, the same lambda acts half as strong.

Left open by the paper: ties (half to even) and the ends of the range (x = alpha counts
as clipped; released code passes the gradient to x *and* to alpha there). Choices of
this file, unconfirmed by the paper: alpha starts at 8 (as in released code), decay at
0, and the projection keeps alpha above 2^-10. Released code that decays alpha has been
seen to push it below 0, where (C) clips the wrong way round.

Without an x >= alpha only decay moves alpha. From 8 that takes a training of the
paper's length; in a short one a clip above all activations stays there, and few bits
have their levels where nothing is. ``percentile=`` starts alpha at that percentile of
the first training batch instead, as the calibration of released code
(fms-model-optimizer, conventionally 99.9) does.

One level a channel: (C), (Q) and (G) hold within each channel, because no channel's
output depends on another's level; d alpha sums over that channel alone.

The step is alpha / n, rounded down by one unit where n steps would exceed alpha: no
output is above alpha, and every output is exactly step times code.
"""

from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, NamedTuple, final

import numpy as np

from refqnn._types import Bool, Float
from refqnn.core import Buffer, Param, Run
from refqnn.ops.broadcast import sum_to
from refqnn.ops.checks import check_gradient, check_real
from refqnn.prompt import one_line
from refqnn.quantizers.checks import check_choice, check_values
from refqnn.quantizers.module import (
    GridQuantizer,
    check_channels,
    per_channel,
    unsigned_codes,
)

Scope = Literal["whole", "rounding"]


@one_line
class PACTCache(NamedTuple):
    """What the backward needs, and what freezes rounding and masks."""

    inside: Bool  # 0 <= x < alpha, shape of x
    slope: Float  # d y / d alpha, shape of x
    alpha: Float
    residual: Float  # y - x 1{inside} - alpha slope


def pact(
    x: Float,
    alpha: Float,
    *,
    bits: int,
    scope: Scope = "whole",
    frozen: PACTCache | None = None,
) -> tuple[Float, PACTCache]:
    """y = s * round(clip(x, 0, alpha) / s),  s = alpha / (2^b - 1)

    x: (...), alpha: broadcasts to x, alpha > 0  ->  y: (...), dtype of x

    2^b levels from 0 to alpha, ties to even, bits in [1, 16]. Raises ValueError for a
    step below the smallest normal number, for an unknown scope, and for NaN or infinity
    in x or alpha.

    ``frozen`` holds residual and masks: see Backward.

    >>> pact(np.array([-1.0, 0.4, 1.6, 9.0]), np.array(3.0), bits=2)[0]
    array([0., 0., 2., 3.])
    """
    (alpha,) = check_values(x, name="x", bits=bits, alpha=alpha)
    step = step_below(alpha, bits)
    if frozen is not None:
        moving = np.where(frozen.inside, x, 0) + alpha * frozen.slope
        return moving + frozen.residual, frozen
    clipped = np.clip(x, 0, alpha)  # (C)
    q = pact_codes(x, alpha, step)
    y = step * q  # (Q)
    inside = (x >= 0) & (x < alpha)
    slope = (x >= alpha).astype(x.dtype)
    if scope != "whole":
        check_choice(scope, "whole", "rounding", name="scope")
        share = (q - clipped / step) / (2**bits - 1)
        slope = np.where(inside, share, slope)  # (G)
    return y, PACTCache(
        inside, slope, alpha, y - np.where(inside, x, 0) - alpha * slope
    )


def pact_backward(dy: Float, cache: PACTCache) -> tuple[Float, Float]:
    """dx = dy 1{0 <= x < alpha},  dalpha = sum dy 1{x >= alpha} (+ the inside's share)

    dy: (...)  ->  dx: (...), dalpha: shape of alpha

    >>> x = np.array([-1.0, 0.25, 1.0, 9.0])
    >>> pact_backward(np.ones(4), pact(x, np.array(1.0), bits=1)[1])
    (array([0., 1., 0., 0.]), array(2.))
    >>> pact_backward(np.ones(4), pact(x, np.array(1.0), bits=1, scope="rounding")[1])
    (array([0., 1., 0., 0.]), array(1.75))
    """
    check_gradient(dy, cache.inside.shape)
    dx = np.where(cache.inside, dy, 0)  # (X)
    total = sum_to((dy * cache.slope).astype(np.float64), cache.alpha.shape)  # (G)
    return dx, np.asarray(total, dy.dtype)


def pact_codes(x: Float, alpha: Float, step: Float) -> Float:
    """q = round(clip(x, 0, alpha) / s), as floats.

    x: (...), alpha, step: broadcast to x  ->  q: (...)
    """
    return np.rint(np.clip(x, 0, alpha) / step) + 0.0  # + 0.0: a code has one zero


def step_below(alpha: Float, bits: int) -> Float:
    """s = alpha / n, n = 2^b - 1, rounded so that n s <= alpha.

    >>> step_below(np.array(3.0), 2)
    array(1.)
    """
    n = 2**bits - 1
    step = np.asarray(alpha / n)
    if not np.all(step >= np.finfo(step.dtype).tiny):
        raise ValueError(f"alpha must be positive, its step normal, got {alpha}")
    return np.where(n * step > alpha, np.nextafter(step, np.zeros_like(step)), step)


def starting_clip(x: Float, percentile: float, *, least: float) -> float:
    """Return a percentile of x, but at least ``least``: where alpha starts.

    x: (...)  ->  ()

    >>> starting_clip(np.array([0.0, 1.0, 2.0, 9.0]), 75.0, least=0.1)  # of 4, the 3rd
    2.0
    """
    check_values(x, name="x")
    clip = np.percentile(x, percentile, method="inverted_cdf")
    return max(float(clip), least)


@final
@dataclass(eq=False)
class PACT(GridQuantizer):
    """A clipping level for the activations of a layer.

    It starts at ``start``, or with ``percentile`` where the first training batch says.
    Every backward adds 2 * decay * alpha to the gradient of alpha: once a pass, if a
    layer runs once a pass. With ``channels`` each channel has a level of its own.
    """

    bits: int = 4
    scope: Scope = "whole"
    #: lambda of the regulariser lambda alpha^2
    decay: float = 0.0
    #: where alpha starts, and how far it may fall
    start: float = 8.0
    alpha_min: float = 2.0**-10
    #: of the first training batch, where alpha starts instead; None: at ``start``
    percentile: float | None = None
    #: of the activations, each with a level; None: one in all
    channels: int | None = None
    alpha: Param = field(init=False)
    #: 1 once alpha is known: from the beginning without ``percentile``
    known: Buffer = field(init=False)

    pair = (pact, pact_backward)
    codes = staticmethod(unsigned_codes)
    options = ("bits", "scope")
    parameters = ("alpha",)
    unknown = "alpha is unknown: train, or call set_alpha(alpha)"
    begins_once = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self.scope, "whole", "rounding", name="scope")
        check_real(self.decay, name="decay", low=0)
        check_real(
            self.alpha_min, name="alpha_min", low=float(np.finfo(np.float32).eps)
        )
        check_real(self.start, name="start", low=self.alpha_min)
        if self.percentile is not None:
            check_real(self.percentile, name="percentile", low=0, high=100)
        value = np.full(check_channels(self.channels), self.start, np.float64)
        self.alpha = Param(value, group="quantizer", project=self.at_least_minimum)
        self.known = Buffer(np.asarray(int(self.percentile is None)))

    def at_least_minimum(self, alpha: Float) -> Float:
        """max(alpha, alpha_min)"""
        return np.maximum(alpha, self.alpha_min)

    def begin(self, v: Float, run: Run, bits: int) -> None:
        """Set the clip to the percentile of the first batch."""
        percentile = 100.0 if self.percentile is None else self.percentile
        start = partial(starting_clip, percentile=percentile, least=self.alpha_min)
        if self.channels is None:
            self.set_alpha(start(v))
        else:
            per_channel(self.alpha.value, v, "activation")
            self.set_alpha(np.array([start(part) for part in np.moveaxis(v, 1, 0)]))

    def arguments(self, v: Float, run: Run, bits: int) -> tuple[Any, ...]:
        """Give the level, or the levels in a shape that broadcasts to ``v``."""
        if not self.known.value:
            self.check_known(v)
        alpha = self.alpha.value
        return (per_channel(alpha, v, "activation") if alpha.ndim else alpha,)

    def param_gradient(self, name: str, grad: Float) -> Float:
        """dalpha + 2 decay alpha"""
        return grad + 2 * self.decay * self.alpha.value  # (W)

    def set_alpha(self, alpha: float | Float) -> None:
        """Set the clip, or one for each channel; raises below ``alpha_min``."""
        shape = self.alpha.value.shape
        if np.size(alpha) != 1 and np.shape(alpha) != shape:
            raise ValueError(
                f"alpha must have shape {shape} or one number: alpha{np.shape(alpha)}"
            )
        for one in np.ravel(alpha).tolist():
            check_real(one, name="alpha", low=self.alpha_min)
        self.hold(alpha=np.full(shape, alpha, np.float64))

    def codes_and_scale(self, v: Float) -> tuple[Float, Float, int]:
        """Give the codes and the step alpha / n ()."""
        levels = per_channel(self.alpha.value, v, "activation")
        (alpha,) = check_values(v, name="x", alpha=levels)
        step = step_below(alpha, self.bits)
        return pact_codes(v, alpha, step), step, 0
