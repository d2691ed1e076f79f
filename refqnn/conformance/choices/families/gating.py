"""gate: a block that is run or skipped, its decision and the gradient of it."""

import numpy as np

from refqnn import ops
from refqnn._types import Float
from refqnn.conformance.choices import axes, draws, kinds
from refqnn.conformance.choices.families.float_layers import CLOSE
from refqnn.conformance.choices.family import Choices, Family, Inputs, Outputs


def gate(
    choices: Choices,
    x: Float,
    fx: Float,
    logit: Float,
    h: Float,
    h_new: Float,
    dm: Float,
) -> Outputs:
    """m = 1{p >= 1/2},  y = x + m f(x),  h' = m h_new + (1 - m) h,  dlogit = dm s(p)

    x, fx, logit, h, h_new, dm: (...)  ->  y, h', dlogit: (...)
    """
    p = ops.sigmoid(logit)[0]
    runs = p > 0.5 if choices["threshold"] == "above" else p >= 0.5
    if choices["skipped_branch"] == "times_zero":
        with np.errstate(invalid="ignore"):
            y = x + runs * fx
    else:
        y = np.where(runs, x + fx, x)
    skipped = {"kept": h, "updated": h_new, "zeroed": np.zeros_like(h)}
    slope = {
        "through_sigmoid": p * (1 - p),
        "straight_through": np.ones_like(p),
        "none": np.zeros_like(p),
    }
    return {
        "y": y,
        "h": np.where(runs, h_new, skipped[choices["skipped_state"]]),
        "dlogit": dm * slope[choices["gate_gradient"]],
    }


def gate_inputs(logit: Float, fx: Float) -> Inputs:
    """Make a call whose numbers are all distinct, but for those given."""
    one = np.ones_like(logit)
    return draws.call(gate, one, fx, logit, 2 * one, 3 * one, one)


def gate_candidates() -> list[Inputs]:
    """List gates: on the threshold, closed, closed with an infinite branch."""
    logits = ([0.0], [-1.0], [-1.0], [1.0])
    branches = ([4.0], [4.0], [np.inf], [4.0])
    pairs = zip(logits, branches, strict=True)
    each = [gate_inputs(np.array(a), np.array(f)) for a, f in pairs]
    return [*each, gate_inputs(np.array([0.0, -1.0]), np.array([4.0, np.inf]))]


def draw_gate(rng: np.random.Generator, n: int) -> Inputs:
    """Draw gates of every kind, a quarter on the threshold, some branches infinite."""
    size = max(n // 3, 8)
    logit = np.where(rng.random(size) < 0.25, 0.0, rng.normal(size=size))
    return gate_inputs(logit, np.where(rng.random(size) < 0.25, np.inf, 4.0))


def wide_gate(rng: np.random.Generator, n: int) -> Inputs:
    """Draw gates of every kind and all arguments; branches of closed ones infinite."""
    logit = np.where(rng.random(n) < 0.2, 0.0, rng.normal(size=n))
    x, fx, h, h_new, dm = (draws.gradient(rng, (n,)) for _ in range(5))
    closed = (logit < 0) & (rng.random(n) < 0.3)
    return draws.call(gate, x, np.where(closed, np.inf, fx), logit, h, h_new, dm)


FAMILIES = (
    Family(
        "gate",
        ("{threshold}", "{skipped_branch}", "{skipped_state}", "{gate_gradient}"),
        axes.of("threshold gate_gradient skipped_state skipped_branch"),
        gate,
        gate_candidates,
        draw_gate,
        elementwise="x",
        stacks=False,
        close=CLOSE,
        outputs=("y", "h", "dlogit"),
        wide=wide_gate,
        regions=kinds.regions(
            "x fx logit h h_new dm: reals",
            "fx: infinite",
            "x: tails, columns elements 1 7 64 65",
        ),
    ),
)
