"""lookup: how codes find their entries is named, and is that of an independent loop."""

import importlib.util
from pathlib import Path

import numpy as np

from refqnn import integer
from refqnn.conformance import identify
from refqnn.conformance.choices.families import FAMILIES

spec = importlib.util.spec_from_file_location(
    "independent", Path(__file__).with_name("independent.py")
)
independent = importlib.util.module_from_spec(spec)
spec.loader.exec_module(independent)
FAMILY = FAMILIES["lookup"]


def test_every_answer_is_named_and_the_default_is_that_of_refqnn():
    for choices in FAMILY.variants():
        answer = identify(
            lambda x, table, c=choices: FAMILY.evaluate(c, x, table)["y"],
            "lookup",
            in_process=True,
        )
        assert answer.certain == choices
    assert identify(integer.lookup, "lookup", in_process=True).certain == FAMILY.default


def test_every_answer_is_that_of_an_independent_loop():
    drawn = [FAMILY.wide(np.random.default_rng(seed), 24) for seed in range(12)]
    for call in [*drawn, *FAMILY.candidates()]:
        for choices in FAMILY.variants():
            got = FAMILY.evaluate(choices, **call)["y"]
            np.testing.assert_array_equal(
                got, independent.lookup(choices, *call.values()), err_msg=str(choices)
            )


def test_a_code_of_the_neighbour_is_none_of_them():
    def next_entry(x, table):
        return integer.lookup(x, np.roll(table, -1))

    assert not identify(next_entry, "lookup", in_process=True).explained
