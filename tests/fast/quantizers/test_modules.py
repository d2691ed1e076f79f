"""A module gives the same on either side."""

import numpy as np
import pytest

from refqnn import fast
from refqnn import quantizers as qz
from refqnn.core import Run, named_buffers, named_params

MODULES = [
    lambda: qz.FixedPoint(bits=4),
    lambda: qz.FixedPoint(bits=3, clip_grad=True),
    qz.Ternary,
    lambda: qz.Ternary(variant="twn"),
    lambda: qz.Binary(group="layer"),
    lambda: qz.Affine(bits=4),
    lambda: qz.Affine(bits=8, narrow_range=True, rounding="half_up"),
    lambda: qz.LSQ(bits=4),
    lambda: qz.LSQ(bits=2, of="activation"),
]


@pytest.mark.parametrize("make", MODULES)
def test_both_backends_give_the_same(make, rng):
    v, dy = rng.normal(size=(2, 4, 3, 2, 2)).astype(np.float32)
    sides = []
    for run in (Run(training=True), Run(training=True, backend=fast)):
        module, tape = make(), run.recording()
        y, cache = module.forward(v, tape)
        dv = module.backward(dy, cache)
        again, _ = module.forward(v + 1, run.replaying(tape.tape))
        state = [b.value for b in named_buffers(module).values()]
        sides.append(([y, dv, again, *state], named_params(module)))
    (want, want_params), (got, got_params) = sides
    for ours, theirs in zip(got, want, strict=True):
        np.testing.assert_array_equal(ours, theirs, strict=True)
    for name, param in want_params.items():
        np.testing.assert_allclose(got_params[name].grad, param.grad, rtol=1e-6)
