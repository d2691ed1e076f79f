"""Steps of floats as ONNX operators between DequantizeLinear and QuantizeLinear.

A runtime rounds every operator to float32 and adds in an order of its own, where the
step rounds once: next to ties codes may differ. One that optimizes may also fuse the
operators, and quantize float weights again.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from refqnn.deploy.formats.onnx_graph import (
    Graph,
    clip_codes,
    constant,
    grid_constants,
    node,
    rearrange,
    window_attributes,
)
from refqnn.deploy.formats.onnx_qdq import quantize
from refqnn.deploy.operations import Instruction, RealStep
from refqnn.deploy.steps import Step
from refqnn.geometry import Window

Options = Mapping[str, Any]
Names = list[str]


def real_step(graph: Graph, step: RealStep, steps: Mapping[str, Step]) -> None:
    """Add the operators of a step, from the codes that it reads to its own."""
    names = {
        name: constant(graph, f"{step.name}.{name}", value, np.float32)
        for name, value in step.constants.items()
        if value is not None
    }
    for i, source in enumerate(step.sources):
        place, read = f"{step.name}.from{i}", steps[source]
        inputs = [source, *grid_constants(graph, place, read.grid)]
        names[source] = node(graph, "DequantizeLinear", inputs, f"{place}.real")
    for instruction in step.program:
        names[instruction.output] = operator(graph, step.name, instruction, names)
    y = names[step.program[-1].output]
    clip_codes(graph, quantize(graph, step, y), step)


def operator(
    graph: Graph, step: str, instruction: Instruction, names: Mapping[str, str]
) -> str:
    """Add one operator; return the name of its output."""
    op, given, output, attributes = instruction
    inputs = [names[name] if name else "" for name in given]
    write = OPERATORS.get(op, plain(op))
    return write(graph, inputs, f"{step}.{output}", attributes)


def plain(op: str) -> Callable[..., str]:
    """Return the writer of an operator whose attributes are those of ONNX."""
    return lambda graph, inputs, name, options: node(graph, op, inputs, name, **options)


def dilated_window(at: Window) -> dict[str, Any]:
    """Return a window with its dilations as ONNX writes it."""
    return window_attributes(*at[:3]) | {"dilations": list(at.dilation)}


def convolution(graph: Graph, inputs: Names, name: str, options: Options) -> str:
    """Conv, or ConvTranspose"""
    written = dilated_window(options["at"]) | {"group": options["groups"]}
    if not options.get("transposed"):
        return node(graph, "Conv", inputs, name, **written)
    written["output_padding"] = list(options["extra"])
    return node(graph, "ConvTranspose", inputs, name, **written)


def pool(op: str) -> Callable[..., str]:
    """Return the writer of AveragePool or MaxPool."""

    def write(graph: Graph, inputs: Names, name: str, options: Options) -> str:
        written = dilated_window(options["at"])
        if "count_include_pad" in options:
            written["count_include_pad"] = int(options["count_include_pad"])
        return node(graph, op, inputs, name, **written)

    return write


def clip(graph: Graph, inputs: Names, name: str, options: Options) -> str:
    """Clip: its ends are inputs since opset 11"""
    ends = [
        constant(graph, f"{name}.{k}", options[k], np.float32) if k in options else ""
        for k in ("min", "max")
    ]
    return node(graph, "Clip", [*inputs, *ends[len(inputs) - 1 :]], name)


def mean(graph: Graph, inputs: Names, name: str, options: Options) -> str:
    """ReduceMean: its axes are an input since opset 18"""
    axes = constant(graph, f"{name}.axes", options["axes"], np.int64)
    kept = int(options["keepdims"])
    return node(graph, "ReduceMean", [inputs[0], axes], name, keepdims=kept)


def resize(graph: Graph, inputs: Names, name: str, options: Options) -> str:
    """Resize, linear, half-pixel places"""
    scales = constant(graph, f"{name}.scales", [1, 1, *options["scales"]], np.float32)
    return node(graph, "Resize", [inputs[0], "", scales], name, mode="linear")


def move(graph: Graph, inputs: Names, name: str, options: Options) -> str:
    """Reshape, Transpose, Pad or Gather of floats"""
    moved = rearrange(graph, inputs[0], name, options, np.float32)
    return node(graph, "Identity", [moved], name) if "picks" in options else moved


#: operators whose attributes are not those of ONNX
OPERATORS: Mapping[str, Callable[..., str]] = {
    "Conv": convolution,
    "ConvTranspose": convolution,
    "AveragePool": pool("AveragePool"),
    "max_pool2d": pool("MaxPool"),
    "Clip": clip,
    "ReduceMean": mean,
    "Resize": resize,
    **dict.fromkeys(("reshape", "transpose", "pad", "take"), move),
}
