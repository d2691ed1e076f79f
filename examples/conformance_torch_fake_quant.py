"""What does this PyTorch module do at its kinks?  Mask and scale gradient, identified.

The module is a learned-step quantizer as it is often written: round with a detached
residual, clamp, and a gradient scale. Asked are its forward and its gradients. It runs
in a process of its own, which imports torch: what torch starts or breaks stays there.
"""

import math
import sys

import numpy as np

from refqnn.conformance import Child, identify


def module(x, s, zero_point, q_min, q_max):
    """Quantize with a learned step: the code under judgement."""
    import torch  # noqa: PLC0415 - in the process of its own

    g = 1 / math.sqrt(x.numel() * q_max)
    s = s.detach() + g * (s - s.detach())
    u = torch.clamp(x / s, q_min - zero_point, q_max - zero_point)
    return s * (u + (torch.round(u) - u).detach())


def implementation(x, scale, zero_point, q_min, q_max, dy):
    """Return y, dx and ds of the module."""
    import torch  # noqa: PLC0415 - in the process of its own

    leaf = torch.tensor(np.asarray(x), requires_grad=True)
    step = torch.tensor(float(scale), requires_grad=True)
    y = module(leaf, step, int(zero_point), q_min, q_max)
    y.backward(torch.tensor(np.asarray(dy)))
    return tuple(np.asarray(t.detach()) for t in (y, leaf.grad, step.grad))


if __name__ == "__main__":
    with Child(implementation, start="spawn", seconds=60) as child:
        verdict = identify(child, "fake_quantize")
    print(verdict)
    if not verdict.explained:
        sys.exit("the module is none of the known variants")
