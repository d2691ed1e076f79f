"""Resized planes of codes: answers are named, and are those of independent loops."""

import numpy as np
import pytest
from conformance.forms import assert_loops, assert_named, variant

from refqnn import integer
from refqnn.conformance import identify
from refqnn.conformance.choices.families import FAMILIES

NAMES = ("resize_nearest", "resize_bilinear")


@pytest.mark.parametrize("name", NAMES)
def test_every_other_answer_is_named(name):
    family = FAMILIES[name]
    assert_named(name, family.neighbours(family.default, 1), inputs=8)


@pytest.mark.parametrize("name", NAMES)
def test_the_default_is_the_function_of_refqnn(name):
    def theirs(x, size):
        return integer.resize(x, size=size, mode=name.removeprefix("resize_"))

    answer = identify(theirs, name, in_process=True)
    assert answer.certain.items() <= FAMILIES[name].default.items()
    assert answer.explained
    assert answer.unseen == ()


@pytest.mark.parametrize("name", NAMES)
def test_every_answer_is_that_of_an_independent_loop(name):
    family = FAMILIES[name]
    floats = family.default | {"resize_ratio": "divided"}
    if name == "resize_bilinear":
        floats["resize_blend"] = "float32_trunc"
    near = [family.neighbours(answers, 1) for answers in (family.default, floats)]
    assert_loops(name, [*near[0], *near[1]])


def test_the_mean_of_a_window_is_no_blend():
    """Areas, as image libraries shrink: every code counts, not four of them."""

    def area(x, size):
        y = variant("resize_bilinear", FAMILIES["resize_bilinear"].default)(x, size)
        if not np.any(np.array(x.shape[2:]) % size):
            n, c, h, w = x.shape
            blocks = x.reshape(n, c, size[0], h // size[0], size[1], w // size[1])
            y = np.rint(blocks.mean(axis=(3, 5))).astype(np.int64)
        return y

    assert not identify(area, "resize_bilinear", in_process=True).explained
