"""Operators of a TFLite model that move codes: shapes, edges, slices, other sizes.

    RESHAPE, SQUEEZE, EXPAND_DIMS    codes in the order of the file, channels last
    TRANSPOSE, PAD, PADV2, SLICE, STRIDED_SLICE, SPLIT, TILE
    SHAPE, PACK, and CONCATENATION and STRIDED_SLICE of what they give    numbers
    RESIZE_NEAREST_NEIGHBOR    the code at floor((i + c) n / m), in float32         (1)
    RESIZE_BILINEAR            blends, ``refqnn.integer.resize_bilinear``

c is 1/2 with half-pixel centres; with aligned corners (n - 1) / (m - 1) takes the place
of n / m, and the nearest code, ties up, that of the floor.
"""

from dataclasses import replace

import numpy as np

from refqnn import integer
from refqnn._types import Array
from refqnn.deploy.formats.tflite_graph import (
    TO_PLANES,
    Node,
    axis_of,
    move_codes,
    reshape_codes,
    store,
)
from refqnn.deploy.formats.tflite_layers import plane_shape
from refqnn.deploy.steps import Step
from refqnn.integer.rounding import round_half_away


def reshape(node: Node) -> None:
    """x  ->  the shape that the file states for the output"""
    source = node.source()
    move_codes(node, source, "reshape", source.shape, {})  # raises on another grid
    old, new = node.tensor(0).shape, node.output.shape
    store(node, reshape_codes(node, node.name, source, old, new))


def transpose(node: Node) -> None:
    """x, the order of its axes, the batch first"""
    source, order = node.source(), node.integers(1)
    rank = len(node.tensor(0).shape)
    if sorted(order) != list(range(rank)) or order[0] != 0:
        raise node.refusal(f"the order must begin with 0, is {order}")
    if rank == 4:
        order = [TO_PLANES.index(order[axis]) for axis in TO_PLANES]
    shape = tuple((1, *source.shape)[axis] for axis in order[1:])
    store(node, move_codes(node, source, "transpose", shape, {"axes": tuple(order)}))


def pad(node: Node) -> None:
    """x, a pair for every axis, [the code around]"""
    source, pairs = node.source(), np.asarray(node.constant(1))
    rank = len(node.tensor(0).shape)
    if pairs.shape != (rank, 2) or pairs.min() < 0 or pairs.max() > 2**12:
        raise node.refusal(f"it needs {rank} pairs in [0, 4096]")
    order = TO_PLANES if rank == 4 else range(rank)
    widths = [(int(pairs[axis][0]), int(pairs[axis][1])) for axis in order]
    if any(widths[0]):
        raise node.refusal("images must stay apart")
    value = node.integers(2)[0] if node.has(2) else source.grid.zero_point
    info = np.iinfo(source.grid.dtype)
    if not info.min <= value <= info.max:
        raise node.refusal(f"{info.dtype} does not hold {value}")
    shape = tuple(n + sum(p) for n, p in zip(source.shape, widths[1:], strict=True))
    options = {"widths": tuple(widths[1:]), "value": value}
    step = move_codes(node, source, "pad", shape, options)
    low, high = min(step.grid.q_min, value), max(step.grid.q_max, value)
    store(node, replace(step, grid=step.grid._replace(q_min=low, q_max=high)))


def take_codes(
    node: Node, number: int, source: Step, at: dict[int, Array], rank: int
) -> None:
    """Store the codes at the indices of each axis of the file."""
    picks, shape = [], [1, *source.shape]
    for axis, indices in at.items():
        moved_axis = axis_of(node, axis, rank)
        whole = np.arange(shape[moved_axis])
        if not indices.size:
            raise node.refusal("nothing is left")
        if moved_axis == 0 and indices.size == 1:
            continue
        if moved_axis == 0:
            raise node.refusal("images must stay apart")
        if not np.array_equal(indices, whole):
            picks.append((moved_axis, indices.astype(np.int64)))
        shape[moved_axis] = indices.size
    step = move_codes(node, source, "take", tuple(shape[1:]), {"picks": tuple(picks)})
    store(node, replace(step, name=node.reader.names[number]), number)


def strided_slice(node: Node) -> None:
    """x, begin, end, strides"""
    if node.tensor(0).dtype == "int32":
        slice_numbers(node)
        return
    source, shape = node.source(), node.tensor(0).shape
    masks = {key: int(node.option(f"{key}_mask")) for key in
             ("begin", "end", "ellipsis", "new_axis", "shrink_axis")}  # fmt: skip
    limits = [node.integers(at) for at in (1, 2, 3)]
    if masks["ellipsis"] or masks["new_axis"] or masks["shrink_axis"] or any(
        len(values) != len(shape) for values in limits
    ) or node.option("offset") or 0 in limits[2]:  # fmt: skip
        raise node.refusal("a slice of every axis, none added and none removed")
    at = {}
    for axis, (begin, end, stride) in enumerate(zip(*limits, strict=True)):
        first = None if masks["begin"] >> axis & 1 else begin
        last = None if masks["end"] >> axis & 1 else end
        at[axis] = np.arange(shape[axis])[first:last:stride]
    take_codes(node, node.operator.outputs[0], source, at, len(shape))


def store_numbers(node: Node, numbers: Array) -> None:
    """Keep what an output holds; raise where the file states another shape."""
    want = node.output.shape
    if numbers.shape != want or node.output.dtype != "int32":
        raise node.damage(f"it computes {numbers.shape} int32, the file states {want}")
    node.reader.numbers[node.operator.outputs[0]] = numbers


