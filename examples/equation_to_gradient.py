"""A quantizer from its equations to its gradient: LSQ, with three bits.

Weights v are divided by a learned step s, clipped, rounded, and multiplied by s again.
Rounding has no useful derivative, so the backward pass is that of a smooth function:
the same one with its rounding residual held. That function is written down, so its
gradient can be checked by finite differences, the learned step's included.
"""

import numpy as np

from refqnn.quantizers import lsq, lsq_backward

bits = 3
q_n, q_p = 2 ** (bits - 1), 2 ** (bits - 1) - 1  # codes from -4 to 3
rng = np.random.default_rng(0)
v = np.sort(rng.normal(size=8))
s = np.array(0.4)

v_hat, cache = lsq(v, s, q_n=q_n, q_p=q_p)
print("v     ", *(f"{value:7.3f}" for value in v))
print("code  ", *(f"{code:7.0f}" for code in cache.q))
print("v_hat ", *(f"{value:7.3f}" for value in v_hat))

# the loss is <dy, v_hat>, so that dy is its gradient by v_hat
dy = rng.normal(size=v.shape)
dv, ds = lsq_backward(dy, cache)
print("dy    ", *(f"{value:7.3f}" for value in dy))
print("dv    ", *(f"{value:7.3f}" for value in dv), "  0 where v is clipped")


def held(v, s):
    """Return the loss with the rounding residuals of above."""
    return float(np.sum(dy * lsq(v, s, q_n=q_n, q_p=q_p, frozen=cache)[0]))


h = 1e-6
by_differences = (held(v, s + h) - held(v, s - h)) / (2 * h)
print(f"\nds by the equation     {float(ds):.9f}")
print(f"ds by differences      {by_differences:.9f}")

steps = np.linspace(0.1, 1, 200)
errors = [np.mean((lsq(v, np.array(t), q_n=q_n, q_p=q_p)[0] - v) ** 2) for t in steps]
best = steps[int(np.argmin(errors))]
print(f"\nthe step of the smallest square error is {best:.3f}; at 0.4 it is")
print(f"{np.mean((v_hat - v) ** 2):.5f} instead of {min(errors):.5f}")
assert abs(by_differences - ds) < 1e-6 * (1 + abs(ds))
