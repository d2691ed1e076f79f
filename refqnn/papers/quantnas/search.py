r"""Which subnets: every one of a small space, else an evolution under a budget.

QuantNAS (Gao et al., CVPR 2024 NAS workshop) does not describe its search; this is
ours. Evolution is that of once-for-all (arXiv:1908.09791), smaller: 30 subnets, ten
times the best 8, 15 mutations (each gene drawn anew with probability 0.1) and 15
crossovers (each gene from either parent).

An evolution asks for an accuracy once; ``points`` remembers. Costs must be sums over
the layers: stages then do not depend on each other, and ``cheapest`` is exact.
"""

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from refqnn.papers.quantnas.space import (
    Gene,
    Genotype,
    Space,
    count,
    draw,
    draw_gene,
    every,
    smallest,
    stages_of,
)

Accuracy = Callable[[Genotype], float]
CostOf = Callable[[Genotype], float]
#: the largest space whose every subnet is evaluated
MOST = 300
#: draws anew before a subnet over the budget is made cheaper stage by stage
TRIES = 50


class Point(NamedTuple):
    """A subnet, its accuracy as a share, its cost in the unit of the search."""

    genotype: Genotype
    accuracy: float
    cost: float


class Evolution(NamedTuple):
    """Subnets of a generation, generations, parents, and how children are made."""

    population: int = 30
    generations: int = 10
    parents: int = 8
    mutations: int = 15
    crossovers: int = 15
    probability: float = 0.1


def check_evolution(how: Evolution) -> None:
    """Raise ValueError, naming the field, for a search that cannot run.

    >>> check_evolution(Evolution())
    """
    for name in ("population", "parents"):
        if getattr(how, name) < 1:
            raise ValueError(f"{name} must be at least 1, got {getattr(how, name)}")
    if not 0 <= how.probability <= 1:
        raise ValueError(f"probability must be in [0, 1], got {how.probability}")


def enumerate_space(
    space: Space, accuracy: Accuracy, cost: CostOf, *, most: int = MOST
) -> list[Point]:
    """Return every subnet; ValueError for a space of more than ``most``."""
    if count(space) > most:
        raise ValueError(f"the space has {count(space)} subnets, more than {most}")
    return [Point(g, accuracy(g), cost(g)) for g in every(space)]


def cheapest(space: Space, cost: CostOf) -> Genotype:
    """Return the subnet of least cost: the cheapest form of every stage by itself."""
    held, stages = smallest(space), []
    for s in range(len(held)):
        options = [(*held[:s], stage, *held[s + 1 :]) for stage in stages_of(space)]
        stages.append(min(options, key=cost)[s])
    return tuple(stages)


def evolve(
    space: Space,
    accuracy: Accuracy,
    cost: CostOf,
    *,
    budget: float,
    how: Evolution = Evolution(),  # noqa: B008 - a constant
    points: dict[Genotype, Point] | None = None,
    rng: np.random.Generator,
) -> list[Point]:
    """Return the last generation, the best first; none costs more than ``budget``.

    ``points`` are those evaluated before, by genotype; those of this evolution join.

    Raises ValueError, with the floor, for a budget below the cheapest subnet.
    """
    check_evolution(how)
    floor = cheapest(space, cost)
    if not cost(floor) <= budget:
        raise ValueError(
            f"budget {budget:.12g} is below the floor: the cheapest subnet costs "
            f"{cost(floor):.12g}"
        )
    seen = {} if points is None else points

    def within(make: Callable[[], Genotype]) -> Genotype:
        return affordable(make, floor, cost, budget, rng)

    def generation(genotypes: Iterable[Genotype]) -> list[Point]:
        unique = dict.fromkeys(genotypes)
        for g in unique:
            if g not in seen:
                seen[g] = Point(g, accuracy(g), cost(g))
        return rank(seen[g] for g in unique)

    people = generation(within(lambda: draw(space, rng)) for _ in range(how.population))
    for _ in range(how.generations):
        parents = [point.genotype for point in people[: how.parents]]
        people = generation([*parents, *children(parents, space, how, within, rng)])
    return people


