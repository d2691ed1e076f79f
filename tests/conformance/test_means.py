"""mean_pool2d: every rescaling is named, and is that of an independent loop."""

import numpy as np
import pytest
from conformance.forms import assert_loops, assert_named

from refqnn import integer
from refqnn.conformance import identify
from refqnn.conformance.choices.families import FAMILIES
from refqnn.conformance.choices.families.means import is_whole_plane

FAMILY = FAMILIES["mean_pool2d"]
PLANE = "kernel: the whole plane (not supported)"


def test_every_rescaling_is_named():
    assert_named("mean_pool2d", FAMILY.variants(), inputs=7)


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
    assert answer.unseen == (() if part is None else (PLANE,))


def test_every_form_is_that_of_an_independent_loop():
    assert_loops("mean_pool2d", FAMILY.variants())


def test_a_mean_that_rounds_twice_is_none_of_them():
    """First on the grid of its input, as TFLite's average pool, then on its own."""

    def twice(x, kernel, stride, padding, sx, zx, s, z, q_min, q_max):
        geometry = {"kernel": kernel, "stride": stride, "padding": padding}
        mean = integer.avg_pool2d(x, **geometry, zero_point=zx).astype(float)
        return np.clip(np.rint(sx / s * (mean - zx)) + z, q_min, q_max)

    assert not identify(twice, "mean_pool2d", in_process=True).explained
