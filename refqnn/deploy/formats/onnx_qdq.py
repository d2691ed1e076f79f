"""The layers of an integer network as floating-point ones between Quantize operators.

Every stored code is dequantized where it is read:

    codes -> DequantizeLinear -> Conv, Gemm, Add, GlobalAveragePool -> QuantizeLinear

This is what runtimes fuse to their own kernels. Weights and biases are integers with
scales: s_w in float32, and s_x s_w, which is what one whole step of a sum is worth.
"""

import numpy as np

from refqnn.deploy.build import float32_weight_scale
from refqnn.deploy.fold import Grid
from refqnn.deploy.formats.onnx_graph import (
    Graph,
    clip_codes,
    constant,
    grid_constants,
    node,
    pad_channels,
    skip_pixels,
    weight_constants,
    window_of,
)
from refqnn.deploy.steps import Computing, PoolStep, ResidualStep, Step, Sum


def qdq_step(graph: Graph, step: Computing, steps: dict[str, Step]) -> None:
    """Add one layer, from the codes it reads to those it stores."""
    if isinstance(step, PoolStep):
        x = real(graph, step.name, steps[step.source])
        mean = node(graph, "GlobalAveragePool", [x], f"{step.name}.mean")
        codes = quantize(graph, step, mean)
        codes = node(graph, "Flatten", [codes], f"{step.name}.flat", axis=1)
        clip_codes(graph, codes, step)
        return
    y = real_sum(graph, step.sum, steps[step.source])
    if isinstance(step, ResidualStep):
        y = node(graph, "Add", [y, real_skip(graph, step, steps)], f"{step.name}.total")
    clip_codes(graph, quantize(graph, step, y), step)


def real(graph: Graph, reader: str, step: Step) -> str:
    """Return stored codes as numbers, for one reader."""
    name = f"{reader}.from"
    inputs = [step.name, *grid_constants(graph, name, step.grid)]
    return node(graph, "DequantizeLinear", inputs, f"{name}.real")


def quantize(graph: Graph, step: Step, y: str) -> str:
    """Return the codes of numbers on the grid of the step, not yet restricted to it."""
    inputs = [y, *grid_constants(graph, step.name, step.grid)]
    return node(graph, "QuantizeLinear", inputs, f"{step.name}.rounded")


def real_sum(graph: Graph, total: Sum, source: Step) -> str:
    """Return the output of a convolution or a product, with its bias."""
    name = total.name
    w, b = real_weights(graph, total, source.grid)
    x = real(graph, name, source)
    if total.w.ndim == 2:
        return node(graph, "Gemm", [x, w, b], f"{name}.real")
    return node(graph, "Conv", [x, w, b], f"{name}.real", **window_of(total))


def real_weights(graph: Graph, total: Sum, x: Grid) -> tuple[str, str]:
    """Return dequantized weights, a scale per channel, and bias."""
    name = total.name
    w, unused, zero = weight_constants(graph, total, 0)
    del graph.constants[unused]
    channels = len(total.w)
    graph.constants[zero] = np.full(channels, graph.constants[zero])
    w_scale = float32_weight_scale(total, x)
    scale = constant(graph, f"{name}.w_scale", w_scale, np.float32)
    axis = 0 if total.w.ndim == 4 else 1
    w = node(graph, "DequantizeLinear", [w, scale, zero], f"{name}.w_real", axis=axis)
    whole = np.rint(np.ldexp(total.bias.astype(np.float64), -total.fraction_bits))
    b_scale = constant(
        graph, f"{name}.b_scale", np.float32(x.scale) * w_scale, np.float32
    )
    bias = constant(graph, f"{name}.bias", whole, np.int32)
    zeros = constant(graph, f"{name}.b_zero_point", np.zeros(channels), np.int32)
    b = node(
        graph, "DequantizeLinear", [bias, b_scale, zeros], f"{name}.b_real", axis=0
    )
    return w, b


def real_skip(graph: Graph, step: ResidualStep, steps: dict[str, Step]) -> str:
    """Add the skip in floats: a 1x1 convolution, or dequantized codes."""
    skip, source = step.skip, steps[step.skip_source]
    if isinstance(skip, Sum):
        return real_sum(graph, skip, source)
    kept = skip_pixels(graph, skip, real(graph, skip.name, source))
    return pad_channels(graph, skip, kept, source.shape[0], f"{skip.name}.real")
