"""mean_pool2d: every rescaling is named, and is that of an independent loop."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from refqnn import integer
from refqnn.conformance import identify
from refqnn.conformance.choices.families import FAMILIES
from refqnn.conformance.choices.families.means import is_whole_plane

spec = importlib.util.spec_from_file_location(
    "independent", Path(__file__).with_name("independent.py")
)
independent = importlib.util.module_from_spec(spec)
spec.loader.exec_module(independent)
FAMILY = FAMILIES["mean_pool2d"]


def variant(choices):
    return lambda *given: FAMILY.evaluate(choices, *given)["y"]


def test_every_rescaling_is_named():
    for choices in FAMILY.variants()[::2]:
        answer = identify(
            variant(choices), "mean_pool2d", confirm=False, in_process=True
        )
        assert answer.certain == choices
        assert answer.inputs <= 7


@pytest.mark.parametrize("semantics", ["exact", "onnxruntime"])
@pytest.mark.parametrize("count", ["include_pad", "exclude_pad"])
def test_forms_of_refqnn_are_those_of_its_function(semantics, count):
    def theirs(x, kernel, stride, padding, sx, zx, s, z, q_min, q_max):
        geometry = {"kernel": kernel, "stride": stride, "padding": padding}
        grids = {"x_scale": sx, "x_zero_point": zx, "scale": s, "zero_point": z}
        ends = {"q_min": q_min, "q_max": q_max, "semantics": semantics}
        counted = count == "include_pad"
        return integer.mean_pool2d(
            x, **geometry, **grids, **ends, count_include_pad=counted
        )

    # of a whole plane, onnxruntime has another rule, and so has ours
    part = None if semantics == "exact" else lambda call: not is_whole_plane(call)
    answer = identify(theirs, "mean_pool2d", in_process=True, supports=part)
    own = {"mean_rescaling": semantics, "pool_count": count}
    assert answer.certain == FAMILY.default | own
    assert semantics != "exact" or answer.unseen == ()


def test_every_form_is_that_of_an_independent_loop():
    drawn = [FAMILY.wide(np.random.default_rng(seed), 8) for seed in range(12)]
    for call in [*drawn, *FAMILY.candidates()]:
        for choices in FAMILY.variants()[:: 1 if call["x"].size < 50 else 5]:
            got = FAMILY.evaluate(choices, **call)["y"]
            want = independent.mean_pool2d(choices, *call.values())
            np.testing.assert_array_equal(got, want, err_msg=str((choices, call)))


def test_a_mean_that_rounds_twice_is_none_of_them():
    """First on the grid of its input, as TFLite's average pool, then on its own."""

    def twice(x, kernel, stride, padding, sx, zx, s, z, q_min, q_max):
        geometry = {"kernel": kernel, "stride": stride, "padding": padding}
        mean = integer.avg_pool2d(x, **geometry, zero_point=zx).astype(float)
        return np.clip(np.rint(sx / s * (mean - zx)) + z, q_min, q_max)

    assert not identify(twice, "mean_pool2d", in_process=True).explained
