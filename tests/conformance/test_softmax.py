"""softmax of codes: every form is named, and is that of an independent loop."""

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
FAMILY = FAMILIES["softmax"]


def variant(choices):
    return lambda *given: FAMILY.evaluate(choices, *given)["y"]


def test_every_form_is_named():
    for choices in FAMILY.variants()[::2]:
        answer = identify(variant(choices), "softmax", confirm=False, in_process=True)
        assert answer.certain == choices
        assert answer.inputs <= 6


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
    drawn = [FAMILY.wide(np.random.default_rng(seed), 24) for seed in range(12)]
    for call in [*drawn, *FAMILY.candidates()]:
        for choices in FAMILY.variants():
            got = FAMILY.evaluate(choices, **call)["y"]
            want = independent.softmax(choices, *call.values())
            np.testing.assert_array_equal(got, want, err_msg=str((choices, call)))


def test_a_softmax_that_forgets_the_largest_code_of_each_row_is_none_of_them():
    def first_row_for_all(x, sx, s, z, low, high):
        e = np.exp(sx * (x.astype(float) - x.max()))
        total = np.reshape(e, (-1, x.shape[-1])).sum(-1)[0]
        return np.clip(np.rint(e / total / s) + z, low, high)

    answer = identify(first_row_for_all, "softmax", in_process=True)
    assert not answer.explained
