"""The module over a pair: what it adds to any (forward, backward), own ones too."""

from dataclasses import dataclass, field

import numpy as np
import pytest
from refusals import refuses

import refqnn
from refqnn import fast
from refqnn import quantizers as qz
from refqnn.core import Buffer, Param, Run, named_buffers, named_params
from refqnn.quantizers.module import (
    GradientQuantizer,
    GridQuantizer,
    Quantizer,
    odd_codes,
    positive,
    positive_one,
    signed_codes,
    twin_of,
    unset,
    unsigned_codes,
)


def lsq(x, s, *, bits, frozen=None):
    """y = s round(x / s) clipped to 2^b - 1 steps: a user's, with the name of ours."""
    q = np.clip(np.rint(x / s), 0, 2**bits - 1) if frozen is None else frozen[0]
    rest = q - x / s if frozen is None else frozen[1]
    return s * (x / s + rest), (q, rest)


def lsq_backward(dy, cache):
    """The residual is constant: y = x + s rest."""
    return dy, np.asarray((dy * cache[1]).sum())


@dataclass(eq=False)
class Own(GridQuantizer):
    """All that a user writes for a pair with a learned step."""

    bits: int = 2
    s: Param = field(init=False, default_factory=positive_one)
    known: Buffer = field(init=False, default_factory=unset)

    pair = (lsq, lsq_backward)
    parameters = ("s",)
    unknown = "the step is unknown"
    codes = staticmethod(unsigned_codes)
    most_bits = 8

    def begin(self, v, run, bits):  # noqa: ARG002 - the signature of the room
        if not self.known.value:
            self.hold(s=v.max() / (2**bits - 1))

    def codes_and_scale(self, v):
        return lsq(v, self.s.value, bits=self.bits)[1][0], self.s.value, 0


X = np.array([0.0, 0.9, 2.2, 6.0])


def test_a_pair_of_ones_own_is_a_module():
    module = Own()
    assert list(named_params(module)) == ["s"]
    assert list(named_buffers(module)) == ["known"]
    refuses("the step is unknown", module.forward, X, Run())
    refuses("the step is unknown", module.encode, X)
    y, cache = module.forward(X, Run(training=True))
    np.testing.assert_array_equal(y, [0, 0, 2, 6])
    dx = module.backward(np.ones(4), cache)
    np.testing.assert_array_equal(dx, 1)
    want = (y - X).sum() / 2
    np.testing.assert_allclose(module.s.grad, want)
    module.backward(np.ones(4), cache)
    np.testing.assert_allclose(module.s.grad, 2 * want)
    module.forward(3 * X, Run(training=True))
    assert module.s.value == 2


def test_codes_levels_and_boundaries_follow_from_codes_and_scale():
    module = Own()
    module.hold(s=2.0)
    q, scale, zero_point = module.quantize(X)
    np.testing.assert_array_equal(q, [0, 0, 1, 3])
    assert (q.dtype, scale, zero_point) == (np.uint8, 2, 0)
    codes, levels = module.encode(X)
    np.testing.assert_array_equal(levels[codes], module.forward(X, Run())[0])
    np.testing.assert_array_equal(module.decision_boundaries(X), [[1, 3, 5]])
    refuses("v must be finite", module.quantize, np.array([np.nan]))


def test_the_bits_of_a_call_are_checked_before_anything_changes():
    refuses(r"bits must be an int in \[1, 8\], got 9", Own, bits=9)
    module = Own()
    module.hold(s=2.0)
    np.testing.assert_array_equal(module.forward(X, Run(), bits=1)[0], [0, 0, 2, 2])
    refuses(r"bits must be an int in \[1, 8\], got 0", module.forward, X, Run(), bits=0)
    narrow = qz.Affine(narrow_range=True)
    with pytest.raises(ValueError, match=r"bits must be an int in \[2, 16\], got 1"):
        narrow.forward(X, Run(training=True), bits=1)
    assert narrow.updates.value == 0


def test_a_pass_is_recorded_replayed_and_seen():
    module, seen = Own(), []
    module.hold(s=2.0)
    run = Run(observe=lambda *what: seen.append(what)).recording()
    y, _ = module.forward(X, run)
    assert seen[0][0] is module
    assert seen[0][2] is y
    moved, _ = module.forward(X + 0.5, run.replaying(run.tape))
    np.testing.assert_allclose(moved, y + 0.5)


def test_a_replay_and_an_empty_tensor_begin_nothing():
    module, learner = Own(), Run(training=True)
    module.forward(X[:0], learner)
    assert not module.known.value
    tape = [lsq(X, 2.0, bits=2)[1]]
    refuses("the step is unknown", module.forward, X, learner.replaying(tape))


@pytest.mark.parametrize(("once", "batches"), [(True, 1), (False, 2)])
def test_a_module_begins_with_every_batch_or_only_the_first(once, batches):
    seen = []

    class Counting(Own):
        begins_once = once

        def begin(self, v, run, bits):  # noqa: ARG002 - the signature of the room
            seen.append(bits)
            self.hold(s=2.0)

    module = Counting()
    module.forward(X, Run(training=True))
    module.forward(X, Run(training=True), bits=3)
    module.forward(X, Run())
    assert seen == [2, 3][:batches]


