"""Every rung of a ladder of the book gives the numbers of the first."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from tables.loops import conv2d

from refqnn import integer

FILE = Path(__file__).parents[2] / "docs" / "book" / "rungs.py"


@pytest.fixture(scope="module")
def rungs():
    spec = importlib.util.spec_from_file_location("book_rungs", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.mark.parametrize("name", ["compiled_loop", "flat_planes"])
@pytest.mark.parametrize("kernel", [(1, 1), (2, 3), (3, 3)])
def test_convolutions_are_the_plain_loop(rungs, rng, name, kernel):
    x, w = rng.normal(size=(2, 3, 5, 6)), rng.normal(size=(4, 3, *kernel))
    want = conv2d(x, w)
    y = np.empty_like(want)
    getattr(rungs, name)(x, w, y)
    np.testing.assert_allclose(y, want, rtol=0, atol=1e-12)


def test_requantization_is_half_up(rungs, rng):
    m, shift = integer.quantize_multiplier(0.25)
    acc = rng.integers(-700, 700, 300).astype(np.int32)
    want = integer.requantize(acc, m, shift, 0, q_min=-128, q_max=127)
    np.testing.assert_array_equal(rungs.requantize_loop(acc, m, shift), want)


def test_signs_are_counted(rungs, rng):
    x, w = (rng.choice([-1, 1], size=s) for s in ((1, 5, 4, 4), (2, 5, 3, 3)))
    packed = integer.pack_bits(x), integer.pack_bits(w)
    want = integer.xnor_conv2d(*packed, channels=5)
    np.testing.assert_array_equal(rungs.xnor_loop(x, w), want)
