"""matmul of codes: answers are named, and are those of an independent loop."""

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
FAMILY = FAMILIES["matmul"]


def variant(choices):
    return lambda *given: FAMILY.evaluate(choices, *given)["y"]


def test_every_other_answer_is_named():
    for axis, value in FAMILY.single_deviations(FAMILY.default):
        choices = FAMILY.default | {axis: value}
        answer = identify(variant(choices), "matmul", confirm=False, in_process=True)
        assert choices in answer.alive
        assert {FAMILY.canonical(v)[axis] for v in answer.alive} == {value}
        assert answer.inputs <= 6


def test_the_default_is_the_product_of_refqnn():
    def theirs(a, b, a_zero_point, b_zero_point):
        zeros = {"a_zero_point": a_zero_point, "b_zero_point": b_zero_point}
        return integer.matmul(a, b, **zeros, accumulator="int64")

    answer = identify(theirs, "matmul", in_process=True)
    assert answer.explained
    assert answer.certain.items() <= FAMILY.default.items()
    assert answer.unseen == ()


def test_every_answer_is_that_of_an_independent_loop():
    calls = [FAMILY.wide(np.random.default_rng(seed), 12) for seed in range(16)]
    for call in [*calls, *FAMILY.candidates()[:5]]:
        for choices in FAMILY.neighbours(FAMILY.default, 1):
            got = FAMILY.evaluate(choices, **call)["y"]
            want = independent.matmul(choices, *call.values())
            np.testing.assert_array_equal(got, want, err_msg=str(choices))


def test_a_product_that_takes_the_first_matrix_for_all_is_none_of_them():
    def first(a, b, *zeros):
        b = np.broadcast_to(b[:1], b.shape) if b.ndim > 2 else b
        return variant(FAMILY.default)(a, b, *zeros)

    assert not identify(first, "matmul", in_process=True).explained
