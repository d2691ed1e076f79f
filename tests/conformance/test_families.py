"""Every family: answers are told apart by its candidates, or proven to be the same."""

from fractions import Fraction

import numpy as np
import pytest

from refqnn.conformance.choices import axes
from refqnn.conformance.choices.families import FAMILIES
from refqnn.conformance.choices.families.requantize import SHIFTS_WITH_INTEGERS
from refqnn.conformance.choices.family import key
from refqnn.conformance.choices.reveal import revealing
from refqnn.conformance.choices.variants import table
from refqnn.integer.rounding import divide, shift_right

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


@pytest.mark.parametrize("rounding", SHIFTS_WITH_INTEGERS)
def test_these_roundings_of_means_commute_with_integers_on_every_sum(rounding):
    """Average pools: z + round(sum (x - z) / n) = round(sum x / n)."""
    for n in range(1, 17):
        sums = np.arange(-200 * n, 200 * n)[:, None]
        z = np.arange(-9, 10)
        inside = divide(sums, np.full_like(sums, n), rounding=rounding)
        centred = divide(sums - n * z, np.full((1, 1), n), rounding=rounding)
        np.testing.assert_array_equal(z + centred, inside + 0 * z)


@pytest.mark.parametrize("rounding", ["half_up", "half_down"])
def test_a_float64_quotient_is_never_pushed_over_a_tie_by_a_zero_point(rounding, rng):
    """Every float32 beside every tie of a grid: the only ones that could be.

    All others are further from a tie than these, and a zero-point of 8 bits moves a
    quotient by less than 2^-44.
    """
    choices = FAMILIES["quantize"].default | {
        "precision": "float64",
        "rounding": rounding,
    }
    scales = np.exp(rng.uniform(-12, 12, 200)).astype(np.float32)
    halves = np.arange(-259, 260, 2).astype(np.float64) / 2
    for scale in scales:
        x = (halves * np.float64(scale)).astype(np.float32)
        x = np.concatenate(
            [
                np.nextafter(x, np.float32(np.inf)),
                x,
                np.nextafter(x, -np.float32(np.inf)),
            ]
        )
        for z in (-128, -3, 1, 127):
            call = {
                "x": x,
                "scale": scale,
                "zero_point": z,
                "q_min": -128,
                "q_max": 127,
            }
            before, after = (
                FAMILIES["quantize"].evaluate(choices | {"zero_point_when": w}, **call)
                for w in ("before_rounding", "after_rounding")
            )
            np.testing.assert_array_equal(before["y"], after["y"])


def test_products_with_15_bits_are_exact_in_float64(rng):
    """acc 2^16 k: 31 and 15 bits; with a zero-point of 8 bits above 2^(e - 15)."""
    assert max(31 + 15, 8 + 15 + 20) <= np.finfo(np.float64).nmant
    acc = rng.integers(-(2**31), 2**31, 2000)
    multiplier = rng.integers(2**14, 2**15, 2000) << 16
    for shift in (-20, -9, 0, 5):
        real = np.ldexp(multiplier.astype(np.float64), shift - 31)
        for a, m, t in zip(acc, multiplier, acc * real + 127.0, strict=True):
            exact = Fraction(int(a) * int(m)) * Fraction(2) ** (shift - 31) + 127
            assert Fraction(float(t)) == exact


def test_the_other_roundings_do_not():
    for rounding in ("half_even", "half_away", "trunc"):
        n = np.array([-1, 1, 3])
        inside = shift_right(n + 2, 1, rounding=rounding)
        assert np.any(inside != shift_right(n, 1, rounding=rounding) + 1)


@pytest.mark.parametrize("name", NAMES)
def test_the_default_is_refqnn(name):
    family = FAMILIES[name]
    assert family.variants()[0] == family.default


@pytest.mark.parametrize(("n", "batch"), [(1, 3), (12, 3), (15, 3), (16, 4), (43, 10)])
def test_a_drawn_training_step_has_a_quarter_of_its_numbers_as_images(n, batch, rng):
    call = FAMILIES["training_step"].draw(rng, n)
    assert call["x"].shape == (batch, 4)
    assert call["labels"].shape == (batch,)


@pytest.mark.parametrize("name", NAMES)
def test_inputs_are_not_mutated(name, rng):
    family = FAMILIES[name]
    inputs = family.draw(rng, 50)
    before = {k: np.array(v) for k, v in inputs.items()}
    for variant in family.variants()[:20]:
        family.evaluate(variant, **inputs)
    for k, v in inputs.items():
        np.testing.assert_array_equal(v, before[k])


@pytest.mark.parametrize("name", [n for n in NAMES if FAMILIES[n].exact])
def test_real_numbers_before_the_rounding_lie_within_a_half_of_the_codes(name, rng):
    family = FAMILIES[name]
    call = family.draw(rng, 50)
    y = family.evaluate(family.default, **call)[family.outputs[0]]
    exact = family.exact(**call)
    assert np.broadcast_shapes(np.shape(exact), np.shape(y)) == y.shape
    if name != "fake_quantize":  # steps of a scale, where y is a real number
        z = 0 if name == "avg_pool2d" else call.get("zero_point", 0)
        t = np.clip(exact + z, call.get("q_min", -np.inf), call.get("q_max", np.inf))
        assert np.all(np.abs(t - y)[np.isfinite(exact)] < 0.501)


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
