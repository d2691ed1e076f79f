"""Few calls that visit regions, chosen greedily from many."""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations

import numpy as np

from refqnn._types import Bool, Int
from refqnn.conformance.choices.kinds import Inputs, Region


def visits(regions: Mapping[str, Region], calls: Sequence[Inputs]) -> Bool:
    """Return which call visits which region: (calls, regions)."""
    tests = list(regions.values())
    with np.errstate(all="ignore"):
        rows = [[test(call) for test in tests] for call in calls]
    return np.array(rows, bool).reshape(len(calls), len(tests))


def pairs_met(seen: Bool, names: list[str]) -> Bool:
    """Return which call visits which pair of regions of two arguments.

    seen: (calls, regions)  ->  (calls, pairs)

    >>> pairs_met(np.array([[True, True, True]]), ["x: 0", "x: 1", "w: 0"])
    array([[ True,  True]])
    """
    argument = [name.split(":")[0] for name in names]
    two = [
        (i, j)
        for i, j in combinations(range(len(names)), 2)
        if argument[i] != argument[j]
    ]
    first, second = np.array(two, np.int64).reshape(-1, 2).T
    return seen[:, first] & seen[:, second]


def greedy(wanted: Bool, times: Int) -> list[int]:
    """Choose rows until column j is met ``times[j]`` times, or by all that meet it.

    wanted: (rows, columns), times: (columns,)

    >>> greedy(np.array([[1, 0, 0], [1, 1, 0], [0, 0, 1]], bool), np.array([1, 1, 1]))
    [1, 2]
    """
    left, chosen = np.minimum(times, wanted.sum(axis=0)), list[int]()
    free = np.ones(len(wanted), bool)
    while left.any():
        gain = np.where(free, wanted[:, left > 0].sum(axis=1), -1)
        best = int(np.argmax(gain))
        chosen.append(best)
        free[best] = False
        left = np.maximum(left - wanted[best], 0)
    return chosen


#: how many of few calls visit a region, if so many can
TIMES = 2


def few(
    regions: Mapping[str, Region],
    draw: Callable[[np.random.Generator, int], Inputs],
    sizes: Sequence[int],
    seed: int,
    many: int = 60,
    *,
    pairs: bool = True,
) -> list[Inputs]:
    """Draw ``many`` calls and choose few that visit the same regions and pairs."""
    calls = [
        draw(np.random.default_rng([seed, i]), sizes[i % len(sizes)])
        for i in range(many)
    ]
    if pairs:
        return choose_calls(regions, calls, TIMES)
    seen = visits(regions, calls)
    rows = greedy(seen, np.ones(seen.shape[1], np.int64))
    return [calls[i] for i in sorted(rows)]


def choose_calls(
    regions: Mapping[str, Region], calls: Sequence[Inputs], times: int
) -> list[Inputs]:
    """Choose few calls that visit every pair once and every region ``times`` times."""
    seen = visits(regions, calls)
    met = pairs_met(seen, list(regions))
    often = np.repeat([times, 1], [seen.shape[1], met.shape[1]])
    rows = greedy(np.concatenate([seen, met], axis=1), often)
    return [calls[i] for i in sorted(rows)]


def separating(labels: Int) -> list[int]:
    """Return few columns that tell apart whatever rows any column tells apart.

    >>> separating(np.array([[0, 0, 0], [0, 1, 1], [0, 0, 2]]))
    [2]
    """
    groups, chosen = np.zeros((len(labels), 1), np.int64), list[int]()
    while True:
        parts = groups * (1 + labels.max(initial=0)) + labels
        ordered = np.sort(parts, axis=0)
        distinct = 1 + np.count_nonzero(np.diff(ordered, axis=0), axis=0)
        best = int(np.argmax(distinct))
        if distinct[best] == len(np.unique(groups)):
            return chosen
        chosen.append(best)
        groups = np.unique(parts[:, best], return_inverse=True)[1][:, None]


def separating_twice(labels: Int) -> list[int]:
    """Return columns that tell rows apart, then others that do what is left of it.

    >>> separating_twice(np.array([[0, 0, 0], [0, 1, 1], [0, 0, 2]]))
    [2, 1]
    """
    first, rest = separating(labels), labels.copy()
    rest[:, first] = 0
    return [*first, *separating(rest)]
