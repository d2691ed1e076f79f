"""Hypothesis strategies of what quantized networks are made of.

Each shrinks to the simplest of its kind: zeros, one filter, few bits. Hypothesis is
imported when a strategy is made (``pip install refqnn[test]``).
"""

from typing import Any

import numpy as np

from refqnn._types import Float
from refqnn.networks import METHODS, resnet
from refqnn.testing.subjects import subject


def hypothesis() -> tuple[Any, Any]:
    """Import its strategies and those of arrays."""
    from hypothesis import strategies  # noqa: PLC0415 - an extra
    from hypothesis.extra import numpy as arrays  # noqa: PLC0415 - an extra

    return strategies, arrays


def shapes(*, rank: int = 2, longest: int = 6) -> Any:
    """Draw shapes of 1 to 3 filters with sides up to ``longest``."""
    st, _ = hypothesis()
    sides = [st.integers(1, longest) for _ in range(rank - 1)]
    return st.tuples(st.integers(1, 3), *sides)


def dyadic(*, shape: Any = None, denominator: int = 16, largest: int = 4) -> Any:
    """Draw float32 arrays of multiples of 1 / denominator: ties, zeros, repeats."""
    st, hnp = hypothesis()
    top = largest * denominator
    elements = st.integers(-top, top).map(lambda i: i / denominator)
    where = shapes() if shape is None else shape
    return hnp.arrays(np.float32, where, elements=elements)


def weights(*, shape: Any = None, dtype: Any = np.float64) -> Any:
    """Draw filters (O, ...): small numbers of both signs, some of them on ties."""
    st, hnp = hypothesis()
    wide = st.floats(-3, 3, width=32, allow_subnormal=False)
    elements = wide | st.integers(-12, 12).map(lambda i: i / 4)
    where = shapes() if shape is None else shape
    return hnp.arrays(dtype, where, elements=elements)


def activations(*, shape: Any = None, dtype: Any = np.float64) -> Any:
    """Draw outputs of a ReLU: numbers of at least 0, many of them 0."""
    return weights(shape=shape, dtype=dtype).map(lambda x: np.maximum(x, 0))


def dy(y: Float | tuple[int, ...]) -> Any:
    """Draw a gradient of the form of ``y``, or a shape: signed, no two entries equal.

    A backward that loses a sign, sums where it should not or forgets dy gives itself
    away on such a gradient.
    """
    st, _ = hypothesis()
    like = np.zeros(y) if isinstance(y, tuple) else y

    def spread(seed: int) -> Float:
        rng = np.random.default_rng(seed)
        size = np.arange(1, like.size + 1) + rng.uniform(0, 0.5, like.size)
        sign = np.where(np.arange(like.size) % 2, 1, -1)
        return rng.permutation(sign * size).reshape(like.shape).astype(like.dtype)

    return st.integers(0, 2**16).map(spread)


def bits(least: int = 1, most: int = 8) -> Any:
    """Draw numbers of bits."""
    st, _ = hypothesis()
    return st.integers(least, most)


def steps() -> Any:
    """Draw positive step sizes: exact powers of two, and others."""
    st, _ = hypothesis()
    powers = st.integers(-6, 2).map(lambda k: 2.0**k)
    return powers | st.floats(1 / 64, 4, width=32)


def codebooks(levels: int = 4) -> Any:
    """Draw ``levels`` distinct levels, ascending. (levels,)"""
    st, _ = hypothesis()
    whole = st.integers(-64, 64)
    lists = st.lists(whole, min_size=levels, max_size=levels, unique=True)
    return lists.map(lambda values: np.sort(np.array(values)) / 16)


def ties(
    quantizer: Any, *, parameters: Any = (), options: Any = None, shape: Any = None
) -> Any:
    """Draw arrays of numbers halfway between two levels of a quantizer, and beside.

    Raises ValueError for a quantizer whose levels depend on its input.
    """
    st, hnp = hypothesis()
    judged = subject(quantizer, tuple(parameters), dict(options or {}))
    judged.look()
    if judged.levels is None or judged.levels.size < 2:
        raise ValueError(
            f"{judged.name} has no levels of its own: draw boundaries of v"
        )
    middle = (judged.levels[1:] + judged.levels[:-1]) / 2
    return beside(middle, shapes() if shape is None else shape, (st, hnp))


def boundaries(module: Any, v: Float, *, shape: Any = None) -> Any:
    """Draw arrays of a module's decision boundaries for ``v``, and beside."""
    st, hnp = hypothesis()
    where = np.ravel(module.decision_boundaries(v))
    return beside(where, shapes() if shape is None else shape, (st, hnp))


def beside(values: Float, shape: Any, tools: tuple[Any, Any]) -> Any:
    """Draw arrays of the values and of their neighbours in floating point."""
    st, hnp = tools
    at = values.astype(np.float32)
    every = [
        at,
        np.nextafter(at, np.float32(-np.inf)),
        np.nextafter(at, np.float32(9e9)),
    ]
    elements = st.sampled_from(np.concatenate(every).tolist())
    return hnp.arrays(np.float32, shape, elements=elements)


def networks(*, methods: Any = None, **options: Any) -> Any:
    """Draw ResNets of 8 layers with 2, 4 and 8 channels, float64, of any method.

    ``methods`` are names or ``Method`` objects; by default every one that is defined
    for more than one number of bits.
    """
    st, _ = hypothesis()
    several = [name for name in METHODS if name not in ONE_NUMBER_OF_BITS]

    def make(method: Any, number: int, seed: int) -> Any:
        settings: dict[str, Any] = {
            "width": 0.13,
            "classes": 3,
            "dtype": "float64",
        } | options
        few = {"weight_bits": number, "activation_bits": number}
        rng = np.random.default_rng(seed)
        return resnet(8, method=method, rng=rng, **(few | settings))

    chosen = several if methods is None else methods
    return st.builds(make, st.sampled_from(chosen), bits(2, 4), st.integers(0, 99))


#: methods whose weights have a number of bits of their own
ONE_NUMBER_OF_BITS = frozenset({"tsq", "syq", "twn", "ttq", "xnor"})

__all__ = [
    "activations",
    "bits",
    "boundaries",
    "codebooks",
    "dy",
    "dyadic",
    "networks",
    "shapes",
    "steps",
    "ties",
    "weights",
]
