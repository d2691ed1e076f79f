r"""The LSQ step of every layer of a subnet: shared, predicted, relative, or the best.

QuantNAS (Gao et al., CVPR 2024 NAS workshop): a shared scale is best for no subnet, so
a scale predictor takes its place. What it reads, its size and its training are ours:

    symbol                                             code         where
    s_l = exp(log s_l)                            (1)  log_s        Shared.step
    u_l = (log fan-in, log sqrt(mean v^2))             features     features
    log s_l(a) = log s_l + f(a, u_l)_l            (2)  f            Predicted.step
    f(a, u)_l = w2_l . relu(w1 (a, u) + b1) + b2_l (3)              Predicted.step
    d log s = s ds                                (4)               every backward
    argmin_s mean (v - lsq(v, s))^2               (5)  best         mse_step
    s_l = exp(log r_l) sqrt(mean v^2)             (6)  log_r        Relative.step

v is what layer l quantizes: folded weights, or activations, of the subnet that a
encodes. u, and the root in (6), are constants in the backward. The last layer of f
starts at zero, so that step 0 is the shared baseline, to the bit. (6) is a baseline
between the two that the paper does not have: the step follows its tensor and nothing
else is learned of the subnet; it is (2) with the root for exp f.
"""

import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple, final

import numpy as np

from refqnn._types import Float
from refqnn.core import Param
from refqnn.quantizers.learned_step_size import lsq_levels, lsq_step

HIDDEN = 32
#: candidates of each of the two rounds of the search for (5), and values it looks at
CANDIDATES, MOST_VALUES = 48, 5_000


class Where(NamedTuple):
    """The tensor that a step is for: name, bits, signed grid or not, fan-in."""

    name: str
    bits: int
    signed: bool  # weights: the signed grid
    fan_in: int

    @property
    def ends(self) -> tuple[int, int]:
        """(Q_N, Q_P)"""
        return lsq_levels(self.bits, signed=self.signed)


def features(where: Where, v: Float) -> Float:
    """u = (log fan-in, log sqrt(mean v^2)), 0 in place of log 0

    >>> features(Where("conv", 4, True, 1), np.array([3.0, -3.0])).round(3)
    array([0.   , 1.099])
    """
    energy = float(np.mean(np.square(v))) if v.size else 0.0
    return np.array([math.log(where.fan_in), 0.5 * math.log(energy or 1.0)])


@final
@dataclass(eq=False)
class Shared:
    """One step a layer for all subnets, held as its logarithm, equation (1)."""

    log_s: dict[str, Param] = field(default_factory=dict)

    def step(self, where: Where, v: Float, a: Float) -> tuple[Float, Any]:  # noqa: ARG002 - the signature of all
        """s = exp(log s_l), and what ``backward`` needs: ()"""
        param = self.of(where.name)
        s = np.exp(param.value)  # (1)
        return s, (param, s)

    def backward(self, ds: Float, cache: Any) -> None:
        """Add the gradient of log s: s ds."""
        param, s = cache
        param.grad += s * ds  # (4)

    def of(self, name: str) -> Param:
        """Return log s of a layer; raise ValueError before it is known."""
        if name not in self.log_s:
            raise ValueError(f"the step of {name} is unknown: call initialise")
        return self.log_s[name]

    def start(self, first: "Starting") -> None:
        """Set log s of every layer seen."""
        for name, s in first.steps.items():
            self.log_s[name] = Param(np.array(math.log(s)), group="quantizer")


@final
@dataclass(eq=False)
class Relative:
    """One ratio of step to root mean square a layer, for all subnets, equation (6)."""

    log_r: dict[str, Param] = field(default_factory=dict)

    def step(self, where: Where, v: Float, a: Float) -> tuple[Float, Any]:  # noqa: ARG002 - the signature of all
        """s = exp(log r_l) sqrt(mean v^2), and what ``backward`` needs: ()"""
        if where.name not in self.log_r:
            raise ValueError(f"the step of {where.name} is unknown: call initialise")
        param, (_, log_root) = self.log_r[where.name], features(where, v)
        s = np.exp(param.value + log_root)  # (6)
        return s, (param, s)

    backward = Shared.backward

    def start(self, first: "Starting") -> None:
        """Set log r of every layer seen."""
        for name, s in first.steps.items():
            log_r = math.log(s) - first.log_roots[name]
            self.log_r[name] = Param(np.array(log_r), group="quantizer")


