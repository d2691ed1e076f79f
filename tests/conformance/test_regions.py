"""Calls are measured: every region, every pair that can meet, every argument varies."""

import pickle
from dataclasses import replace

import numpy as np
import pytest

from refqnn.conformance.choices import regions
from refqnn.conformance.choices.coverage import pairs_met
from refqnn.conformance.choices.families import FAMILIES
from refqnn.conformance.choices.regions import (
    covering,
    pool,
    regions_of,
    regions_visited,
    visits,
)

NAMES = list(FAMILIES)


def constant_arguments(calls):
    """The names of arguments that have one dtype, shape and value in all calls."""
    return [
        name
        for name, first in calls[0].items()
        if all(pickle.dumps(first) == pickle.dumps(call[name]) for call in calls)
    ]


@pytest.mark.parametrize("name", NAMES)
def test_a_covering_visits_every_region_and_varies_every_argument(name):
    assert regions_of(name), "every family declares regions"
    calls = covering(name)
    assert regions_visited(name, calls) == set(regions_of(name))
    assert constant_arguments(calls) == []


@pytest.mark.once
@pytest.mark.parametrize("name", NAMES)
def test_a_covering_visits_nearly_every_pair_that_many_other_calls_visit(name):
    names = list(regions_of(name))
    met = pairs_met(visits(name, list(covering(name))), names).any(axis=0)
    others = pairs_met(visits(name, pool(name, 500, start=1)), names).any(axis=0)
    assert np.count_nonzero(others & ~met) <= 0.02 * np.count_nonzero(met)


@pytest.mark.parametrize("name", NAMES)
def test_every_region_has_an_argument_that_exists(name):
    arguments = set(FAMILIES[name].arguments)
    others = {"range", "sum"}
    assert {region.split(":")[0] for region in regions_of(name)} <= arguments | others


@pytest.mark.parametrize("name", ["quantize", "conv2d", "lsq"])
def test_a_narrow_draw_is_found_out(name):
    """A planted gap: calls of one range, one padding, one step."""
    argument = {"quantize": "q_min", "conv2d": "padding", "lsq": "s"}[name]
    family = FAMILIES[name]
    first = family.candidates()[0][argument]
    calls = [c for c in pool(name, 400) if np.array_equal(c[argument], first)]
    assert argument in constant_arguments(calls)
    assert regions_visited(name, calls) < set(regions_of(name))


def test_without_regions_nothing_is_visited(monkeypatch):
    monkeypatch.setitem(FAMILIES, "bare", replace(FAMILIES["sgd"], regions={}))
    assert regions_visited("bare", pool("bare", 3)) == set()
    assert len(covering("bare")) == 2 * len(regions.SIZES)


def test_above_eight_outputs_begins_at_nine():
    inside = regions_of("conv2d")["w: above eight outputs"]
    assert [inside({"w": np.zeros((n, 1, 1, 1))}) for n in (8, 9)] == [False, True]
