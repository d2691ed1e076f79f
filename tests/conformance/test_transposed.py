"""conv_transpose2d of codes: answers are named, and are those of a loop."""

import numpy as np
import pytest
from conformance.forms import assert_loops, assert_named, variant

from refqnn import fast, integer
from refqnn.conformance import identify
from refqnn.conformance.choices.families import FAMILIES

FAMILY = FAMILIES["conv_transpose2d"]


def test_every_other_answer_is_named():
    assert_named("conv_transpose2d", FAMILY.neighbours(FAMILY.default, 1), inputs=8)


@pytest.mark.parametrize("backend", [integer, fast.integer])
def test_the_default_is_the_function_of_refqnn(backend):
    def theirs(x, w, b, xz, wz, stride, padding, output_padding, dilation, groups):
        zeros = {"x_zero_point": xz, "w_zero_point": wz, "accumulator": "int64"}
        at = {"stride": stride, "padding": padding, "output_padding": output_padding}
        return backend.conv_transpose2d(
            x, w, b, **zeros, **at, dilation=dilation, groups=groups
        )

    answer = identify(theirs, "conv_transpose2d", in_process=True)
    assert answer.explained
    assert answer.certain.items() <= FAMILY.default.items()
    assert answer.unseen == ()


def test_every_answer_is_that_of_an_independent_loop():
    assert_loops("conv_transpose2d", FAMILY.neighbours(FAMILY.default, 1))


def test_one_that_forgets_output_padding_is_none_of_them():
    def cut(*given):
        y = variant("conv_transpose2d", FAMILY.default)(*given)
        h, w = np.broadcast_to(given[7], 2)
        y[:, :, y.shape[2] - h :] = 0
        y[:, :, :, y.shape[3] - w :] = 0
        return y

    assert not identify(cut, "conv_transpose2d", in_process=True).explained
