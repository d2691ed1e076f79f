"""The tensors of a TFLite model as steps: names, grids, and planes channels first.

A tensor (1, H, W, C) of the file is a step of shape (C, H, W), any other (1, ...) one
of shape (...): the first axis is the batch. A step carries the name of its tensor.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, final

import numpy as np

from refqnn._types import Array, Float
from refqnn.deploy.fold import Grid
from refqnn.deploy.formats.tflite_schema import ACTIVATIONS, Model, Operator, Tensor
from refqnn.deploy.operations import OperationStep
from refqnn.deploy.steps import Shape, Step
from refqnn.files import Unreadable
from refqnn.integer.rounding import round_half_away

RANGES = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-(2**15), 2**15 - 1)}
#: codes of one image in a tensor, beyond which a model is refused
MOST_CODES = 2**26
TO_PLANES, TO_PIXELS = (0, 3, 1, 2), (0, 2, 3, 1)


class Kernels(NamedTuple):
    """How one set of kernels requantizes, by roundings of ``refqnn.integer``."""

    convolution: str
    depthwise: str
    fully_connected: str
    #: convolutions of several groups
    grouped: str
    #: uint8 depthwise and BATCH_MATMUL, which have no kernel of their own in the set
    plain: str
    #: QUANTIZE of codes
    quantize: str
    #: what a delegate leaves to the optimized kernels: convolutions by weights of 4
    #: bits, sums of 16-bit codes with an int32 bias
    left: str
    #: of ADD, SUB, MUL and SOFTMAX
    semantics: str = "tflite"
    #: vectors of 16 add means of planes and codes of 16 bits, rounded in their own way
    vectors: bool = False
    #: those of TensorFlow Lite Micro: functions of one code take ratios in float64, and
    #: RELU6, LOGISTIC and TANH do not read the grid of their output
    micro: bool = False
    #: operators that the set does not have
    missing: tuple[str, ...] = ()
    #: operators that take uint8; None for all
    unsigned: tuple[str, ...] | None = None


@final
@dataclass
class Reader:
    """The steps known so far, and which one holds each tensor."""

    model: Model
    kernels: Kernels
    names: tuple[str, ...]
    #: bytes of weights that the steps may still hold
    room: int
    #: bytes of tables that the steps hold
    tables: int = 0
    steps: dict[str, Step] = field(default_factory=dict)
    #: tensor -> the step of its codes; of real numbers, those that it dequantizes
    values: dict[int, str] = field(default_factory=dict)
    #: tensor -> the numbers of a shape that operators compute
    numbers: dict[int, Array] = field(default_factory=dict)


class Node(NamedTuple):
    """An operator and its place in the file."""

    reader: Reader
    place: int
    operator: Operator

    def __str__(self) -> str:
        outputs = self.operator.outputs
        name = self.reader.names[outputs[0]] if outputs else ""
        return f"{self.operator.op} (operator {self.place}, output {name!r})"

    def refusal(self, why: str) -> ValueError:
        """Return the error that names the operator and says why."""
        return ValueError(f"{self} is not supported: {why}")

    def damage(self, why: str) -> Unreadable:
        """Return the error of a model that no runtime can run, and why."""
        return Unreadable(f"{self} is damaged: {why}")

    def option(self, name: str) -> Any:
        """Return a field of its options, as written or the schema's default."""
        return self.operator.options.get(name, 0)

    def tensor(self, at: int) -> Tensor:
        """Return input ``at``; raise where it is left out."""
        number = self.number(at)
        t = self.reader.model.tensors[number]
        return t._replace(data=self.reader.numbers.get(number, t.data))

    def number(self, at: int) -> int:
        """Return the number of input ``at``; raise where it is left out."""
        inputs = self.operator.inputs
        if at >= len(inputs) or inputs[at] < 0:
            raise self.damage(f"it has no input {at}")
        return inputs[at]

    def has(self, at: int) -> bool:
        """Return whether input ``at`` is given."""
        return at < len(self.operator.inputs) and self.operator.inputs[at] >= 0

    @property
    def output(self) -> Tensor:
        """The first output."""
        return self.reader.model.tensors[self.operator.outputs[0]]

    @property
    def name(self) -> str:
        """The name of the first output."""
        return self.reader.names[self.operator.outputs[0]]

    def constant(self, at: int) -> Array:
        """Return the data of input ``at``; raise where it is computed."""
        data = self.tensor(at).data
        if data is None:
            raise self.refusal(f"input {at} must be constant")
        return data

    def integers(self, at: int) -> list[int]:
        """Return a constant of a few integers, such as a shape."""
        data = self.constant(at)
        if data.dtype.kind not in "iu" or data.size > 16:
            raise self.refusal(f"input {at} must be a few integers")
        return [int(v) for v in data.ravel()]

    def source(self, at: int = 0) -> Step:
        """Return the step of the codes that input ``at`` is."""
        name = self.reader.values.get(self.number(at))
        if self.tensor(at).dtype not in RANGES or self.tensor(at).data is not None:
            raise self.refusal(f"input {at} must be codes that a step computes")
        if name is None:
            raise self.damage(f"input {at} is not computed before it")
        return self.reader.steps[name]

    def clamped_grid(self) -> Grid:
        """Return the grid of the output within the clamp of the activation."""
        kind = int(self.option("fused_activation_function"))
        if kind not in ACTIVATIONS:
            raise self.refusal(f"the activation {kind} must be none, RELU or RELU6")
        return clamp(self.grid(), *ACTIVATIONS[kind])

    def grid(self) -> Grid:
        """Return the grid of the output."""
        return grid_of(self.output, str(self))


