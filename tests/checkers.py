"""Laws that this package alone is held to, beside those of ``refqnn.testing``."""

import numpy as np

from refqnn.core import named_params, zero_grads
from refqnn.integer.affine import quantize
from refqnn.testing.networks import disagreement, slopes
from refqnn.testing.trials import as_tuple

#: slopes of modules are judged as if they were at least so large: pixels are up to 255
FLOOR = 30.0


def check_module(module, x, run, rng, *, step=1e-6, bound=1e-6):
    """Compare dx and every parameter's gradient with the slope along a direction.

    The pass is recorded once and replayed with its rounding residuals held. x and the
    parameters are float64.
    """
    dx, loss = recorded_loss(module, x, run, rng)
    along = rng.standard_normal(x.shape) * max(np.abs(x).max(), 1) / 10
    slope = (loss(x + step * along) - loss(x - step * along)) / (2 * step)
    compare("dx", slope, np.sum(dx * along), bound)
    for name, param in named_params(module).items():
        compare(name, *slopes(param, lambda: loss(x), rng, step), bound)


def check_direction(module, x, run, rng, *, step, bound):
    """Compare all gradients of a deep network at once: the slope of one direction."""
    _, loss = recorded_loss(module, x, run, rng)
    params = [*named_params(module).values()]
    values = [param.value for param in params]
    along = [rng.standard_normal(v.shape) * (np.abs(v).mean() + 0.1) for v in values]
    ends = []
    for way in (step, -step):
        for param, value, part in zip(params, values, along, strict=True):
            param.value = value + way * part
        ends.append(loss(x))
    claimed = sum(np.sum(p.grad * a) for p, a in zip(params, along, strict=True))
    assert claimed != 0, "all: no gradient arrives"
    compare("all", (ends[0] - ends[1]) / (2 * step), claimed, bound)


def recorded_loss(module, x, run, rng):
    """Record a pass and its gradients; give dx, and the loss <dy, y> as replayed."""
    recording = run.recording()
    y, cache = module.forward(x, recording)
    dy = rng.standard_normal(y.shape)
    zero_grads(module)
    dx = module.backward(dy, cache)

    def loss(value):
        replay = run.replaying(recording.tape or [])
        return float(np.sum(dy * module.forward(value, replay)[0]))

    return dx, loss


def compare(name, slope, claimed, bound):
    """Compare two derivatives, relative to the slope or to ``FLOOR``."""
    close = abs(claimed - slope) <= bound * (FLOOR + abs(slope))
    assert close, disagreement(name, slope, claimed)


def check_integer_codes(module, v):
    """q = integer.quantize(v, scale, zero_point), for a grid that rounds a quotient"""
    q, scale, zero_point = module.quantize(v)
    least, most = int(module.grid()[0]), int(module.grid()[-1])
    want = quantize(v, scale, zero_point, q_min=least, q_max=most)
    np.testing.assert_array_equal(q, want, strict=True)


def check_propagation(pair, forward, backward, rng):
    """NaN stays where it is, without a gradient and without a share in any other."""
    args, options = pair.draw(rng)
    x, *rest = args
    at = (0,) * x.ndim
    spoiled, without = x.copy(), x.copy()
    spoiled[at], without[at] = np.nan, 0
    y, cache = forward(spoiled, *rest, **options)
    want, want_cache = pair.forward(without, *rest, **options)
    want[at] = np.nan
    np.testing.assert_array_equal(y, want)
    dy = rng.normal(size=y.shape)
    grads = as_tuple(backward(dy, cache))
    dy[at] = 0
    others = as_tuple(pair.backward(dy, want_cache))
    for grad, other in zip(grads, others, strict=True):
        np.testing.assert_array_equal(grad, other)
    again = forward(spoiled, *rest, **options, frozen=cache)[0]
    np.testing.assert_allclose(again, y, rtol=0, atol=1e-14)


def check_rejects_wrong_gradients(pair, args, options):
    """A dy that is not of the shape and kind of y raises a ValueError that names it."""
    y, cache = pair.forward(*args, **options)
    for k in range(len(as_tuple(y))):
        dy = [np.asarray(part) for part in as_tuple(y)]
        for wrong in (dy[k][None], np.zeros((*dy[k].shape, 2)), dy[k].astype(np.int64)):
            if wrong.shape == ():
                continue
            swapped = tuple(wrong if j == k else d for j, d in enumerate(dy))
            try:
                pair.backward(swapped if isinstance(y, tuple) else wrong, cache)
            except ValueError as error:
                if not str(error).startswith("d"):
                    text = f"the error does not begin with the gradient: {error}"
                    raise AssertionError(text) from error
                continue
            raise AssertionError(f"a dy of {wrong.dtype}{wrong.shape} is accepted")
