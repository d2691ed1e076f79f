"""concat of codes: every rescaling is named, and is that of an independent loop."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from refqnn import integer
from refqnn.conformance import identify
from refqnn.conformance.choices.families import FAMILIES

spec = importlib.util.spec_from_file_location(
    "independent", Path(__file__).with_name("independent.py")
)
independent = importlib.util.module_from_spec(spec)
spec.loader.exec_module(independent)
FAMILY = FAMILIES["concat"]


def variant(choices):
    return lambda *given: FAMILY.evaluate(choices, *given)["y"]


def test_every_rescaling_is_named():
    for choices in FAMILY.variants():
        answer = identify(variant(choices), "concat", confirm=False, in_process=True)
        assert answer.certain == choices
        assert answer.inputs <= 5


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
    drawn = [FAMILY.wide(np.random.default_rng(seed), 24) for seed in range(12)]
    for call in [*drawn, *FAMILY.candidates()]:
        for choices in FAMILY.variants():
            got = FAMILY.evaluate(choices, **call)["y"]
            want = independent.concat(choices, *call.values())
            np.testing.assert_array_equal(got, want, err_msg=str((choices, call)))


def test_a_concat_that_rescales_its_first_input_only_is_none_of_them():
    def first(x, y, sx, zx, sy, zy, s, z, q_min, q_max):
        right = variant(FAMILY.default)
        q = right(x, y, sx, zx, sy, zy, s, z, q_min, q_max)
        return np.concatenate([q[..., : x.shape[-1]], y.astype(np.int64)], -1)

    assert not identify(first, "concat", in_process=True).explained