@final
@dataclass(eq=False)
class Predicted:
    """The shared step times exp f(a, u), equations (2) and (3)."""

    shared: Shared
    w1: Param  # (hidden, E + 2)
    b1: Param  # (hidden,)
    w2: Param  # (L, hidden), zeros at first
    b2: Param  # (L,), zeros at first
    rows: tuple[str, ...]  # the name of each of the L outputs

    def step(self, where: Where, v: Float, a: Float) -> tuple[Float, Any]:
        """v: (...), a: (E,)  ->  s: ()"""
        row = self.rows.index(where.name)
        x = np.concatenate([a, features(where, v)])
        # (hidden, E + 2) . (E + 2,) -> (hidden,)
        h = self.w1.value @ x + self.b1.value
        r = np.maximum(h, 0)
        f = self.w2.value[row] @ r + self.b2.value[row]  # (3)
        s = np.exp(self.shared.of(where.name).value + f)  # (2)
        return s, (where.name, row, x, r, s)

    def backward(self, ds: Float, cache: Any) -> None:
        """Add the gradients of log s and of the predictor."""
        name, row, x, r, s = cache
        df = s * ds  # (4)
        self.shared.of(name).grad += df
        self.b2.grad[row] += df
        self.w2.grad[row] += df * r
        dh = df * self.w2.value[row] * (r > 0)
        self.b1.grad += dh
        self.w1.grad += np.outer(dh, x)

    def start(self, first: "Starting") -> None:
        """Set the shared steps."""
        self.shared.start(first)


@final
@dataclass(eq=False)
class Oracle:
    """The step with the least square error, found anew for every tensor: (5)."""

    def step(self, where: Where, v: Float, a: Float) -> tuple[Float, Any]:  # noqa: ARG002 - the signature of all
        """argmin_s mean (v - lsq(v, s))^2: ()"""
        q_n, q_p = where.ends
        return np.asarray(mse_step(v, q_n=q_n, q_p=q_p)), None

    def backward(self, ds: Float, cache: Any) -> None:
        """Do nothing: the step is a constant."""

    def start(self, first: "Starting") -> None:
        """Do nothing: there is nothing to learn."""


@final
@dataclass(eq=False)
class Starting:
    """LSQ's first step 2 mean|v| / sqrt(Q_P) for every tensor that passes by."""

    steps: dict[str, float] = field(default_factory=dict)
    log_roots: dict[str, float] = field(default_factory=dict)

    def step(self, where: Where, v: Float, a: Float) -> tuple[Float, Any]:  # noqa: ARG002 - the signature of all
        """Return LSQ's first step, and note it and log sqrt(mean v^2): ()"""
        self.steps[where.name] = lsq_step(v, q_p=where.ends[1])
        self.log_roots[where.name] = float(features(where, v)[1])
        return np.asarray(self.steps[where.name]), None

    def backward(self, ds: Float, cache: Any) -> None:
        """Do nothing: the step is a constant."""


def new_predictor(
    shared: Shared,
    names: tuple[str, ...],
    encoding: int,
    *,
    hidden: int = HIDDEN,
    rng: np.random.Generator,
) -> Predicted:
    """Return a predictor, f = 0 at first, with a row for each name of a layer.

    >>> rng = np.random.default_rng(0)
    >>> new_predictor(Shared(), ("stem",), 5, rng=rng).w1.value.shape
    (32, 7)
    """
    w1 = rng.standard_normal((hidden, encoding + 2)) * math.sqrt(2 / (encoding + 2))
    rows = len(names)
    return Predicted(
        shared,
        w1=Param(w1, group="predictor"),
        b1=Param(np.zeros(hidden), group="predictor"),
        w2=Param(np.zeros((rows, hidden)), group="predictor"),
        b2=Param(np.zeros(rows), group="predictor"),
        rows=names,
    )


def mse_step(v: Float, *, q_n: int, q_p: int) -> float:
    """argmin_s mean (v - s round(clip(v / s, -q_n, q_p)))^2, by search in two rounds

    v: (...)  ->  s: (). Two rounds of ``CANDIDATES`` steps, geometric: from 1 / 64 to
    1.05 of the least step that clips nothing, then between the neighbours of the best.
    Of n * ``MOST_VALUES`` values or more every n-th is looked at. Zeros, and negatives
    where q_n is 0, have eps. Our choice of what the paper calls optimal.

    Raises ValueError for values that are not finite.

    >>> round(mse_step(np.array([-2.0, 1.0, 3.0, 0.0]), q_n=4, q_p=3), 2)
    1.0
    """
    seen = v.ravel()[:: max(1, v.size // MOST_VALUES)].astype(np.float64)
    top = max(float(seen.max(initial=0)) / q_p, 0.0)
    top = max(top, float(-seen.min(initial=0)) / q_n if q_n else 0.0)
    if not np.isfinite(top):
        raise ValueError(f"v must be finite, its largest step is {top}")
    if top <= np.finfo(np.float32).tiny:
        return float(np.finfo(np.float32).eps)
    ends = (top / 64, 1.05 * top)
    for _ in range(2):
        steps = np.geomspace(*ends, CANDIDATES)
        errors = [square_error(seen, s, q_n, q_p) for s in steps]
        best = int(np.argmin(errors))  # (5)
        ends = (steps[max(best - 1, 0)], steps[min(best + 1, CANDIDATES - 1)])
    return float(steps[best])


def square_error(v: Float, s: float, q_n: int, q_p: int) -> float:
    """mean (v - s round(clip(v / s, -q_n, q_p)))^2"""
    return float(np.mean((v - s * np.rint(np.clip(v / s, -q_n, q_p))) ** 2))