def shape_numbers(node: Node) -> None:
    """x  ->  its shape in the file"""
    store_numbers(node, np.array(node.tensor(0).shape, np.int32))


def pack(node: Node) -> None:
    """Numbers of shapes  ->  a row of them; PACK makes it of single ones"""
    rows = [node.integers(at) for at in range(len(node.operator.inputs))]
    single = node.operator.op != "PACK" or all(len(row) == 1 for row in rows)
    if len(rows) > 16 or not single or node.option("axis"):
        raise node.refusal("it makes one row of up to 16 numbers of shapes")
    store_numbers(node, np.array([v for row in rows for v in row], np.int32))


def slice_numbers(node: Node) -> None:
    """The numbers of a shape  ->  some of them, or one"""
    numbers = node.integers(0)
    limits = [node.integers(at) for at in (1, 2, 3)]
    masks = [node.option(f"{key}_mask") for key in ("ellipsis", "new_axis")]
    if {*map(len, limits)} != {1} or limits[2] == [0] or any(masks):
        raise node.refusal("a slice of the numbers of a shape has one axis")
    (begin,), (end,), (stride,) = limits
    first = None if node.option("begin_mask") else begin
    last = None if node.option("end_mask") else end
    if node.option("shrink_axis_mask"):
        if not -len(numbers) <= begin < len(numbers):
            raise node.refusal(f"number {begin} is none of {len(numbers)}")
        store_numbers(node, np.array(numbers[begin], np.int32))
    else:
        store_numbers(node, np.array(numbers[first:last:stride], np.int32))


def tile(node: Node) -> None:
    """x, how often along every axis  ->  x repeated"""
    source, shape, times = node.source(), node.tensor(0).shape, node.integers(1)
    if len(times) != len(shape) or not all(
        1 <= k * n <= 2**12 for k, n in zip(times, shape, strict=True)
    ):
        raise node.refusal(f"{shape} repeated {times} times must have up to 4096")
    at = {
        axis: np.tile(np.arange(n), k)
        for axis, (n, k) in enumerate(zip(shape, times, strict=True))
    }
    take_codes(node, node.operator.outputs[0], source, at, len(shape))


def slice_codes(node: Node) -> None:
    """x, begin, size; -1 is all that is left"""
    source, shape = node.source(), node.tensor(0).shape
    begins, sizes = node.integers(1), node.integers(2)
    if not len(begins) == len(sizes) == len(shape):
        raise node.refusal(f"it needs {len(shape)} begins and sizes")
    at = {}
    for axis, (begin, size) in enumerate(zip(begins, sizes, strict=True)):
        end = shape[axis] if size == -1 else begin + size
        if not 0 <= begin < end <= shape[axis]:
            raise node.refusal(f"[{begin}, {end}) is not in axis {axis}")
        at[axis] = np.arange(begin, end)
    take_codes(node, node.operator.outputs[0], source, at, len(shape))


def split(node: Node) -> None:
    """axis, x  ->  equal parts"""
    (axis, *_), source, shape = node.integers(0), node.source(1), node.tensor(1).shape
    outputs = node.operator.outputs
    if not -len(shape) <= axis < len(shape) or shape[axis] % len(outputs):
        raise node.refusal(f"{len(outputs)} equal parts along axis {axis} of {shape}")
    for number, indices in zip(
        outputs, np.split(np.arange(shape[axis]), len(outputs)), strict=True
    ):
        part = node.operator._replace(
            outputs=(number,), inputs=node.operator.inputs[1:]
        )
        one = node._replace(operator=part)
        take_codes(one, number, source, {axis: indices}, len(shape))


def new_size(node: Node) -> tuple[int, int]:
    """Return the constant height and width of a resizing."""
    size = node.integers(1)
    if len(size) != 2 or not all(1 <= v <= 2**12 for v in size):
        raise node.refusal(f"its size must be two numbers up to 4096, is {size}")
    return size[0], size[1]


def resize_nearest(node: Node) -> None:
    """x, (H, W)  ->  the code at floor(i n / m), or nearest in another sense"""
    source = node.source()
    c, *_ = plane_shape(node, source)
    corners, centres = (
        bool(node.option(key)) for key in ("align_corners", "half_pixel_centers")
    )
    picks = []
    for axis, m in zip((2, 3), new_size(node), strict=True):
        n = source.shape[axis - 1]
        f = np.float32
        scale = f(n - 1) / f(m - 1) if corners and m > 1 else f(n) / f(m)
        at = (np.arange(m, dtype=f) + f(0.5 * centres)) * scale
        place = round_half_away(at) if corners else np.floor(at)
        picks.append((axis, np.clip(place, 0, n - 1).astype(np.int64)))
    shape = (c, *new_size(node))
    store(node, move_codes(node, source, "take", shape, {"picks": tuple(picks)}))


def resize_bilinear(node: Node) -> None:
    """x, (H, W)  ->  blends of four codes with shares of 10 bits, XNNPACK's of 11"""
    source = node.source()
    c, h, w = plane_shape(node, source)
    if node.output.dtype == "uint8":
        raise node.refusal("uint8 is blended in float32; int8 in integers")
    size = new_size(node)
    options = {
        "size": size,
        "align_corners": bool(node.option("align_corners")),
        "half_pixel_centers": bool(node.option("half_pixel_centers")),
    }
    if node.reader.kernels.semantics == "xnnpack":
        options["semantics"] = "xnnpack"
    step = move_codes(node, source, "resize_bilinear", (c, *size), options)
    zeros = np.zeros((1, 1, h, w), np.int8)
    try:
        step.forward({source.name: zeros}, integer)
    except ValueError as error:
        raise node.refusal(str(error)) from error
    store(node, step)