def test_weights_that_are_no_floats_are_named():
    with pytest.raises(ValueError, match="w must be a float32 or float64 array"):
        qz.FixedPoint().forward(np.ones((2, 3), int), Run())


def test_only_functions_of_the_room_have_twins():
    assert twin_of(qz.lsq, fast) is fast.quantizers.lsq
    assert twin_of(qz.lsq, fast) is not qz.lsq
    assert twin_of(qz.pact, fast) is qz.pact
    assert twin_of(qz.lsq, refqnn) is qz.lsq
    assert twin_of(lsq, fast) is lsq


@pytest.mark.parametrize("side", [refqnn, fast])
def test_backward_runs_on_the_side_of_its_forward(side):
    _, (op_backward, _) = qz.FixedPoint().forward(X[None], Run(backend=side))
    assert op_backward is side.quantizers.fixed_point_backward


def test_parameters_that_are_buffers_get_no_gradient():
    @dataclass(eq=False)
    class Fixed(Quantizer):
        bits: int = 2
        s: Buffer = field(default_factory=lambda: Buffer(np.asarray(2.0)))
        pair = (lsq, lsq_backward)
        parameters = ("s",)

    module = Fixed()
    y, cache = module.forward(X, Run())
    np.testing.assert_array_equal(y, [0, 0, 2, 6])
    np.testing.assert_array_equal(module.backward(np.ones(4), cache), 1)
    assert named_params(module) == {}


def test_options_are_fields_and_the_bits_those_of_the_call():
    @dataclass(eq=False)
    class Options(Quantizer):
        bits: int = 2
        half: Buffer = field(default_factory=lambda: Buffer(np.asarray(0.5)))
        word: str = "given"
        pair = (lambda v, **options: (v, options), lsq_backward)
        options = ("bits", "half", "word")

    given = Options().forward(X, Run(), bits=7)[1][1]
    assert given == {"bits": 7, "half": 0.5, "word": "given"}


def test_a_gradient_transform_acts_in_training_only():
    @dataclass(eq=False)
    class Halved(GradientQuantizer):
        bits: int = 3
        transform = staticmethod(lambda dy, noise, *, bits: dy / 2 + 0 * noise + bits)

    module, dy = Halved(), np.ones(3)
    y, cache = module.forward(X[:3], Run(training=True, rng=np.random.default_rng(0)))
    np.testing.assert_array_equal(y, X[:3])
    np.testing.assert_array_equal(module.backward(dy, cache), 3.5)
    for run in (Run(), Run(training=True).replaying([])):
        np.testing.assert_array_equal(module.backward(dy, module.forward(y, run)[1]), 1)
    refuses(r"needs noise: pass Run\(rng", module.forward, y, Run(training=True))
    refuses("bits must be an int", Halved, bits=0)
    refuses("bits must be an int", module.forward, y, Run(), bits=17)


@pytest.mark.parametrize(
    ("make", "transform"),
    [
        (qz.DoReFaGradient, qz.dorefa_gradient),
        (qz.MinMaxGradient, qz.min_max_gradient),
    ],
)
def test_the_transforms_of_gradients(make, transform, rng):
    dy, module = rng.normal(size=(2, 50)), make(bits=8)
    run = Run(training=True, rng=np.random.default_rng(1))
    got = module.backward(dy, module.forward(dy, run, bits=2)[1])
    noise = np.random.default_rng(1).random(dy.shape) - 0.5
    np.testing.assert_array_equal(got, transform(dy, noise, bits=2))


@pytest.mark.parametrize(
    ("make", "bits", "want"),
    [
        (unsigned_codes, 1, [0, 1]),
        (unsigned_codes, 2, [0, 1, 2, 3]),
        (signed_codes, 2, [-1, 0, 1]),
        (signed_codes, 3, [-3, -2, -1, 0, 1, 2, 3]),
        (odd_codes, 1, [-1, 1]),
        (odd_codes, 2, [-3, -1, 1, 3]),
    ],
)
def test_integer_codes(make, bits, want):
    np.testing.assert_array_equal(make(bits), want)


def test_a_learned_number_stays_positive():
    p = positive_one()
    assert (p.value, p.group) == (1, "quantizer")
    assert p.project is positive
    assert p.project(np.array(-1.0)) == np.finfo(np.float32).tiny
    assert p.project(np.array(0.25)) == 0.25


def test_modules_have_few_bits_and_no_clipped_gradients_unless_they_are_asked():
    every = [getattr(qz, name) for name in dir(qz)]
    usual = [getattr(m, "bits", None) for m in every if isinstance(m, type)]
    bits = {n for n in usual if isinstance(n, int)}
    assert bits == {1, 2, 4, 8}
    assert not qz.ABCWeight.clip_grad
    assert not qz.FixedPoint.clip_grad
