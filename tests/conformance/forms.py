"""Two laws of the families of codes: forms are named, and are those of plain loops."""

import numpy as np
from conformance import independent

from refqnn.conformance import identify
from refqnn.conformance.choices.families import FAMILIES
from refqnn.conformance.choices.family import key


def variant(name, choices):
    """The function of a family with these answers; arguments by position."""
    family = FAMILIES[name]
    return lambda *given: family.evaluate(
        choices, **dict(zip(family.arguments, given, strict=True))
    )["y"]


def assert_named(name, variants, inputs):
    """Each of the variants is named, no other function is left, after few inputs."""
    family = FAMILIES[name]
    for choices in variants:
        answer = identify(variant(name, choices), name, confirm=False, in_process=True)
        named = {key(family.canonical(v)) for v in answer.alive}
        assert named == {key(family.canonical(choices))}, answer
        assert answer.inputs <= inputs, answer


def assert_loops(name, variants):
    """Each of the variants is the loop of independent.py, on drawn calls, on others."""
    family, loop = FAMILIES[name], getattr(independent, name)
    drawn = [family.wide(np.random.default_rng(seed), 24) for seed in range(16)]
    for call in [*drawn, *family.candidates()]:
        for choices in variants:
            got = family.evaluate(choices, **call)["y"]
            want = loop(choices, *call.values())
            np.testing.assert_array_equal(got, want, err_msg=str((choices, call)))
