"""Every family: answers are told apart by its candidates, or proven to be the same."""

import numpy as np
import pytest

from refqnn.conformance import axes
from refqnn.conformance.diagnosis import key
from refqnn.conformance.families import FAMILIES
from refqnn.conformance.families.requantize import SHIFTS_WITH_INTEGERS
from refqnn.conformance.reveal import revealing
from refqnn.conformance.tables import table
from refqnn.integer.rounding import shift_right

NAMES = list(FAMILIES)
PROVEN = [
    n
    for n in NAMES
    if any(key(FAMILIES[n].canonical(v)) != key(v) for v in FAMILIES[n].variants())
]


@pytest.mark.parametrize("name", NAMES)
def test_variants_are_separated_or_proven_equal(name):
    known = table(name)
    groups = known.classes(range(len(known.variants)))
    canonical = known.family.canonical
    for group in groups:
        proven = {key(canonical(known.variants[v])) for v in group}
        assert len(proven) == 1, [known.variants[v] for v in group]
    assert len(groups) == len({key(canonical(v)) for v in known.variants})


@pytest.mark.parametrize("name", PROVEN)
def test_what_is_proven_equal_is_equal_on_random_inputs(name, rng):
    family = FAMILIES[name]
    moved = [v for v in family.variants() if key(family.canonical(v)) != key(v)]
    for i in rng.choice(len(moved), min(len(moved), 40), replace=False):
        inputs = family.draw(rng, 400)
        one = family.evaluate(moved[i], **inputs)
        other = family.evaluate(family.canonical(moved[i]), **inputs)
        for output in family.outputs:
            np.testing.assert_array_equal(
                family.agree(one[output], other[output]), True, err_msg=str(moved[i])
            )


@pytest.mark.parametrize("name", PROVEN)
def test_representatives_represent_themselves(name):
    family = FAMILIES[name]
    for variant in family.variants():
        chosen = family.canonical(variant)
        assert key(family.canonical(chosen)) == key(chosen)


@pytest.mark.parametrize("rounding", SHIFTS_WITH_INTEGERS)
def test_these_roundings_commute_with_integers_on_every_quotient(rounding):
    n = np.arange(-4096, 4096)[:, None]
    z = np.arange(-20, 21)
    for shift in (1, 3, 6):
        inside = shift_right(n + (z << shift), shift, rounding=rounding)
        np.testing.assert_array_equal(
            inside, shift_right(n, shift, rounding=rounding) + z
        )


def test_the_other_roundings_do_not():
    for rounding in ("half_even", "half_away", "trunc"):
        n = np.array([-1, 1, 3])
        inside = shift_right(n + 2, 1, rounding=rounding)
        assert np.any(inside != shift_right(n, 1, rounding=rounding) + 1)


@pytest.mark.parametrize("name", NAMES)
def test_the_default_is_refqnn(name):
    family = FAMILIES[name]
    assert family.variants()[0] == family.default


@pytest.mark.parametrize("name", NAMES)
def test_inputs_are_not_mutated(name, rng):
    family = FAMILIES[name]
    inputs = family.draw(rng, 50)
    before = {k: np.array(v) for k, v in inputs.items()}
    for variant in family.variants()[:20]:
        family.evaluate(variant, **inputs)
    for k, v in inputs.items():
        np.testing.assert_array_equal(v, before[k])


@pytest.mark.parametrize("name", NAMES)
def test_one_argument_is_elementwise_if_one_is_named(name, rng):
    family = FAMILIES[name]
    inputs = family.draw(rng, 50)
    if family.elementwise:
        assert np.shape(inputs[family.elementwise])
        y = family.evaluate(family.default, **inputs)[family.outputs[0]]
        assert np.shape(y) == np.shape(inputs[family.elementwise])


@pytest.mark.parametrize("name", ["quantize", "requantize", "avg_pool2d", "gate"])
def test_every_answer_is_revealed_by_few_inputs(name):
    known = table(name)
    for axis, values in known.family.axes.items():
        for value in values:
            chosen = revealing(name, axis, value)
            mine = known.family.default | {axis: value}
            for other in values:
                sibling = mine | {axis: other}
                same = key(known.family.canonical(mine)) == key(
                    known.family.canonical(sibling)
                )
                rows = [known.variants.index(v) for v in (mine, sibling)]
                differ = known.labels[rows[0], chosen] != known.labels[rows[1], chosen]
                assert differ.any() != same


def test_every_axis_is_asked_by_some_family():
    asked = {axis for family in FAMILIES.values() for axis in family.axes}
    assert asked == set(axes.AXES)


@pytest.mark.parametrize("name", NAMES)
def test_equations_mention_every_axis(name):
    text = " ".join(FAMILIES[name].equations)
    unsaid = {"nan", "threshold"} | {"precision"}
    for axis in FAMILIES[name].axes:
        assert f"{{{axis}}}" in text or axis in unsaid, axis
