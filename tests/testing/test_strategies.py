"""What the strategies draw, and to what they shrink."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import find, given, settings

from refqnn import quantizers as qz
from refqnn.core import Run
from refqnn.nn import Sequential
from refqnn.testing import strategies as draw


@given(draw.dyadic(denominator=8, largest=2))
def test_dyadic_numbers(v):
    assert v.dtype == np.float32
    np.testing.assert_array_equal(v * 8, np.rint(v * 8))
    assert np.abs(v).max() <= 2


@given(draw.weights(), draw.activations(dtype=np.float32))
def test_weights_have_both_signs_and_activations_one(w, x):
    assert (w.dtype, x.dtype) == (np.float64, np.float32)
    assert np.isfinite(w).all()
    assert x.min() >= 0


def test_they_shrink_to_the_simplest():
    first = find(draw.weights(), lambda w: np.any(w < 0))
    assert first.size == 1
    assert abs(float(first[0, 0])) <= 1
    assert find(draw.bits(2, 8), lambda _: True) == 2
    assert find(draw.dyadic(), lambda _: True).tolist() == [[0]]


@given(draw.dy(np.zeros((2, 3), np.float32)) | draw.dy((2, 3)))
def test_a_dy_is_signed_and_unequal(dy):
    assert dy.shape == (2, 3)
    assert dy.dtype in (np.float32, np.float64)
    assert np.unique(np.abs(dy)).size == 6
    assert (dy < 0).sum() == 3


@given(draw.steps(), draw.codebooks(5))
def test_steps_are_positive_and_codebooks_ascend(step, levels):
    assert step > 0
    assert levels.shape == (5,)
    assert (np.diff(levels) > 0).all()


@given(draw.ties(qz.lsq, parameters=(0.5,), options={"q_n": 2, "q_p": 1}))
def test_ties_lie_halfway_between_levels(v):
    off = np.abs(v[..., None] - np.array([-0.75, -0.25, 0.25])).min(-1)
    assert off.max() < 1e-6


def test_ties_have_the_shape_that_is_asked_for():
    @settings(max_examples=3)
    @given(draw.ties(qz.lsq, parameters=(0.5,), options={"q_n": 2, "q_p": 1}, shape=7))
    def check(v):
        assert v.shape == (7,)

    check()


def test_a_quantizer_without_levels_of_its_own_has_no_ties():
    with pytest.raises(ValueError, match="no levels of its own: draw boundaries"):
        draw.ties(lambda v: qz.binary(v)[0])
    with pytest.raises(ValueError, match="no levels of its own"):
        draw.ties(lambda v: v * 1)


def test_boundaries_are_those_of_the_module():
    v = np.array([[1.0, -0.5]], np.float32)
    module = qz.FixedPoint(bits=2)
    near = module.decision_boundaries(v)

    @given(draw.boundaries(module, v))
    def close(x):
        assert np.abs(x[..., None] - near.ravel()).min(-1).max() < 1e-6

    close()


@settings(max_examples=5)
@given(draw.networks())
def test_networks_run(network):
    assert isinstance(network, Sequential)
    x = np.random.default_rng(0).integers(0, 256, (2, 1, 8, 8)).astype(np.float64)
    y, _ = network.forward(x, Run(training=True, rng=np.random.default_rng(0)))
    assert y.shape == (2, 3)
    assert y.dtype == np.float64


def test_the_room_is_imported_without_hypothesis_and_pytest():
    code = (
        "import sys, refqnn.testing\n"
        "assert not {'hypothesis', 'pytest', 'torch', 'onnx'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
