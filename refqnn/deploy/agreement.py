r"""Why integer codes agree with fake-quantized ones, layer by layer, and how closely.

From the same input codes, the integer codes of a layer differ from those of the trained
network by at most one, and only near a tie. In codes, with u the unit roundoff of the
network's dtype and gamma(k) = k u / (1 - k u):

    |t_int - t_float| <= gamma(n + 16) (S + K + H)                                  (1)
                       + 2^(shift - 32) (|acc| + |skip|)                            (2)
                       + A / 2^(f + 1), once per branch with a bias                 (3)
                       + gamma32(6) (|acc m| + |skip m_2|) 2^(shift - 31)           (4)

(1) is the float side: S = A sum |w| max|x - z| bounds a sum of n products, K what is
skipped, H = |g mean| + |beta| what the batch norm adds, all divided by the step of the
next codes, and so is A. Inputs and weights are rounded once each, products and their
sum at most n times in any order; at most 14 roundings follow, of the batch norm, the
addition, the division by the step, and of the folded scale in float64. (2) is a
multiplier rounded to its last place, (3) a bias rounded to whole steps. (4) is there
where the integer network rounds in float32, gamma32 with the u of float32: of w_scale,
two operations that make the multiplier, the accumulator, a product and a sum.

Where the right side is below 1, codes differ by at most one, and where they do, a tie
lies between t_int and t_float.
"""

from typing import Any, NamedTuple

import numpy as np

import refqnn
from refqnn._types import Array, Float
from refqnn.core import Run
from refqnn.deploy.fold import gain_and_offset
from refqnn.deploy.network import IntegerNetwork
from refqnn.deploy.plan import Stage, Weighted, plan
from refqnn.deploy.steps import ResidualStep, Sum
from refqnn.nn import GlobalAvgPool2d


class LayerAgreement(NamedTuple):
    """Claim (a) for the codes of one layer; distances in codes."""

    name: str
    codes: int
    different: int
    largest_difference: int
    #: of a code that differs, the largest distance from the tie that decides it
    tie_distance: float
    #: the largest |t_int - t_float|
    deviation: float
    #: the largest bound of a channel
    bound: float
    #: whether every element keeps the bound of its channel
    within: bool

    @property
    def holds(self) -> bool:
        """Return whether the codes differ by at most one, and only near ties."""
        return self.largest_difference <= 1 and self.within


class Traced(NamedTuple):
    """A run of the integer network, and the dtype of the network it was made of."""

    steps: dict[str, Any]
    values: dict[str, Array]
    dtype: Any

    def real(self, name: str) -> Float:
        """Return stored codes as the numbers they are in the trained network."""
        grid, dtype = self.steps[name].grid, self.dtype
        steps = self.values[name].astype(dtype) - dtype.type(grid.zero_point)
        return dtype.type(grid.scale) * steps

    def largest(self, name: str) -> float:
        """Return the largest ``|q - zero_point|`` among stored codes."""
        steps = self.values[name].astype(np.int64) - self.steps[name].grid.zero_point
        return float(np.abs(steps).max(initial=0))


def compare_layers(
    network: Any, integer_network: IntegerNetwork, images: Array, backend: Any = refqnn
) -> list[LayerAgreement]:
    """Compare integer and fake-quantized codes, layer by layer.

    Every layer of the trained ``network`` reads the codes that the integer network has
    stored, so that a difference is its own. ``backend`` computes the integers; the
    floats are those of the definition.
    """
    stages = plan(network).stages
    steps = {step.name: step for step in integer_network.steps}
    if [stage.name for stage in stages] != list(steps)[1:]:
        raise ValueError("the integer network was not made of this network")
    dtype = network_dtype(stages)
    traced = Traced(steps, integer_network.trace(images, backend), dtype)
    return [compare_stage(stage, traced) for stage in stages]


def network_dtype(stages: tuple[Stage, ...]) -> Any:
    """Return the dtype of the first weights."""
    weighted = [stage.weighted for stage in stages if stage.weighted is not None]
    return weighted[0].layer.w.value.dtype


def compare_stage(stage: Stage, traced: Traced) -> LayerAgreement:
    """Compare the codes of one layer."""
    step = traced.steps[stage.name]
    v = float_layer(stage, traced)
    t_float = v.astype(np.float64) / step.grid.scale + step.grid.zero_point
    if stage.quant is None:
        want = np.rint(t_float)
    else:
        seen = v if stage.weighted is None else np.maximum(v, 0)
        want = stage.quant.quantize(seen)[0].astype(np.float64)
    got = traced.values[stage.name].astype(np.float64)
    t_int = step.grid.zero_point + unrounded_codes(step, traced)
    bound = error_bound(stage, traced) / step.grid.scale + multiplier_error(
        step, traced
    )
    return agreement(stage.name, (got, want), (t_int, t_float), lift(bound, got))