def clamp(grid: Grid, low: float, high: float) -> Grid:
    """Return a grid without the codes beyond ``[low, high]``.

    The ends are rounded as in kernel_util.cc: z + round(end / s) in float32, ties away.

    >>> clamp(Grid(0.5, -128, -128, 127), 0.0, 6.0)
    Grid(scale=0.5, zero_point=-128, q_min=-128, q_max=-116)
    >>> clamp(Grid(1e-38, -128, -128, 127), 0.0, 6.0).q_max
    127
    """
    ends = np.array([low, high], np.float32)
    with np.errstate(over="ignore"):  # of a scale that hardly is one
        codes = np.clip(ends / np.float32(grid.scale), -1e9, 1e9)
    least, most = grid.zero_point + round_half_away(codes)
    q_min, q_max = max(grid.q_min, int(least)), min(grid.q_max, int(most))
    return grid._replace(q_min=q_min, q_max=q_max)


def grid_of(t: Tensor, what: str) -> Grid:
    """Return the grid of a tensor of codes, which has one scale and one zero-point."""
    scale, zero = np.ravel(t.scale), np.ravel(t.zero_point)
    if t.dtype not in RANGES or scale.size != 1 or zero.size not in {0, 1}:
        raise ValueError(
            f"{what} is not supported: {t.name!r} must be codes of {list(RANGES)} with "
            f"one scale and one zero-point, is {t.dtype} with {scale.size} scales"
        )
    s, z = float(np.float32(scale[0])), int(zero[0]) if zero.size else 0
    low, high = RANGES[t.dtype]
    if not 0 < s < np.inf or not low <= z <= high:
        raise ValueError(f"{what}: {t.name!r} has scale {s} and zero-point {z}")
    return Grid(s, z, low, high)


def shape_of(t: Tensor, what: str) -> Shape:
    """Return the shape of an image of a tensor, channels first; raise without a batch.

    >>> shape_of(Tensor((1, 5, 6, 3), "int8"), "x")
    (3, 5, 6)
    """
    if len(t.shape) < 2 or t.shape[0] != 1 or min(t.shape) < 1:
        raise ValueError(f"{what}: {t.name!r} must be (1, ...), is {t.shape}")
    if math.prod(t.shape) > MOST_CODES:
        raise ValueError(f"{what}: {t.name!r} has more than {MOST_CODES} codes")
    _, *rest = t.shape
    return (rest[2], rest[0], rest[1]) if len(rest) == 3 else tuple(rest)


