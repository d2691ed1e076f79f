"""sigmoid, tanh, hard_swish, leaky_relu: constructions are named, others are not."""

import numpy as np
import pytest
from conformance.forms import assert_loops, assert_named, variant

from refqnn import integer
from refqnn.conformance import identify
from refqnn.conformance.choices.families import FAMILIES
from refqnn.conformance.choices.families.tables import ANSWERS
from refqnn.conformance.choices.family import stack


def sampled(name, rng, count):
    """Every answer of the first axis, and variants of any answers."""
    family = FAMILIES[name]
    every = family.variants()
    own = [family.default | {"activation": how} for how in ANSWERS[name]]
    return [*own, *(every[i] for i in rng.choice(len(every), count, replace=False))]


@pytest.mark.parametrize("name", ANSWERS)
def test_constructions_are_named(name, rng):
    assert_named(name, sampled(name, rng, 12), inputs=24)


@pytest.mark.parametrize("name", ANSWERS)
def test_the_default_is_a_table_of_refqnn(name):
    def table(x, *given):
        *alpha, sx, zx, s, z, q_min, q_max = given
        options = {"alpha": alpha[0]} if alpha else {}
        grids = {"x_scale": sx, "x_zero_point": zx, "scale": s, "zero_point": z}
        grids |= {"q_min": q_min, "q_max": q_max, "dtype": x.dtype}
        return integer.lookup(x, integer.activation_table(name, **grids, **options))

    answer = identify(table, name, in_process=True)
    assert answer.certain.items() <= FAMILIES[name].default.items()
    assert answer.explained
    assert answer.unseen == ()


@pytest.mark.parametrize("name", ANSWERS)
def test_every_construction_is_that_of_an_independent_loop(name, rng):
    variants, family = sampled(name, rng, 8), FAMILIES[name]
    assert_loops(name, variants)
    together = stack(family.candidates())
    for choices in variants:
        alone = [family.evaluate(choices, **call)["y"] for call in family.candidates()]
        every = family.evaluate(choices, **together)["y"]
        np.testing.assert_array_equal(every, alone)


def test_a_sigmoid_whose_codes_are_read_without_sign_is_none_of_them():
    def unsigned(x, *given):
        x = np.asarray(x)
        return variant("sigmoid", FAMILIES["sigmoid"].default)(x & 255, *given)

    assert not identify(unsigned, "sigmoid", in_process=True).explained


@pytest.mark.parametrize(
    ("how", "q"), [("rounded", 52), ("float32", 52), ("fixed_point", 51)]
)
def test_products_of_16_bits_fall_short_of_a_tie(how, q):
    """v = 103 / 32 is above 3, and 16 v = 51.5."""
    grids = {"x_scale": 2.0**-5, "x_zero_point": 0, "scale": 2.0**-4}
    grids |= {"zero_point": 0, "q_min": -128, "q_max": 127}
    choices = FAMILIES["hard_swish"].default | {"activation": how}
    y = FAMILIES["hard_swish"].evaluate(choices, np.int8(103), **grids)["y"]
    assert y == q
