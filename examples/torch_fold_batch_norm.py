"""A folded convolution with a gamma of zero: which gradients does PyTorch get?

Quantization-aware training folds the batch norm into the weights and quantizes those:
W_f = gamma / sigma W. A channel whose gamma is 0 has folded weights of 0. Frameworks
that get the batch's statistics back by dividing the folded output by gamma / sigma
(PyTorch's own fused modules do) divide by 0 there; the gradient of gamma is finite.
"""

import math

import numpy as np
import torch

from refqnn.papers.quantnas import folded_conv2d, folded_conv2d_backward

F = torch.nn.functional

rng = np.random.default_rng(0)
x, w = rng.normal(size=(4, 3, 6, 6)), rng.normal(size=(5, 3, 3, 3))
gamma, beta, s = rng.normal(size=5), rng.normal(size=5), np.array(0.1)
gamma[2] = 0.0
dy = rng.normal(size=(4, 5, 6, 6))

y, cache = folded_conv2d(x, w, gamma, beta, s, q_n=8, q_p=7, padding=1)
ours = folded_conv2d_backward(dy, cache)


def folded(x, w, gamma, beta, s):
    """Fold by the statistics of the batch, quantize with a learned step, convolve."""
    z = F.conv2d(x, w, padding=1)
    mean, var = z.mean((0, 2, 3)), z.var((0, 2, 3), unbiased=False)
    gain = gamma / torch.sqrt(var + 1e-5)
    u = gain.reshape(-1, 1, 1, 1) * w / s
    low, high = torch.full_like(u, -8), torch.full_like(u, 7)
    u = torch.where(u <= low, low, torch.where(u >= high, high, u))
    w_q = s * (u + (u.round() - u).detach())
    return F.conv2d(x, w_q, beta - gain * mean, padding=1)


def divided(x, w, gamma, beta, _s):
    """Get the convolution back from the folded one: divide by gamma / sigma."""
    gain = gamma / math.sqrt(1 + 1e-5)
    z = F.conv2d(x, gain.reshape(-1, 1, 1, 1) * w, padding=1) / gain.reshape(-1, 1, 1)
    return F.batch_norm(z, None, None, gamma, beta, training=True)


for name, form in (("as equations (1) to (4)", folded), ("by division", divided)):
    leaves = [torch.tensor(a, requires_grad=True) for a in (x, w, gamma, beta, s)]
    out = form(*leaves)
    out.backward(torch.from_numpy(dy))
    print(name)
    for what, leaf, grad in zip(("dx", "dw", "dgamma", "dbeta", "ds"), leaves, ours,
                                strict=True):  # fmt: skip
        if leaf.grad is None:
            continue
        theirs = leaf.grad.numpy()
        lost = int((~np.isfinite(theirs)).sum())
        error = np.abs(theirs - grad).max() / np.abs(grad).max()
        says = f"{lost} of {theirs.size} are NaN" if lost else f"error {error:.1e}"
        print(f"  {what:6} {says}")
        assert form is divided or error < 1e-10
print(f"dgamma of the channel whose gamma is 0: {ours.dgamma[2]:.6f}")
