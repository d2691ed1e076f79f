"""Regions of a family's input space, and calls that visit them.

Regions are named predicates, declared beside the arguments of a family. A mistake that
shows only where two arguments meet needs both regions in one call, so ``covering``
visits every pair of regions of two arguments that any of many random calls visits.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import cache

import numpy as np

from refqnn._types import Bool
from refqnn.conformance.choices import coverage, draws
from refqnn.conformance.choices.families import Inputs, family_of
from refqnn.conformance.choices.kinds import LENGTHS

#: random calls from which a covering is chosen
POOL = 600
#: how many of the calls visit a region, if so many can
TIMES = 4
#: what makes numbers small and large; powers of two, so that ties stay ties
FACTORS = (2.0**-20, 2.0**11)
#: calls of large layers
LARGE = 8
#: elements of a call, in turn
SIZES = (*LENGTHS, 24)


def regions_of(family: str) -> Mapping[str, Callable[[Inputs], bool]]:
    """Return the regions of a family: "ARGUMENT: WHAT" and its predicate over a call.

    >>> regions_of("quantize")["x: NaN"]({"x": np.float32([1, np.nan])})
    True
    """
    return family_of(family).regions


def regions_visited(family: str, calls: Iterable[Inputs]) -> set[str]:
    """Return the names of the regions that any of the calls visits."""
    seen = visits(family, list(calls)).any(axis=0)
    names = np.array(list(regions_of(family)), object)
    return set(names[seen].tolist())


def visits(family: str, calls: list[Inputs]) -> Bool:
    """Return which call visits which region: (calls, regions)."""
    return coverage.visits(regions_of(family), calls)


def visits_and_pairs(family: str, calls: list[Inputs]) -> Bool:
    """Return which call visits which region, or pair: (calls, regions and pairs)."""
    seen = visits(family, calls)
    pairs = coverage.pairs_met(seen, list(regions_of(family)))
    return np.concatenate([seen, pairs], axis=1)


@cache
def covering(family: str) -> tuple[Inputs, ...]:
    """Return few calls that visit every region and every pair that can meet.

    Whole arrays, the same in every process; computed once, chosen greedily.
    """
    if not regions_of(family):
        return tuple(pool(family, 2 * len(SIZES)))
    chosen = coverage.choose_calls(regions_of(family), pool(family), TIMES)
    return (*chosen, *far_from_one(family), *large_layers(family))


def pool(family: str, size: int = POOL, start: int = 0) -> list[Inputs]:
    """Return random calls of all lengths, one seed each; NaN in every fifth.

    ``draw`` leaves NaN out, since the reference refuses it.
    """
    known = family_of(family)
    takes_nan = f"{known.elementwise}: NaN" in known.regions
    calls = []
    for seed in range(size):
        rng = np.random.default_rng([start, seed])
        call = (known.wide or known.draw)(rng, SIZES[seed % len(SIZES)])
        if takes_nan and rng.random() < 0.2:
            x = call[known.elementwise].copy()
            x.flat[rng.integers(0, x.size)] = np.nan
            call |= {known.elementwise: x}
        calls.append(call)
    return calls


def far_from_one(family: str) -> list[Inputs]:
    """Return calls of every length whose numbers are far below 1, then far above."""
    names = family_of(family).scaled
    calls = pool(family, len(SIZES), start=2) if names else []
    return [scale_call(call, names, f) for f in FACTORS for call in calls]


def large_layers(family: str) -> list[Inputs]:
    """Return calls larger than those of ``pool``, where a family has such."""
    known = family_of(family)
    if known.wide is None or not any(r.endswith("large") for r in known.regions):
        return []
    rngs = [np.random.default_rng([3, seed]) for seed in range(LARGE)]
    return [known.wide(rng, draws.MOST + 1) for rng in rngs]


def scale_call(call: Inputs, names: Iterable[str], factor: float) -> Inputs:
    """Return a call with the named arguments multiplied, in their dtypes.

    >>> scale_call({"x": np.float32([3]), "bits": 4}, ("x",), 0.5)
    {'x': array([1.5], dtype=float32), 'bits': 4}
    """
    scaled = {k: np.asarray(call[k]) for k in names}
    return call | {k: v * v.dtype.type(factor) for k, v in scaled.items()}