def children(
    parents: list[Genotype],
    space: Space,
    how: Evolution,
    within: Callable[[Callable[[], Genotype]], Genotype],
    rng: np.random.Generator,
) -> list[Genotype]:
    """Return mutations and crossovers of the parents, drawn anew until they fit."""

    def parent() -> Genotype:
        return parents[rng.integers(len(parents))]

    mutants = [
        within(lambda: mutate(parent(), space, how.probability, rng))
        for _ in range(how.mutations)
    ]
    return mutants + [
        within(lambda: cross(parent(), parent(), rng)) for _ in range(how.crossovers)
    ]


def rank(points: Iterable[Point]) -> list[Point]:
    """Return the points by accuracy, the cheaper of equals first."""
    return sorted(points, key=lambda p: (-p.accuracy, p.cost, p.genotype))


def affordable(
    make: Callable[[], Genotype],
    floor: Genotype,
    cost: CostOf,
    budget: float,
    rng: np.random.Generator,
) -> Genotype:
    """Draw a genotype by ``make`` whose cost is at most ``budget``.

    After ``TRIES`` more draws that cost too much, stages of the last one are replaced
    by those of ``floor``, in random order, until its cost is low enough.
    """
    genotype = make()
    for _ in range(TRIES):
        if cost(genotype) <= budget:
            return genotype
        genotype = make()
    for s in rng.permutation(len(floor)):
        if cost(genotype) <= budget:
            return genotype
        genotype = (*genotype[:s], floor[s], *genotype[s + 1 :])
    return genotype


def mutate(
    genotype: Genotype, space: Space, probability: float, rng: np.random.Generator
) -> Genotype:
    """Draw every depth, width and kernel anew with a probability; new blocks too."""

    def changed() -> bool:
        return bool(rng.random() < probability)

    stages = []
    for stage in genotype:
        depth = len(stage)
        if changed():
            depth = space.depths[rng.integers(len(space.depths))]
        new = [draw_gene(space, rng) for _ in range(depth)]
        old = [*stage[:depth], *new[len(stage) :]]
        stages.append(
            tuple(
                Gene(
                    n.width if changed() else o.width,
                    n.kernel if changed() else o.kernel,
                )
                for o, n in zip(old, new, strict=True)
            )
        )
    return tuple(stages)


def cross(a: Genotype, b: Genotype, rng: np.random.Generator) -> Genotype:
    """Take every depth, width and kernel from either parent that has it."""
    stages = []
    for pair in zip(a, b, strict=True):
        depth = len(pair[rng.integers(2)])
        genes = []
        for j in range(depth):
            having = [stage[j] for stage in pair if j < len(stage)]
            width = having[rng.integers(len(having))].width
            genes.append(Gene(width, having[rng.integers(len(having))].kernel))
        stages.append(tuple(genes))
    return tuple(stages)


def front(points: Iterable[Point]) -> list[Point]:
    """Return the points that no other beats, by cost; equal points all stay.

    One beats another if it is at least as accurate and at most as dear, and not equal.

    >>> at = [Point((), 0.5, 2.0), Point((), 0.4, 3.0), Point((), 0.7, 4.0)]
    >>> [(p.accuracy, p.cost) for p in front(at)]
    [(0.5, 2.0), (0.7, 4.0)]
    """
    kept: list[Point] = []
    for point in sorted(points, key=lambda p: (p.cost, -p.accuracy, p.genotype)):
        better = not kept or point.accuracy > kept[-1].accuracy
        if better or point[1:] == kept[-1][1:]:
            kept.append(point)
    return kept


def hypervolume(
    points: Iterable[Point], *, cost_max: float, accuracy_min: float = 0.0
) -> float:
    """Integrate the area between the front and (cost_max, accuracy_min), costs as logs.

    A point outside these bounds adds nothing. Raises ValueError unless all costs, and
    the bound on them, are positive.

    >>> at = [Point((), 0.5, 1.0), Point((), 1.0, math.e)]
    >>> round(hypervolume(at, cost_max=math.e**3), 12)  # 0.5 x 1 + 1 x 2
    2.5
    """
    inside = [p for p in points if p.cost < cost_max and p.accuracy > accuracy_min]
    least = min([cost_max, *(p.cost for p in inside)])
    if not least > 0:
        raise ValueError(f"costs must be positive, their logarithms count: {least}")
    kept = front(inside)
    ends = [math.log(p.cost) for p in kept[1:]] + [math.log(cost_max)]
    return sum(
        (end - math.log(p.cost)) * (p.accuracy - accuracy_min)
        for p, end in zip(kept, ends, strict=False)
    )
