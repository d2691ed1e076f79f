"""concat of codes: every rescaling is named, and is that of an independent loop."""

import numpy as np
import pytest
from conformance.forms import assert_loops, assert_named, variant

from refqnn import integer
from refqnn.conformance import identify
from refqnn.conformance.choices.families import FAMILIES

FAMILY = FAMILIES["concat"]


def test_every_rescaling_is_named():
    assert_named("concat", FAMILY.variants(), inputs=5)


@pytest.mark.parametrize("semantics", ["exact", "onnxruntime", "tflite"])
def test_forms_of_refqnn_are_those_of_its_function(semantics):
    """Inputs on the grid of the result are copied, and come out the same."""

    def theirs(x, y, sx, zx, sy, zy, s, z, q_min, q_max):
        own = {"scales": [sx, sy], "zero_points": [zx, zy], "axis": -1}
        grid = {"scale": s, "zero_point": z, "q_min": q_min, "q_max": q_max}
        return integer.concat([x, y], **own, **grid, semantics=semantics)

    answer = identify(theirs, "concat", in_process=True)
    assert answer.certain == FAMILY.default | {"concat_rescaling": semantics}
    assert answer.unseen == ()


def test_every_form_is_that_of_an_independent_loop():
    assert_loops("concat", FAMILY.variants())


def test_a_concat_that_rescales_its_first_input_only_is_none_of_them():
    def first(x, y, sx, zx, sy, zy, s, z, q_min, q_max):
        right = variant("concat", FAMILY.default)
        q = right(x, y, sx, zx, sy, zy, s, z, q_min, q_max)
        return np.concatenate([q[..., : x.shape[-1]], y.astype(np.int64)], -1)

    assert not identify(first, "concat", in_process=True).explained
