"""Modules of one's own with a mistake: what is said of them names it."""

import inspect
from dataclasses import dataclass, field

import numpy as np
import pytest

from refqnn import quantizers as qz
from refqnn.core import Param, Run
from refqnn.quantizers.module import Quantizer
from refqnn.testing import check_network, check_quantizer
from refqnn.testing.module_passes import module_error
from refqnn.testing.networks import in_float64
from refqnn.testing.subjects import heavy_tailed


def lattice(v, a, *, frozen=None):
    """Round to 7 levels from -a to a; the residual is held."""
    u = np.clip(3 * v / a, -3, 3)
    q = np.rint(u) if frozen is None else u + frozen[2]
    return (a / 3 * q).astype(v.dtype), (v, a, np.rint(u) - u, np.abs(v) < a)


@dataclass(eq=False)
class Lattice:
    """A right module, to inherit a wrong one from."""

    bits: int = 3
    alpha: Param = field(
        init=False,
        default_factory=lambda: Param(np.full((), 0.5, np.float32), group="quantizer"),
    )

    def forward(self, v, run, *, bits=None):  # noqa: ARG002 - the protocol has it
        y, cache = run.straight_through(lattice, v, self.alpha.value.astype(v.dtype))
        run.see(self, v, y)
        return y, cache

    def slope(self, dy, cache):
        v, _, residual, inside = cache
        return (dy * np.where(inside, residual / 3, np.sign(v))).sum(dtype=np.float64)

    def backward(self, dy, cache):
        self.alpha.grad += self.slope(dy, cache).astype(dy.dtype)
        return dy * cache[3]

    def encode(self, v):
        a = self.alpha.value.astype(v.dtype)
        q = np.rint(np.clip(3 * v / a, -3, 3)).astype(int)
        return q + 3, a / 3 * np.arange(-3, 4).astype(v.dtype)


def changed(**methods):
    """The class with other methods, called like the original ones."""
    return type("Changed", (Lattice,), methods)


def assigns(self, dy, cache):
    self.alpha.grad = np.asarray(self.slope(dy, cache))
    return dy * cache[3]


def writes(self, dy, cache):
    dy *= cache[3]
    self.alpha.grad += self.slope(dy, cache)
    return dy.copy()


def unrecorded(self, v, run):  # noqa: ARG001 - a run that is not used
    return lattice(v, self.alpha.value.astype(v.dtype))


def right(self, dy, cache):
    return Lattice.backward(self, dy, cache)


WRONG = {
    "adds nothing up": (changed(backward=assigns), "doubles the gradient of alpha"),
    "writes into dy": (changed(backward=writes), "backward writes into dy"),
    "no gradient of alpha": (
        changed(backward=lambda _, dy, cache: dy * cache[3]),
        "dalpha is 0, the slope is .*: it is zero",
    ),
    "no mask": (
        changed(backward=lambda self, dy, cache: (right(self, dy, cache), dy)[1]),
        "the mask is opened on both outer sides",
    ),
    "a shape": (
        changed(backward=lambda self, dy, cache: right(self, dy, cache).ravel()),
        r"dv has the shape \(21,\), v has \(3, 7\)",
    ),
    "a dtype": (
        changed(backward=lambda self, dy, c: right(self, dy, c).astype(np.float32)),
        "dv is float32, v is float64",
    ),
    "nothing": (
        changed(backward=lambda self, dy, c: (right(self, dy, c), None)[1]),
        "dv is None",
    ),
    "nothing recorded": (
        changed(forward=unrecorded),
        "recorded nothing: it must compute by run.straight_through",
    ),
    "y alone": (
        changed(forward=lambda self, v, run: Lattice.forward(self, v, run)[0]),
        r"forward must give \(y, cache\), gives ndarray",
    ),
    "no run": (changed(forward=lambda self, v: (v, self)), "Changed raises TypeError"),
    "codes alone": (
        changed(encode=lambda self, v: Lattice.encode(self, v)[0]),
        r"encode must give \(codes, levels\), gives ndarray",
    ),
    "codes beyond the levels": (
        changed(encode=lambda self, v: (Lattice.encode(self, v)[0] + 4, np.ones(7))),
        r"codes must be in 0\.\.6, are",
    ),
    "no encode": (changed(encode=lambda self, v: 1 / 0), "encode raises ZeroDivision"),  # noqa: ARG005
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_module_with_a_mistake_is_named(wrong):
    kind, message = WRONG[wrong]
    with pytest.raises(AssertionError, match=message):
        check_quantizer(kind)


OPTIONS = {
    "LQWeight": {"filters": 3},
    "SYQ": {"group": "layer"},
    "WEQWeight": {"levels": 4},
}
EVERY = [
    kind
    for _, kind in inspect.getmembers(qz, inspect.isclass)
    if issubclass(kind, Quantizer) and kind is not Quantizer
]


@pytest.mark.parametrize("kind", EVERY)
def test_every_quantizer_of_the_package_is_differenced_as_a_pair(kind):
    module = in_float64(kind(**OPTIONS.get(kind.__name__, {})))
    v = heavy_tailed(5, np.float64)
    module.forward(v, Run(training=True, rng=np.random.default_rng(0)))
    assert module_error(module, v, linear=True) < 1e-6


def test_a_right_module_passes_made_or_not():
    assert check_quantizer(Lattice).gradient_error < 1e-6
    report = check_quantizer(Lattice(bits=3))
    assert (report.levels, report.laws["JSE"]) == (7, "holds")


def test_a_backward_that_is_not_linear_is_asked_for_its_form_alone():
    def scaled(self, dy, cache):
        return right(self, dy, cache) * (1 + 0.1 * np.sign(dy) * cache[2])

    kind = changed(backward=scaled)
    assert check_quantizer(kind, linear=False).gradient_error is None
    with pytest.raises(AssertionError, match="not linear in dy"):
        check_quantizer(kind)


def test_questions_about_modules_that_are_none():
    with pytest.raises(ValueError, match="has its own backward: leave backward out"):
        check_quantizer(Lattice, lambda dy, _: dy)
    with pytest.raises(
        ValueError, match=r"network\.forward must be callable, got None"
    ):
        check_network(None, np.zeros((2, 1, 4, 4)), np.zeros(2, int))
