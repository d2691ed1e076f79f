"""What does this PyTorch module do at its kinks?  Mask and scale gradient, identified.

The module is a learned-step quantizer as it is often written: round with a detached
residual, clamp, and a gradient scale. Asked are its forward and its gradients.
"""

import argparse
import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from refqnn._types import Array
from refqnn.conformance import identify


def module(x: Any, s: Any, zero_point: int, q_min: int, q_max: int) -> Any:
    """Quantize with a learned step: the code under judgement."""
    import torch  # noqa: PLC0415 - optional

    g = 1 / math.sqrt(x.numel() * q_max)
    s = s.detach() + g * (s - s.detach())
    u = torch.clamp(x / s, q_min - zero_point, q_max - zero_point)
    return s * (u + (torch.round(u) - u).detach())


def implementation(*inputs: Any) -> tuple[Array, Array, Array]:
    """Return y, dx and ds of the module."""
    import torch  # noqa: PLC0415 - optional

    x, scale, zero_point, q_min, q_max, dy = inputs
    leaf = torch.tensor(np.asarray(x), requires_grad=True)
    step = torch.tensor(float(scale), requires_grad=True)
    y = module(leaf, step, int(zero_point), q_min, q_max)
    y.backward(torch.tensor(np.asarray(dy)))
    return tuple(np.asarray(t.detach()) for t in (y, leaf.grad, step.grad))


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Identify the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(argv)
    found = identify(implementation, "fake_quantize")
    print(json.dumps(found.as_dict()) if options.json else found)
    return found.as_dict()


if __name__ == "__main__":
    main()
