"""Mechanical mistakes are seen on the calls that cover the regions, or proven none."""

import numpy as np
import pytest

from refqnn.conformance import identify
from refqnn.conformance.choices import changes, mutants
from refqnn.conformance.choices.equivalents import EQUIVALENT, why_equivalent
from refqnn.conformance.choices.families import FAMILIES
from refqnn.conformance.choices.mutants import (
    answers,
    mistakes,
    mutants_of,
    reference,
    unseen_mutants,
)
from refqnn.conformance.choices.regions import covering, pool, regions_of

NAMES = list(FAMILIES)


@pytest.mark.once
@pytest.mark.parametrize("name", NAMES)
def test_every_mutant_is_seen_or_proven_equivalent(name, record_property):
    """The score of the kit: mutants of a family, and those it cannot see."""
    unseen = unseen_mutants(name, covering(name))
    record_property("mutants", len(mistakes(name)))
    assert len(mistakes(name)) >= 40
    assert [m for m in unseen if not why_equivalent(name, m)] == []


@pytest.mark.once
@pytest.mark.parametrize("name", NAMES)
def test_what_is_proven_equivalent_is_equal_on_other_calls(name):
    family = FAMILIES[name]
    proven = [m for m in mistakes(name) if why_equivalent(name, m.name)]
    for call in pool(name, 60, start=2):
        right = reference(family, call)
        for mutant in proven:
            got = answers(family, mutant, call, right)
            assert family.same(got, right), (mutant.name, call)


@pytest.mark.once
def test_every_reason_is_needed():
    for families, names, reason in EQUIVALENT:
        assert any(
            why_equivalent(name, mutant.name) == reason
            for name in NAMES
            for mutant in mistakes(name)
        ), (families, names)


@pytest.mark.parametrize(
    ("name", "region", "mutant"),
    [
        ("fake_quantize", "dy: negative", "dy: absolute, for dx"),
        ("quantize", "range: odd", "wrong only in range: odd"),
        ("conv2d", "dilation: h unlike w", "dilation: h and w exchanged"),
        ("linear", "sum: beyond 32 bits", "y wrapped at 32 bits"),
        ("lsq", "x: above 1", "dx 0 where x > 1"),
    ],
)
def test_calls_that_leave_a_region_out_do_not_see_its_mutants(name, region, mutant):
    """A planted gap turns the score red."""
    inside = regions_of(name)[region]
    blind = [call for call in covering(name) if not inside(call)]
    assert blind
    assert mutant in unseen_mutants(name, blind)
    assert mutant not in unseen_mutants(name, covering(name))


def sampled(name, count):
    """A few mutants of a family, others for each."""
    rng = np.random.default_rng([20_261_130, NAMES.index(name)])
    every = [m for m in mutants_of(name) if not why_equivalent(name, m[0])]
    return [every[i] for i in rng.choice(len(every), count, replace=False)]


@pytest.mark.once
@pytest.mark.parametrize("name", NAMES)
def test_identify_is_not_certain_of_a_mutant(name):
    for mutant, function in sampled(name, 2):
        assert_no_false_certainty(name, mutant, function)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_identify_is_certain_of_no_mutant(name):
    for mutant, function in mutants_of(name):
        if not why_equivalent(name, mutant):
            assert_no_false_certainty(name, mutant, function)


def assert_no_false_certainty(name, mutant, function):
    """None of the variants, or a variant that is the mutant on every other call."""
    found = identify(function, name, in_process=True)
    if found.explained:
        family, chosen = FAMILIES[name], found.alive[0]
        assert family.canonical(chosen) != family.default, mutant
        for call in pool(name, 20, start=3):
            assert_is_variant(family, chosen, function, call)


def assert_is_variant(family, chosen, function, call):
    try:
        outputs = function(*call.values())
    except ValueError:
        return
    several = outputs if isinstance(outputs, tuple) else (outputs,)
    got = dict(zip(family.outputs, several, strict=True))
    assert family.same(got, family.evaluate(chosen, **call))


def test_a_mutant_takes_arguments_by_position_and_refuses_what_refqnn_refuses():
    of = dict(mutants_of("quantize"))
    plain = np.float32([0.5, 300]), np.float32(1), 0, -128, 127
    np.testing.assert_array_equal(of["y wrapped at 8 bits"](*plain), [0, 127])
    np.testing.assert_array_equal(of["y negated"](*plain), [0, -127])
    with pytest.raises(ValueError, match="refuses"):
        of["y negated"](np.float32([np.nan]), *plain[1:])


def test_a_change_that_does_not_fit_leaves_the_reference():
    family = FAMILIES["conv2d"]
    groups = next(m for m in mistakes("conv2d") if m.name == "groups: 1")
    call = next(c for c in covering("conv2d") if c["groups"] == 2)
    right = reference(family, call)
    assert family.same(mutants.answers(family, groups, call, right), right)


def test_sums_and_means_are_exchanged_in_floats_of_several_images():
    names = {"a sum for a mean", "a mean for a sum"}
    assert names <= set(changes.spoils(np.ones(3), (8,), 2))
    assert not names & set(changes.spoils(np.ones(3), (8,), 1))
    assert not names & set(changes.spoils(np.ones(3, np.int8), (8,), 2))


@pytest.mark.parametrize(("n", "wrong"), [(8, False), (16, False), (17, True)])
def test_a_tail_of_eight_is_what_whole_vectors_leave(n, wrong, rng):
    family = FAMILIES["dequantize"]
    call = family.draw(rng, 40) | {"q": np.zeros(n, np.int8)}
    outputs = {"y": np.zeros(n)}
    (tail,) = [m for m in mutants.only_somewhere(family) if "tails" in m.name]
    assert np.any(tail.spoiled(call, outputs)["y"]) == wrong