def axis_of(node: Node, axis: int, rank: int) -> int:
    """Return an axis of a tensor of the file among those of its step, the batch 0."""
    if not -rank <= axis < rank:
        raise node.refusal(f"axis {axis} is none of {rank}")
    axis %= rank
    return TO_PLANES.index(axis) if rank == 4 else axis


def planes(array: Array) -> Array:
    """Return an array of the file, channels first where it has four axes."""
    return array.transpose(TO_PLANES) if array.ndim == 4 else array


def unique_names(tensors: Sequence[Tensor]) -> tuple[str, ...]:
    """Return a name for every tensor; the number tells those of one name apart.

    >>> unique_names([Tensor((1,), "int8", name="x"), Tensor((1,), "int8", name="x")])
    ('x', 'x.1')
    >>> unique_names([Tensor((1,), "int8", name=chr(0) + "x")])
    ('x',)
    """
    seen: set[str] = set()
    names = []
    for i, t in enumerate(tensors):
        name = t.name.replace("\0", "") or f"tensor{i}"  # archives end names there
        while name in seen:
            name = f"{name}.{i}"
        seen.add(name)
        names.append(name)
    return tuple(names)


def store(node: Node, step: Step, number: int | None = None) -> None:
    """Add a step that holds an output, the first or the one of this number.

    Raises ValueError where the file states another shape than the step computes.
    """
    number = node.operator.outputs[0] if number is None else number
    want = shape_of(node.reader.model.tensors[number], str(node))
    if step.shape != want:
        raise node.damage(f"it computes {step.shape}, the file states {want}")
    node.reader.steps[step.name] = step
    node.reader.values[number] = step.name


def add_step(
    node: Node,
    name: str,
    source: Step,
    operation: str,
    shape: Shape,
    options: dict[str, Any],
) -> Step:
    """Add a step of one source, on the grid of that."""
    step = OperationStep(
        name, (source.name,), ("x",), shape, operation, options, source.grid
    )
    if name in node.reader.steps:
        raise node.refusal(f"two tensors are called {name!r}")
    node.reader.steps[name] = step
    return step


def reshape_codes(node: Node, name: str, source: Step, old: Shape, new: Shape) -> Step:
    """Return codes in another shape of the file, ``name`` the last step of it.

    Codes keep their order in the file, where channels stand last.
    """
    if len(new) < 2 or new[0] != 1 or math.prod(old) != math.prod(new):
        raise node.refusal(f"it makes {new} of {old}, images must stay apart")
    if len(old) == 4 and min(old[1:3]) * max(old[1:3]) > 1:
        pixels = (old[1], old[2], old[3])
        axes = {"axes": TO_PIXELS}
        source = add_step(node, f"{name}.pixels", source, "transpose", pixels, axes)
    target = tuple(new[1:])
    if len(new) != 4:
        return add_step(node, name, source, "reshape", target, {"shape": target})
    channels_first = (new[3], new[1], new[2])
    if new[1:3] == (1, 1):
        options = {"shape": channels_first}
        return add_step(node, name, source, "reshape", channels_first, options)
    made = add_step(node, f"{name}.file", source, "reshape", target, {"shape": target})
    return add_step(node, name, made, "transpose", channels_first, {"axes": TO_PLANES})


def move_codes(
    node: Node, source: Step, operation: str, shape: Shape, options: dict[str, Any]
) -> OperationStep:
    """Return the step of an output whose codes are those of a source, rearranged."""
    kept = node.grid()._replace(q_min=source.grid.q_min, q_max=source.grid.q_max)
    if source.grid != kept:
        raise node.refusal(
            f"its output must be on the grid of its input, scale {source.grid.scale} "
            f"and zero-point {source.grid.zero_point}"
        )
    return OperationStep(
        node.name, (source.name,), ("x",), shape, operation, options, kept
    )


def scale_of(t: Tensor) -> Float:
    """Return the scales of weights in float32."""
    return np.ravel(np.asarray(t.scale, np.float32))
