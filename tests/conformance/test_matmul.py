"""matmul of codes: answers are named, and are those of an independent loop."""

import numpy as np
from conformance.forms import assert_loops, assert_named, variant

from refqnn import integer
from refqnn.conformance import identify
from refqnn.conformance.choices.families import FAMILIES

FAMILY = FAMILIES["matmul"]


def test_every_other_answer_is_named():
    assert_named("matmul", FAMILY.neighbours(FAMILY.default, 1), inputs=6)


def test_the_default_is_the_product_of_refqnn():
    def theirs(a, b, a_zero_point, b_zero_point):
        zeros = {"a_zero_point": a_zero_point, "b_zero_point": b_zero_point}
        return integer.matmul(a, b, **zeros, accumulator="int64")

    answer = identify(theirs, "matmul", in_process=True)
    assert answer.explained
    assert answer.certain.items() <= FAMILY.default.items()
    assert answer.unseen == ()


def test_every_answer_is_that_of_an_independent_loop():
    assert_loops("matmul", FAMILY.neighbours(FAMILY.default, 1))


def test_a_product_that_takes_the_first_matrix_for_all_is_none_of_them():
    def first(a, b, *zeros):
        b = np.broadcast_to(b[:1], b.shape) if b.ndim > 2 else b
        return variant("matmul", FAMILY.default)(a, b, *zeros)

    assert not identify(first, "matmul", in_process=True).explained
