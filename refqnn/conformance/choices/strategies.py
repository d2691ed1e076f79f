"""Hypothesis strategies for the inputs of every family, for your tests and ours.

    @given(strategies.inputs("requantize"))
    def test_my_kernel(call):
        assert_array_equal(mine(*call.values()), want("requantize", call))

Hypothesis is imported when a strategy is made, never by importing this module.
"""

from typing import Any

import numpy as np

from refqnn._types import Array
from refqnn.conformance.choices.families import FAMILIES, Inputs, family_of
from refqnn.conformance.choices.semantics import Semantics


def families() -> Any:
    """Return a strategy of names of families."""
    from hypothesis import strategies as st  # noqa: PLC0415

    return st.sampled_from(list(FAMILIES))


def inputs(family: str, *, most: int = 64) -> Any:
    """Return a strategy of calls: candidate inputs, and random ones of up to ``most``.

    Shrinks to the first candidate: the smallest input.
    """
    from hypothesis import strategies as st  # noqa: PLC0415

    known = family_of(family)
    candidates = known.candidates()

    def drawn(args: tuple[int, int]) -> Inputs:
        seed, n = args
        return known.draw(np.random.default_rng(seed), n)

    random = st.tuples(st.integers(0, 2**32 - 1), st.integers(1, most)).map(drawn)
    return st.one_of(
        st.integers(0, len(candidates) - 1).map(candidates.__getitem__), random
    )


def semantics(family: str) -> Any:
    """Return a strategy of semantics, the answers of one family drawn."""
    from hypothesis import strategies as st  # noqa: PLC0415

    axes = family_of(family).axes
    answers = {axis: st.sampled_from(values) for axis, values in axes.items()}
    return st.fixed_dictionaries(answers).map(lambda a: Semantics(**a))


def want(
    family: str, call: Inputs, declared: Semantics | None = None
) -> Array | tuple[Array, ...]:
    """Evaluate the reference for a call: one array, or several in the family's order.

    >>> call = dict(x=np.float32([0.5]), scale=1, zero_point=0, q_min=0, q_max=9)
    >>> want("quantize", call)
    array([0])
    """
    known = family_of(family)
    chosen = known.choices(Semantics() if declared is None else declared)
    outputs = tuple(known.evaluate(chosen, **call).values())
    return outputs[0] if len(outputs) == 1 else outputs
