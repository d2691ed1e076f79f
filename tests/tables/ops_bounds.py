"""How twins of float pairs are drawn, and how far from the definition they may be."""

import numpy as np
from tables import draws

from refqnn import ops
from refqnn.testing.twins import map_arrays


def typed(value, dtype):
    """Return the same with its float arrays in ``dtype``."""
    return map_arrays(value, lambda a: a.astype(dtype) if a.dtype.kind == "f" else a)


def forward_draw(draw):
    """Draw in either dtype."""

    def drawn(rng):
        args, options = draw(rng)
        return typed(args, draws.choice(rng, np.float32, np.float64)), options

    return drawn


def backward_draw(op, draw):
    """Draw (dy, cache) of a forward of the definition."""

    def drawn(rng):
        args, options = forward_draw(draw)(rng)
        y, cache = op(*args, **options)
        return (rng.normal(size=y.shape).astype(y.dtype), cache), {}

    return drawn


def eps(a):
    return float(np.finfo(a.dtype).eps)


def rounded_once(a, want, scale):
    """One rounding to the dtype of a, and float64 sums of terms up to ``scale``."""
    tiny = float(np.finfo(a.dtype).smallest_subnormal)
    return eps(a) * np.abs(want) + 256 * eps(np.zeros(1)) * scale + tiny


def top(a):
    return np.abs(a, dtype=np.float64).max(initial=0)


def pool_bound(args, _, want):
    return rounded_once(args[0], want, top(args[0]))


def stretch(x, std):
    """M (1 + max|x| / std)^2, the condition of normalizing x."""
    m = max(x.size // x.shape[1], 1)
    return m * (1 + top(x) / std.min()) ** 2


def norm_bound(args, kwargs, want):
    x, gamma, beta, *given = args
    var = given[1] if given else ops.batch_norm(x, gamma, beta)[1].var
    std = np.sqrt(var + kwargs["eps"])
    offset = top(given[0]) if given else 0
    scale = stretch(x, std) * (1 + top(gamma)) * (1 + offset) + top(beta)
    return rounded_once(x, want, scale)


def norm_backward_bound(args, _, want):
    dy, cache = args
    std = np.sqrt(cache.var + cache.eps)
    m = max(dy.size // dy.shape[1], 1)
    scale = m * stretch(cache.x, std) * (1 + top(cache.mean)) * (1 + 1 / std.min()) ** 2
    scale *= top(dy) * (1 + top(cache.gamma))
    return tuple(rounded_once(dy, part, scale) for part in want)


def chain(count, a, size):
    """count eps sum|a||b|: the products added one by one, each rounded."""
    tiny = float(np.finfo(a.dtype).tiny)
    return (count + 2) * (eps(a) * size + tiny)


def conv2d_bound(args, kwargs, want):  # noqa: ARG001 - the signature of bounds
    x, w, b = (None if a is None else np.abs(a, dtype=np.float64) for a in args)
    size, _ = ops.conv2d(x, w, b, **kwargs)
    return chain(w[0].size, args[0], size)


def conv2d_grads_bound(args, _, want):
    dy, cache = args
    sizes = ops.conv2d_backward(np.abs(dy, dtype=np.float64), magnitudes(cache))
    pixels, taps = dy.size // dy.shape[1], cache.w.size // cache.groups
    counts = (taps, pixels, pixels)
    bounds = zip(counts, [s for s in sizes if s is not None], strict=False)
    assert len(want) == 2 + cache.has_bias
    return tuple(chain(count, dy, size) for count, size in bounds)


def magnitudes(value):
    return map_arrays(value, lambda a: np.abs(a, dtype=np.float64))


def input_grad_draw(rng):
    (dy, cache), _ = backward_draw(ops.conv2d, draws.conv2d)(rng)
    return (dy, cache.w, cache.x.shape, cache.at, cache.groups), {}


def weight_grad_draw(rng):
    (dy, cache), _ = backward_draw(ops.conv2d, draws.conv2d)(rng)
    return (dy, cache.x, cache.at, cache.groups), {}


def input_grad_bound(args, _, want):  # noqa: ARG001 - the signature of bounds
    size = ops.conv2d_input_grad(*magnitudes(args))
    return chain(args[1].size, args[0], size)


def weight_grad_bound(args, _, want):  # noqa: ARG001 - the signature of bounds
    dy = args[0]
    size = ops.conv2d_weight_grad(*magnitudes(args))
    return chain(dy.size // dy.shape[1], dy, size)
