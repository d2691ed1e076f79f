"""MEAN of a TFLite model.

    q = z_y + M(floor(m 2^k / n) 2^(e - k - 31), sum (q - z_x))                     (1)
    optimized kernels, height and width kept as 1    (5) of ``refqnn.integer.mean_pool``
    XNNPACK                                          (4) there

where s_x / s_y = m 2^(e - 31) and 2^k is the largest power of two up to n, M the two
roundings of ``two_stage_half_away`` (reference/reduce.h).
"""

import math
from dataclasses import replace
from typing import Any

import numpy as np

from refqnn._types import Int
from refqnn.deploy.build import pool_step
from refqnn.deploy.fold import Grid
from refqnn.deploy.formats.tflite_graph import (
    TO_PLANES,
    Node,
    add_step,
    axis_of,
    shape_of,
    store,
)
from refqnn.deploy.operations import OperationStep
from refqnn.deploy.steps import PoolStep, Step
from refqnn.integer import quantize_multiplier


def mean(node: Node) -> None:
    """x, axes: any but that of the batch  ->  their mean, (1)"""
    source, y, rank = node.source(), node.grid(), len(node.tensor(0).shape)
    axes = {axis_of(node, axis, rank) for axis in node.integers(1)}
    if not axes or 0 in axes:
        raise node.refusal("the mean of some axes, images apart")
    order = sorted(range(1, rank), key=lambda axis: (axis in axes, axis))
    kept = [axis for axis in order if axis not in axes]
    if rank == 4 and len(node.output.shape) != 4:  # the order of the file
        kept.sort(key=TO_PLANES.__getitem__)
    name, shape = node.name, (1, *source.shape)
    count = math.prod(shape[axis] for axis in axes)
    rows = math.prod(shape[axis] for axis in kept)
    planar = rank == 4 and axes == {2, 3}
    semantics = mean_semantics(node, planar=planar)
    if not planar:
        turned = (0, *kept, *sorted(axes))
        first = tuple(shape[axis] for axis in turned[1:])
        axes_option: dict[str, Any] = {"axes": turned}
        source = add_step(
            node, f"{name}.turned", source, "transpose", first, axes_option
        )
        plane, own = (rows, count, 1), f"{name}.rows"
        source = add_step(node, own, source, "reshape", plane, {"shape": plane})
    if source.grid.magnitude() * count >= 2**31:
        raise node.refusal(f"sums of {count} codes leave int32")
    pooled = (rows,) == tuple(node.output.shape[1:])
    step = mean_step(node, name if pooled else f"{name}.mean", source, y, semantics)
    if step.name == name and step.shape == (rows,):
        store(node, step)
        return
    step = replace(step, name=f"{name}.mean")
    node.reader.steps[step.name] = step
    out = node.output.shape
    target = shape_of(node.output, str(node))
    if math.prod(target) != rows:
        raise node.damage(f"it computes {rows} means, the file states {out}")
    store(node, add_step(node, name, step, "reshape", target, {"shape": target}))


def mean_semantics(node: Node, *, planar: bool) -> str:
    """Return the semantics of ``mean_pool2d`` that a mean has, "" for (1)."""
    kernels, channels = node.reader.kernels, node.tensor(0).shape[-1]
    if node.output.dtype == "int16":
        return ""
    if kernels.semantics == "xnnpack":
        return "xnnpack"
    if not (kernels.vectors and planar and node.option("keep_dims")):
        return ""
    if channels > 16 and channels % 16:
        raise node.refusal(
            "these kernels round what vectors of 16 channels leave otherwise"
        )
    return "offset" if channels < 16 else "offset_half_up"


def mean_step(
    node: Node, name: str, source: Step, y: Grid, semantics: str
) -> PoolStep | OperationStep:
    """Return the step of the means of planes: (C, 1, 1), of (1) (C,)"""
    channels, *plane = source.shape
    if semantics:
        options: dict[str, Any] = {"kernel": tuple(plane), "semantics": semantics}
        options |= {"x_scale": source.grid.scale, **y._asdict()}
        options["x_zero_point"] = source.grid.zero_point
        names, shape = (source.name,), (channels, 1, 1)
        return OperationStep(name, names, ("x",), shape, "mean_pool2d", options, y)
    step = pool_step(str(node), name, source, y, "two_stage_half_away")
    ratio = source.grid.scale / y.scale
    multiplier, shift = mean_multiplier(ratio, math.prod(plane))
    return replace(step, multiplier=multiplier, shift=shift)


def mean_multiplier(ratio: float, count: int) -> tuple[Int, Int]:
    """ratio / count = multiplier 2^(shift - 31), the multiplier rounded down, (1)

    >>> mean_multiplier(0.5, 3)
    (array([715827882], dtype=int32), array([-1], dtype=int32))
    """
    multiplier, shift = quantize_multiplier(ratio)
    k = min(count.bit_length() - 1, 32, 31 + shift)
    short = np.array([(multiplier << k) // count], np.int32)
    return short, np.array([shift - k], np.int32)
