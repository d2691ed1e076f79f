"""softmax of codes: every form is named, and is that of an independent loop."""

import numpy as np
import pytest
from conformance.forms import assert_loops, assert_named

from refqnn import integer
from refqnn.conformance import identify
from refqnn.conformance.choices.families import FAMILIES

FAMILY = FAMILIES["softmax"]


def test_every_form_is_named():
    assert_named("softmax", FAMILY.variants(), inputs=6)


@pytest.mark.parametrize("semantics", ["exact", "onnxruntime"])
def test_forms_of_refqnn_are_those_of_its_function(semantics):
    def theirs(x, sx, s, z, q_min, q_max):
        grids = {"x_scale": sx, "scale": s, "zero_point": z}
        ends = {"q_min": q_min, "q_max": q_max}
        return integer.softmax(x, **grids, **ends, semantics=semantics)

    answer = identify(theirs, "softmax", in_process=True)
    assert answer.certain == FAMILY.default | {"softmax": semantics}
    assert answer.unseen == ()


def test_every_form_is_that_of_an_independent_loop():
    assert_loops("softmax", FAMILY.variants())


def test_a_softmax_that_forgets_the_largest_code_of_each_row_is_none_of_them():
    def first_row_for_all(x, sx, s, z, low, high):
        e = np.exp(sx * (x.astype(float) - x.max()))
        total = np.reshape(e, (-1, x.shape[-1])).sum(-1)[0]
        return np.clip(np.rint(e / total / s) + z, low, high)

    answer = identify(first_row_for_all, "softmax", in_process=True)
    assert not answer.explained
