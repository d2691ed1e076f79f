"""What a row of the table of quantizers is made of, and what rows are drawn from."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from refqnn import quantizers as qz
from refqnn.testing.laws import LAWS
from refqnn.testing.pairs import Pair

LEVELS = {
    "2": lambda b: 2,  # noqa: ARG005 - every label answers one signature
    "3": lambda b: 3,  # noqa: ARG005 - every label answers one signature
    "2^b": lambda b: 2**b,
    "2^b - 1": lambda b: 2**b - 1,
    "M + 1": lambda m: m + 1,
    "N": lambda n: n,
}


@dataclass(frozen=True)
class Verdict:
    """y holds, n fails, c holds on inputs where ``when`` does, - not asked."""

    mark: str
    counterexample: Any = None
    when: Callable[[Any], bool] = lambda v: True  # noqa: ARG005 - holds everywhere


def only(when, *counterexample):
    return Verdict("c", np.array(counterexample, np.float32), when)


def nowhere_zero(v):
    return bool(np.all(v != 0))


def filters(v):
    """Each filter is a group: levels, order and projection are judged within it."""
    return list(v)


def layer(v):
    """All of v is one group."""
    return [v.reshape(-1)]


def spread():
    """From -1 024 to 1 024, densest around 0: reaches every level of a grid."""
    return np.linspace(-4, 4, 20001)[None] ** 5


@dataclass(frozen=True)
class Row:
    """One quantizer with its options; held parameters do not depend on the input."""

    name: str
    #: paper, equation, file
    source: tuple[str, str, str]
    #: a label of LEVELS, and the number it is about: bits, bases or levels
    levels: tuple[str, int]
    laws: dict[str, Verdict]
    #: (v, k=1) -> y; k multiplies the held parameters
    apply: Callable[..., Any]
    #: a module that is ready to evaluate and does what ``apply`` does
    module: Callable[[], Any]
    #: (v, x) -> numbers that increase with the code of x, by the statistics of v
    codes: Callable[[Any, Any], Any]
    groups: Callable[[Any], list[Any]] = filters
    #: has quantize() and grid(): y == scale * (q - zero_point)
    uniform: bool = True
    #: an input on which every level occurs
    spread: Callable[[], Any] = spread
    #: the fewest values it is defined on; on less it raises, on none it is empty
    fewest: int = 1

    def __str__(self) -> str:
        return self.name

    @property
    def most_levels(self):
        label, number = self.levels
        return LEVELS[label](number)

    def codebooks(self, v):
        """The levels of every group, ascending."""
        levels = self.module().encode(v)[1]
        return np.sort(levels.reshape(len(self.groups(v)), -1), axis=1)

    def takes(self, v) -> bool:
        return v.size == 0 or v.size >= self.fewest


def laws(marks, *examples):
    """Verdicts by law from the marks of a row of the README, in the order of LAWS.

    Every n takes the next of ``examples`` for its counterexample, every c the next
    ``only(...)``.

    >>> laws("yy---yyyyn", [0.5])["ZERO"].counterexample
    array([0.5], dtype=float32)
    """
    following = iter(examples)

    def verdict(mark):
        if mark in "y-":
            return Verdict(mark)
        example = next(following)
        return example if mark == "c" else Verdict(mark, np.array(example, np.float32))

    verdicts = {law: verdict(mark) for law, mark in zip(LAWS, marks, strict=True)}
    if rest := list(following):
        raise ValueError(
            f"examples must be as many as n and c in {marks}, left: {rest}"
        )
    return verdicts


@dataclass
class OfInput:
    """A module that sets what it holds from the very input it is shown."""

    make: Callable[[], Any]
    #: (module, v): set what the module holds
    hold: Callable[[Any, Any], Any]

    def __post_init__(self):
        self.shown = self.make()

    def of(self, v):
        self.shown = self.make()
        self.hold(self.shown, v)
        return self.shown

    def forward(self, v, run, *, bits=None):
        return self.of(v).forward(v, run, bits=bits)

    def quantize(self, v):
        return self.of(v).quantize(v)

    def grid(self):
        return self.shown.grid()

    def encode(self, v):
        return self.of(v).encode(v)

    def decision_boundaries(self, v):
        return self.of(v).decision_boundaries(v)


def pair(name, draw, *, learned=1, wrong=()):
    """The quantizer that ``name`` begins with, and its backward.

    The first ``learned`` arguments get gradients.
    """
    op = re.match(r"\w+", name)[0]
    return Pair(
        name,
        getattr(qz, op),
        getattr(qz, f"{op}_backward"),
        draw,
        wrt=tuple(range(learned)),
        batch=(),
        wrong=wrong,
        straight_through=True,
    )


def weights(rng):
    """Filters of some shape, with ties and zeros at times."""
    shapes = [(3, 5), (2, 2, 3, 3), (1, 1), (2, 40), (4,)]
    w = rng.normal(size=shapes[rng.integers(len(shapes))])
    return w if rng.random() < 0.7 else np.round(w * 4) / 4
