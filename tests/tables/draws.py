"""Random inputs of every float pair: tiny, of every kind, away from kinks and ties."""

import math

import numpy as np


def choice(rng, *options):
    return options[rng.integers(len(options))]


def shape(rng, least=0, rank=None):
    rank = rng.integers(1, 5) if rank is None else rank
    return (
        int(rng.integers(least, 3)),
        *(int(s) for s in rng.integers(1, 4, rank - 1)),
    )


def planes(rng, channels=None, least=0):
    """A shape (N, C, H, W), the batch possibly empty."""
    n, c = int(rng.integers(least, 4)), int(rng.integers(1, 4))
    h, w = (int(s) for s in rng.integers(1, 6, 2))
    return n, c if channels is None else channels, h, w


def separated(rng, shape):
    """Distinct numbers in [-2, 2], no two closer than 2 / size."""
    size = math.prod(shape)
    step = 4 / max(size, 1)
    wobble = rng.uniform(-0.25, 0.25, size)
    return ((rng.permutation(size) + wobble) * step - 2).reshape(shape)


def elementwise(rng):
    return (rng.normal(0, 2, shape(rng)),), {}


def kinked(rng):
    """Numbers in (-3, 9) at least 0.05 away from 0 and from 6."""
    x = rng.uniform(-3, 9, shape(rng))
    near = np.minimum(np.abs(x), np.abs(x - 6)) < 0.05
    return (np.where(near, x + 0.1, x),), {}


def add(rng):
    n, *rest = shape(rng, least=1)
    thin = tuple(int(choice(rng, 1, s)) for s in rest)
    lead = choice(rng, (n,), (1,), ()) if len(thin) == 0 else choice(rng, (n,), ())
    return (rng.normal(size=(n, *rest)), rng.normal(size=(*lead, *thin))), {}


def geometry(rng, *, dilations=(1, 2)):
    """Options of a window, and the smallest plane it fits on."""
    kernel = tuple(int(k) for k in rng.integers(1, 4, 2))
    dilation = tuple(int(choice(rng, *dilations)) for _ in range(2))
    reach = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True))
    pads = tuple(tuple(int(p) for p in rng.integers(0, min(3, r), 2)) for r in reach)
    padding = choice(
        rng, 0, min(pads[0][0], pads[1][0]), (pads[0][0], pads[1][0]), pads
    )
    stride = choice(rng, 1, 2, 3, (2, 1), (1, 3))
    size = tuple(int(r + rng.integers(0, 4)) for r in reach)
    return kernel, size, {"stride": stride, "padding": padding, "dilation": dilation}


def conv2d(rng):
    kernel, size, options = geometry(rng)
    groups = int(rng.integers(1, 4))
    cg, og = (int(k) for k in rng.integers(1, 3, 2))
    n = int(rng.integers(0, 3))
    x = rng.normal(size=(n, groups * cg, *size))
    w = rng.normal(size=(groups * og, cg, *kernel))
    b = choice(rng, None, rng.normal(size=groups * og))
    return (x, w, b), {**options, "groups": groups}


def linear(rng):
    n, i, o = int(rng.integers(0, 4)), *(int(k) for k in rng.integers(1, 5, 2))
    b = choice(rng, None, rng.normal(size=o))
    return (rng.normal(size=(n, i)), rng.normal(size=(o, i)), b), {}


def normed(rng, least=0):
    n, c, h, w = planes(rng, least=least)
    x = separated(rng, choice(rng, (n, c, h, w), (n, c)))
    gamma, beta = rng.normal(size=(2, c))
    return x, gamma, beta


def batch_norm(rng):
    return normed(rng), {"eps": choice(rng, 1e-5, 0.1)}


def batch_norm_inference(rng):
    x, gamma, beta = normed(rng)
    mean, var = rng.normal(size=gamma.size), rng.uniform(0.3, 2, gamma.size)
    return (x, gamma, beta, mean, var), {"eps": choice(rng, 1e-5, 0.1)}


def range_batch_norm(rng):
    x, gamma, beta = normed(rng, least=2)
    m = x.size // x.shape[1]
    even = [k for k in range(1, m) if m % k == 0 and m // k > 1]
    return (x, gamma, beta), {
        "chunks": choice(rng, *even),
        "constant": choice(rng, "paper", "released", 0.3),
        "eps": choice(rng, 1e-5, 0.1),
    }


def max_pool2d(rng):
    kernel, size, options = geometry(rng)
    if max(options["dilation"]) > 1:
        options["padding"] = 0  # a dilated window may step over a small plane
    x = separated(rng, (int(rng.integers(0, 3)), 2, *size))
    options["stride"] = choice(rng, None, options["stride"])
    return (x,), {"kernel": kernel, **options, "ceil_mode": choice(rng, False, True)}


def avg_pool2d(rng):
    kernel, size, options = geometry(rng, dilations=(1,))
    x = rng.normal(size=(int(rng.integers(0, 3)), 2, *size))
    del options["dilation"]
    return (x,), {
        "kernel": kernel,
        **options,
        "ceil_mode": choice(rng, False, True),
        "count_include_pad": choice(rng, False, True),
    }


def global_avg_pool2d(rng):
    return (rng.normal(size=planes(rng)),), {}


def softmax(rng):
    x = rng.normal(0, 3, shape(rng, least=1))
    return (x,), {"axis": int(rng.integers(-x.ndim, x.ndim))}


def softmax_cross_entropy(rng):
    n, k = (int(s) for s in rng.integers(1, 5, 2))
    smoothing = choice(rng, 0.0, 0.1, 1.0)
    labels = rng.integers(0, k, n)
    return (rng.normal(0, 3, (n, k)), labels), {"label_smoothing": smoothing}


def lstm_cell(rng):
    n, i, d = int(rng.integers(0, 3)), *(int(k) for k in rng.integers(1, 4, 2))
    x, h, c = (rng.normal(size=(n, k)) for k in (i, d, d))
    w_x, w_h, b = (rng.normal(size=(4 * d, *k)) for k in ((i,), (d,), ()))
    return (x, h, c, w_x, w_h, b), {}


def sign(rng):
    return elementwise(rng)[0], {"closed": choice(rng, False, True)}


def clip(rng):
    lo = float(rng.normal())
    return (*elementwise(rng)[0], lo, lo + 1.5), {"closed": choice(rng, False, True)}
