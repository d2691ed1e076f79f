"""A trained, fake-quantized network as QONNX: Quant nodes with any number of bits.

Pappalardo, Umuroglu, Blott, Mitrevski, Hawks, Tran, Loncar, Summers, Borras, Muhizi,
Trahms, Hsu, Hauck, Duarte. QONNX: Representing Arbitrary-Precision Quantized Neural
Networks. arXiv:2206.07527.

    Quant         y = s (round(clip(x / s + z, low, high)) - z), ties to even
    BipolarQuant  y = s where x >= 0, else -s

Weights are written as they are on their grid, s q, each with a Quant node that leaves
them there and says how many bits they have: so every quantizer with integer codes is
covered, however it finds them. Batch norms are not folded.

Quant adds z before it rounds, refqnn after: for an odd z they round ties differently.
After a ReLU z is 0, and they agree.
"""

from typing import Any

import numpy as np

from refqnn._types import Int
from refqnn.deploy.fold import activation_codes, weight_codes
from refqnn.deploy.formats.onnx_graph import (
    Graph,
    constant,
    model,
    node,
    onnx_type,
    pad_channels,
    skip_pixels,
)
from refqnn.deploy.plan import Plan, Stage, Weighted, plan
from refqnn.deploy.steps import Shortcut
from refqnn.geometry import Pair, pad_widths, pair

DOMAIN, VERSION = "qonnx.custom_op.general", 1


def to_qonnx(
    network: Any, *, image_size: Pair = (28, 28), batch: int | str = "N"
) -> Any:
    """Return the QONNX model of a trained, quantized network.

    pixels: (N, C, H, W) uint8  ->  logits: (N, K) float32

    The tensor that a layer hands on carries its name. ``batch`` is the number of images
    for tools that need one (FINN, the executor of qonnx).

    Raises ValueError for what cannot be deployed, for quantizers whose ties do not go
    to even, and for grids without width.
    """
    planned = plan(network)
    first = planned.stages[0]
    if first.weighted is None or first.quant is None:
        raise ValueError(f"{first.name} cannot follow the image {planned.image_name}")
    graph = Graph([], {})
    conv = first.weighted.layer
    channels = {planned.image_name: conv.w.value.shape[1] * conv.groups}
    real = {planned.image_name: image(graph, planned)}
    for stage in planned.stages:
        real[stage.name] = stage_nodes(graph, stage, real, channels)
    last = planned.stages[-1]
    h, w = pair(image_size, name="image_size", least=1)
    source = (planned.image_name, np.uint8, (batch, channels[planned.image_name], h, w))
    output = (last.name, np.float32, (batch, channels[last.name]))
    return model(graph, "qonnx", source, output, {DOMAIN: VERSION})


def image(graph: Graph, planned: Plan) -> str:
    """scale (pixel - zero_point), float32"""
    name = planned.image_name
    wide = node(graph, "Cast", [name], f"{name}.wide", to=onnx_type(np.float32))
    zero = constant(graph, f"{name}.zero_point", planned.image.zero_point, np.float32)
    centred = node(graph, "Sub", [wide, zero], f"{name}.centred")
    scale = constant(graph, f"{name}.scale", planned.image.scale, np.float32)
    return node(graph, "Mul", [centred, scale], f"{name}.real")


def stage_nodes(
    graph: Graph, stage: Stage, real: dict[str, str], channels: dict[str, int]
) -> str:
    """Add the nodes of one stage; return the name of its quantized output."""
    name, x = stage.name, real[stage.source]
    if stage.weighted is None:
        channels[name] = channels[stage.source]
        mean = node(graph, "GlobalAveragePool", [x], f"{name}.mean")
        flat = node(graph, "Flatten", [mean], f"{name}.flat", axis=1)
        return activation(graph, name, stage.quant, flat)
    channels[name] = len(stage.weighted.layer.w.value)
    if stage.quant is None:
        return linear(graph, stage.weighted, x)
    y = convolution(graph, stage.weighted, x)
    if stage.skip_source:
        skip = shortcut(graph, stage, real, channels)
        y = node(graph, "Add", [y, skip], f"{name}.total")
    y = node(graph, "Relu", [y], f"{name}.relu")
    return activation(graph, name, stage.quant, y)


def shortcut(
    graph: Graph, stage: Stage, real: dict[str, str], channels: dict[str, int]
) -> str:
    """Add the skip of a block: a convolution, or every stride-th pixel, padded."""
    x = real[stage.skip_source]
    if stage.skip is None:
        return x
    if isinstance(stage.skip, Weighted):
        return convolution(graph, stage.skip, x)
    name = stage.name.rpartition(".")[0] + ".shortcut"
    skip = Shortcut(name, 0, stage.skip.channels, stage.skip.stride, 1.0)
    kept = skip_pixels(graph, skip, x)
    return pad_channels(graph, skip, kept, channels[stage.skip_source], name)


