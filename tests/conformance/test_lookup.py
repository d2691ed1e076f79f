"""lookup: how codes find their entries is named, and is that of an independent loop."""

import numpy as np
from conformance.forms import assert_loops, assert_named

from refqnn import integer
from refqnn.conformance import identify
from refqnn.conformance.choices.families import FAMILIES

FAMILY = FAMILIES["lookup"]


def test_every_answer_is_named_and_the_default_is_that_of_refqnn():
    assert_named("lookup", FAMILY.variants(), inputs=4)
    assert identify(integer.lookup, "lookup", in_process=True).certain == FAMILY.default


def test_every_answer_is_that_of_an_independent_loop():
    assert_loops("lookup", FAMILY.variants())


def test_a_code_of_the_neighbour_is_none_of_them():
    def next_entry(x, table):
        return integer.lookup(x, np.roll(table, -1))

    assert not identify(next_entry, "lookup", in_process=True).explained
