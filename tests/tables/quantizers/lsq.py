"""LSQ: a learned step, its weight grid and its activation grid."""

import numpy as np
from tables.quantizers.row import Row, laws, layer, pair, weights

from refqnn import quantizers as qz

BITS = {qz.LSQ: range(2, 17)}


def stepped_lsq(of):
    module = qz.LSQ(bits=4, of=of)
    module.set_step(0.3)
    return module


def lsq_row(of, q_n, q_p):
    return Row(
        f"lsq, {of}",
        ("LSQ", "1-5", "learned_step_size.py"),
        ("2^b", 4),
        laws("ynnynynyyy", [-2.5], [5], [5], [0.375]),
        groups=layer,
        apply=lambda v, k=1: qz.lsq(v, np.array(0.3) * k, q_n=q_n, q_p=q_p)[0],
        module=lambda: stepped_lsq(of),
        codes=lambda _, x: qz.lsq(x, np.array(0.3), q_n=q_n, q_p=q_p)[1].q,
    )


ROWS = [lsq_row("weight", 8, 7), lsq_row("activation", 0, 15)]


def lsq_weights(rng):
    v = weights(rng)
    v.flat[:3] = (0.6, -0.8, 2.0)[: v.size]  # on and beyond both ends of the grid
    return (v, np.array(0.2)), {"q_n": 4, "q_p": 3, "grad_scale": 0.5}


def per_filter_step(rng):
    v = weights(rng)
    s = rng.uniform(0.1, 0.5, (v.shape[0], *(1,) * (v.ndim - 1)))
    return (v, s), {"q_n": 4, "q_p": 3}


V = np.ones((1, 2))
PAIRS = [
    pair(
        "lsq",
        lsq_weights,
        learned=2,
        wrong=(
            ("step size s must be positive", (V, np.array(0.0)), {"q_n": 4, "q_p": 3}),
            ("s must be finite", (V, np.array(np.nan)), {"q_n": 4, "q_p": 3}),
            ("s must broadcast to v", (V, np.ones(3)), {"q_n": 4, "q_p": 3}),
        ),
    ),
    pair("lsq, a step a filter", per_filter_step, learned=2),
]


def ds_bound(args, _, want):
    """Roundings of q - u, of its product with dv_hat, of the sum and of its scaling."""
    dv_hat, cache = args
    dv, _ = want
    terms = np.abs(dv_hat * cache.residual(), dtype=np.float64)
    thin = np.finfo(dv_hat.dtype)
    share = cache.grad_scale * (4 * float(thin.eps) + 2 * terms.size * 2.0**-53)
    return np.zeros_like(dv), share * terms.sum() + terms.size * float(thin.tiny)


BOUNDS = {"lsq_backward": ds_bound}