def convolution(graph: Graph, weighted: Weighted, x: str) -> str:
    """Add quantized weights, Conv, and BatchNormalization where there is one."""
    name, layer, norm = weighted
    stride = pair(layer.stride, name="stride", least=1)
    dilation = pair(layer.dilation, name="dilation", least=1)
    (top, bottom), (left, right) = pad_widths(layer.padding)
    inputs = [x, weights(graph, name, layer), *bias(graph, name, layer)]
    y = node(
        graph,
        "Conv",
        inputs,
        f"{name}.sum",
        kernel_shape=layer.w.value.shape[2:],
        strides=list(stride),
        pads=[top, left, bottom, right],
        dilations=list(dilation),
        group=layer.groups,
    )
    if norm is None:
        return y
    names = [
        constant(graph, f"{name}.{key}", getattr(norm, key).value, np.float32)
        for key in ("gamma", "beta", "mean", "var")
    ]
    done = f"{name}.norm"
    return node(graph, "BatchNormalization", [y, *names], done, epsilon=float(norm.eps))


def linear(graph: Graph, weighted: Weighted, x: str) -> str:
    """Add Gemm, the classifier: x w^T + b; return the name of its output."""
    name, layer, _ = weighted
    inputs = [x, weights(graph, name, layer), *bias(graph, name, layer)]
    return node(graph, "Gemm", inputs, name, transB=1)


def bias(graph: Graph, name: str, layer: Any) -> list[str]:
    """Return the name of the bias in a list; an empty list for a layer without bias."""
    if layer.b is None:
        return []
    return [constant(graph, f"{name}.b", layer.b.value, np.float32)]


def weights(graph: Graph, name: str, layer: Any) -> str:
    """Add the weights on their grid and the node that states the grid."""
    q, scale, grid = weight_codes(name, layer)
    scale = scale.astype(np.float32).reshape(-1, *(1,) * (q.ndim - 1))
    w = constant(graph, f"{name}.w", scale * q, np.float32)
    s = constant(graph, f"{name}.w_scale", scale, np.float32)
    output = f"{name}.w_quantized"
    if grid.tolist() == [-1, 1]:
        return node(graph, "BipolarQuant", [w, s], output, domain=DOMAIN)
    bits, narrow = signed_grid(grid)
    return quant(graph, [w, s], 0, (bits, narrow), output, signed=1)


def signed_grid(grid: Int) -> tuple[int, int]:
    """Return bits and whether the smallest code is left out.

    >>> signed_grid(np.array([-1, 0, 1])), signed_grid(np.arange(-8, 8))
    ((2, 1), (4, 0))
    """
    low, high = int(grid[0]), int(grid[-1])
    bits = max(high, -low - 1, 1).bit_length() + 1
    return bits, int(low > -(1 << (bits - 1)))


def activation(graph: Graph, name: str, quantizer: Any, x: str) -> str:
    """Add the Quant node of an activation quantizer."""
    if getattr(quantizer, "rounding", "half_even") != "half_even":
        raise ValueError(f"the quantizer after {name} must round half_even for QONNX")
    grid, scale, zero_point = activation_codes(name, quantizer, np.float32)
    low, high = int(grid[0]), int(grid[-1])
    bits = high.bit_length()
    if low not in {0, 1} or not high or high != (1 << bits) - 1:
        raise ValueError(
            f"the quantizer after {name} has codes {low} .. {high}, which no Quant has"
        )
    s = constant(graph, f"{name}.scale", scale, np.float32)
    # codes 1 .. 2^b - 1 are those of Quant, 0 .. 2^b - 2, and 1
    return quant(graph, [x, s], zero_point - low, (bits, low), name, signed=0)


def quant(
    graph: Graph,
    inputs: list[str],
    zero_point: int,
    grid: tuple[int, int],
    output: str,
    *,
    signed: int,
) -> str:
    """Add a Quant node; ``grid`` is bits and narrow."""
    zero = constant(graph, f"{output}.zero_point", zero_point, np.float32)
    bits = constant(graph, f"{output}.bits", grid[0], np.float32)
    return node(
        graph,
        "Quant",
        [*inputs, zero, bits],
        output,
        domain=DOMAIN,
        signed=signed,
        narrow=grid[1],
        rounding_mode="ROUND",
    )