def agreement(
    name: str, codes: tuple[Float, Float], t: tuple[Float, Float], bound: Float
) -> LayerAgreement:
    """Return the record of one layer from its codes and from what was rounded to them.

    codes, t: (integer, float), each (N, O, ...), bound: (O, ...)
    """
    difference = np.abs(codes[0] - codes[1])
    differs = difference > 0
    tie = np.where(differs, np.abs(t[1] - (codes[0] + codes[1]) / 2), 0)
    deviation = np.abs(t[0] - t[1])
    return LayerAgreement(
        name,
        codes=difference.size,
        different=int(differs.sum()),
        largest_difference=int(difference.max(initial=0)),
        tie_distance=float(tie.max(initial=0)),
        deviation=float(deviation.max(initial=0)),
        bound=float(bound.max(initial=0)),
        within=bool(np.all(np.maximum(deviation, tie) <= bound)),
    )


def float_layer(stage: Stage, traced: Traced) -> Float:
    """v = sums of the trained layer, or plane means, plus the skip; before the ReLU"""
    x = traced.real(stage.source)
    if stage.weighted is None:
        return GlobalAvgPool2d().forward(x, Run())[0]
    v = float_sum(stage.weighted, x)
    if not stage.skip_source:
        return v
    skip = traced.real(stage.skip_source)
    if isinstance(stage.skip, Weighted):
        skip = float_sum(stage.skip, skip)
    elif stage.skip is not None:
        skip = stage.skip.forward(skip, Run())[0]
    return v + skip


def float_sum(weighted: Weighted, x: Float) -> Float:
    """v = batch norm of the layer's sums, in evaluation: (N, O, ...)"""
    y = weighted.layer.forward(x, Run())[0]
    return y if weighted.norm is None else weighted.norm.forward(y, Run())[0]


def products(step: Any, traced: Traced) -> list[tuple[Float, Array]]:
    """Return ``(accumulators, multipliers)`` of every branch of a step."""
    names = [(f"{step.name}.accumulator", step.multiplier)]
    if isinstance(step, ResidualStep):
        names.append((f"{step.skip.name}.accumulator", step.skip_multiplier))
    return [(traced.values[name].astype(np.float64), m) for name, m in names]


def unrounded_codes(step: Any, traced: Traced) -> Float:
    """(acc m + skip m_2) 2^(shift - 31)"""
    total = np.sum([acc * lift(m, acc) for acc, m in products(step, traced)], axis=0)
    return np.ldexp(total, lift(step.shift, total) - 31)


def lift(v: Array, x: Array) -> Array:
    """View a value per channel, (O,), so that it broadcasts against x: (N, O, ...)."""
    return v.reshape(-1, *(1,) * (x.ndim - 2))


def multiplier_error(step: Any, traced: Traced) -> Float:
    """2^(shift - 32) (|acc| + |skip|), the term (2), and (4): (O,)"""
    branches = products(step, traced)
    accumulators = np.abs([acc for acc, _ in branches]).sum(axis=0)
    axes = (0, *range(2, accumulators.ndim))
    error = np.ldexp(accumulators.max(axis=axes, initial=0), step.shift - 32)
    if step.rounding != "float32_half_even":
        return error
    scaled = np.sum([np.abs(acc) * lift(m, acc) for acc, m in branches], axis=0)
    reach = np.ldexp(scaled.max(axis=axes, initial=0), step.shift - 31)
    return error + gamma(6, 2.0**-24) * reach


def error_bound(stage: Stage, traced: Traced) -> Float:
    """Sum the terms (1) and (3) of every branch, in real units, not in codes: (O,)"""
    step, largest = traced.steps[stage.name], traced.largest(stage.source)
    u = np.finfo(traced.dtype).eps / 2
    if stage.weighted is None:
        pixels = int(np.prod(traced.steps[stage.source].shape[1:]))
        return np.array([gamma(pixels + 16, u) * step.scale * pixels * largest])
    bound = sum_error(stage.weighted, step.sum, largest, u)
    if not stage.skip_source:
        return bound
    largest = traced.largest(stage.skip_source)
    if isinstance(stage.skip, Weighted):
        return bound + sum_error(stage.skip, step.skip, largest, u)
    return bound + gamma(16, u) * traced.steps[stage.skip_source].grid.scale * largest


def sum_error(weighted: Weighted, total: Sum, largest: float, u: float) -> Float:
    """Return the terms (1) and (3) of one branch, in real units: (O,)"""
    rows = np.abs(total.w.reshape(len(total.w), -1).astype(np.float64))
    step = np.ldexp(total.scale, total.fraction_bits)  # A
    products = step * rows.sum(axis=1) * largest  # S
    k = gamma(rows.shape[1] + 16, u)
    return k * (products + norm_magnitude(weighted)) + total.scale / 2


def norm_magnitude(weighted: Weighted) -> Float:
    """H = |g mean| + |beta| + |g b|: (O,)"""
    name, layer, norm = weighted
    channels = len(layer.w.value)
    gain, offset = gain_and_offset(name, norm, channels=channels)
    bias = 0 if layer.b is None else layer.b.value
    if norm is None:
        return np.abs(np.zeros(channels) + bias)
    beta = norm.beta.value.astype(np.float64)
    return np.abs(offset - beta) + np.abs(beta) + np.abs(gain * bias)


def gamma(k: int, u: float) -> float:
    """Return k u / (1 - k u): the relative error of k roundings

    >>> gamma(2, 0.125)
    0.3333333333333333
    """
    return k * u / (1 - k * u)
