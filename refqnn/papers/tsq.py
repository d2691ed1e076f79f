"""Step 2 of TSQ for a whole ResNet: ternary weights that give the codes of step 1.

Wang, Hu, Zhang, Zhang, Liu, Cheng. Two-Step Quantization for Low-Bit Neural Networks.
CVPR 2018. Step 1 has trained a network with float weights and quantized activations.
Here its layers become ternary, one after the other, each read from the ternary layers
before it (``quantizers.learn_transformation``).

Between a convolution and the quantizer that reads it lie a batch norm with its running
statistics, s u + b, and maybe a shortcut. Both are exact in the problem of a channel:

    Q(s u + b + shortcut),  u = X^T w / s,  w = alpha t   ->   Q(X^T w + offset)

so that w / s are the weights; a channel of s = 0 keeps its own. Chosen here: the
lambdas, the positions that are drawn, and that a channel keeps its ternary start where
the learned weights give the codes no better.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from refqnn import fast
from refqnn._types import Array, Float
from refqnn.core import Run, named_modules
from refqnn.geometry import window, windows
from refqnn.nn import BasicBlock, Conv2d, carry_over
from refqnn.quantizers import Transformation, learn_transformation, tsq_activation

#: of the sweeps, from loose to tight; seven of them come a tenth nearer to the codes
LAMS = (0.01, 0.1, 1.0, 10.0)


def learn_second_step(
    first: Any,
    network: Any,
    images: Array,
    *,
    rng: np.random.Generator,
    positions: int,
) -> list[tuple[float, float]]:
    """Give ``network``, ternary, weights that reproduce the codes of ``first``.

    images: (N, C, H, W)  ->  (before, after) a layer, in order: mean square distance
    from the codes at ``positions`` drawn pixels, of the ternary start and of what was
    learned
    """
    carry_over(first, network)
    seen = values_by_layer(first, images)
    codes = [seen[id(quant)][1] for _, _, _, quant in fitted_layers(first)]
    return [
        fit_layer(*layer, values_by_layer(network, images), wanted, positions, rng)
        for layer, wanted in zip(fitted_layers(network), codes, strict=True)
    ]


def fitted_layers(network: Any) -> Iterator[tuple[Conv2d, Any, Any, Any]]:
    """Yield (convolution, batch norm, ReLU, quantizer) of every block, in order."""
    for _, block in named_modules(network):
        if isinstance(block, BasicBlock):
            yield block.conv1, block.norm1, block.relu1, block.quant1
            yield block.conv2, block.norm2, block.relu2, block.quant2


def values_by_layer(network: Any, images: Array) -> dict[int, tuple[Array, Array]]:
    """Map the ``id`` of every layer to its input and output in evaluation."""
    seen: dict[int, tuple[Array, Array]] = {}
    run = Run(observe=lambda m, x, y: seen.__setitem__(id(m), (x, y)), backend=fast)
    network.forward(images, run)
    return seen


def fit_layer(
    conv: Conv2d,
    norm: Any,
    relu: Any,
    quant: Any,
    seen: dict[int, tuple[Array, Array]],
    wanted: Float,
    positions: int,
    rng: np.random.Generator,
) -> tuple[float, float]:
    """Learn the channels of a convolution; return the error before and after.

    wanted: (N, O, Ho, Wo), delta times the codes of step 1. The errors are means over
    channels of s != 0, 0 where there is none.
    """
    x, u = seen[id(conv)]
    s = norm.gamma.value / np.sqrt(norm.var.value + norm.eps)
    offset = seen[id(relu)][0] - s[:, None, None] * u
    n, _, h, w = wanted.shape
    drawn = rng.choice(n * h * w, min(positions, n * h * w), replace=False)
    at = window(conv.w.value.shape[2:], stride=conv.stride, padding=conv.padding)
    # (N, C, Ho, Wo, Kh, Kw) -> (C Kh Kw, positions)
    columns = windows(x, at, 0.0).transpose(1, 4, 5, 0, 2, 3)
    columns = columns.reshape(-1, n * h * w)[:, drawn]
    by_channel = [
        a.transpose(1, 0, 2, 3).reshape(len(s), -1)[:, drawn] for a in (wanted, offset)
    ]
    eps, delta = map(float, quant.interval())
    errors = []
    for o, (y, added) in enumerate(zip(*by_channel, strict=True)):
        if s[o] == 0:
            continue
        kept = s[o] * conv.w.value[o].ravel()
        how: Any = {"eps": eps, "delta": delta, "bits": quant.bits, "offset": added}
        ways = [
            learn_transformation(kept, columns, y, **how, lams=lams)
            for lams in ((), LAMS)
        ]
        both = [distance(way, columns, y, **how) for way in ways]
        learned = ways[int(both[1] < both[0])]
        conv.w.value[o] = (learned.alpha / s[o] * learned.t).reshape(
            conv.w.value[o].shape
        )
        errors.append((both[0], min(both)))
    before, after = np.mean(errors, axis=0) if errors else (0.0, 0.0)
    return float(before), float(after)


def distance(
    way: Transformation,
    x: Float,
    y: Float,
    *,
    eps: float,
    delta: float,
    bits: int,
    offset: Float,
) -> float:
    """mean (y - Q(alpha X^T t + offset))^2

    x: (d, N), y, offset: (N,)  ->  ()
    """
    v = way.alpha * (x.T @ way.t) + offset
    q, _ = tsq_activation(v, np.array(eps), np.array(delta), bits=bits)
    return float(np.mean((y - q) ** 2))
