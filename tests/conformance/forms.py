"""Laws of every family of codes: ``identify`` names a form, and a loop equals it."""

import numpy as np
from conformance import independent

from refqnn.conformance import identify
from refqnn.conformance.choices.families import FAMILIES
from refqnn.conformance.choices.family import key


def variant(name, choices):
    """Return the function of a family with these answers; arguments by position."""
    family = FAMILIES[name]
    return lambda *given: family.evaluate(
        choices, **dict(zip(family.arguments, given, strict=True))
    )["y"]


def assert_named(name, variants, inputs):
    """Assert that ``identify`` names each variant, and no other, after few inputs."""
    family = FAMILIES[name]
    for choices in variants:
        answer = identify(variant(name, choices), name, confirm=False, in_process=True)
        named = {key(family.canonical(v)) for v in answer.alive}
        assert named == {key(family.canonical(choices))}, answer
        assert answer.inputs <= inputs, answer


def assert_loops(name, variants):
    """Assert that each variant equals the loop of independent.py on many calls."""
    family, loop = FAMILIES[name], getattr(independent, name)
    drawn = [family.wide(np.random.default_rng(seed), 24) for seed in range(16)]
    for call in [*drawn, *family.candidates()]:
        for choices in variants:
            got = family.evaluate(choices, **call)["y"]
            want = loop(choices, *call.values())
            np.testing.assert_array_equal(got, want, err_msg=str((choices, call)))
