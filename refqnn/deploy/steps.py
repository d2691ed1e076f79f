"""The steps of an integer network: read-only integers and what is done with them.

``forward(values, integer)`` takes the codes stored so far by name and a module with the
functions of ``refqnn.integer``, and returns the codes that it stores, with the
accumulators that they were made from, by name. No step computes with a real number; the
scales beside the integers say what these mean.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from refqnn._types import Array, Int
from refqnn.deploy.fold import Grid
from refqnn.deploy.gated import CodedStep, FloatStep, GatedStep
from refqnn.deploy.operations import OperationStep, RealStep
from refqnn.geometry import Pair

Values = Mapping[str, Array]
Shape = tuple[int, ...]
#: the rounding of a layer whose ratio is no integer: float64, ties away from 0
REAL_ROUNDING = "float64_half_away"


def hold_copies(step: Any) -> None:
    """Replace the arrays of a step by copies that cannot be written."""
    for name, value in vars(step).items():
        if isinstance(value, np.ndarray):
            copy = np.array(value, order="C")
            copy.flags.writeable = False
            object.__setattr__(step, name, copy)


@final
@dataclass(frozen=True, eq=False)
class Sum:
    """2^f sum w (x - x_zero_point) + bias: the accumulators of one layer

    A convolution where ``w`` is (O, C / groups, Kh, Kw), a product where it is (O, I).
    """

    name: str
    w: Int  # int8
    bias: Int  # (O,) int32
    fraction_bits: Int  # f, (O,) int32
    x_zero_point: int
    stride: Pair
    padding: tuple[Pair, Pair]
    dilation: Pair
    groups: int
    weight_bits: int
    #: signed bits that hold every accumulator
    accumulator_bits: int
    #: what one step of the accumulator of a channel is worth, (O,) float64
    scale: Array

    def __post_init__(self) -> None:
        hold_copies(self)

    def forward(self, x: Array, integer: Any) -> Array:
        """x: (N, C, H, W) or (N, I)  ->  (N, O, Ho, Wo) or (N, O)"""
        if self.w.ndim == 2:
            acc = integer.linear(x, self.w, x_zero_point=self.x_zero_point)
        else:
            acc = integer.conv2d(
                x,
                self.w,
                x_zero_point=self.x_zero_point,
                stride=self.stride,
                padding=self.padding,
                dilation=self.dilation,
                groups=self.groups,
            )
        factor = np.left_shift(np.int32(1), self.fraction_bits)
        at = (-1, *(1,) * (acc.ndim - 2))  # a value per channel
        return acc * factor.reshape(at) + self.bias.reshape(at)


@final
@dataclass(frozen=True, eq=False)
class Shortcut:
    """codes - zero_point, every stride-th pixel, zeros for new channels: option A.

    Every ``stride``-th pixel, channels of zeros around. The identity has stride 1.
    """

    name: str
    x_zero_point: int
    channels: int
    stride: int
    #: what one step is worth: the scale of the codes
    scale: float

    def forward(self, x: Array, _integer: Any) -> Array:
        """x: (N, C, H, W)  ->  (N, channels, ceil(H / stride), ceil(W / stride))"""
        kept = x[:, :, :: self.stride, :: self.stride]
        wide = np.result_type(x.dtype, np.int32)
        new = self.channels - x.shape[1]
        around = ((0, 0), (new // 2, new - new // 2), (0, 0), (0, 0))
        return np.pad(kept.astype(wide) - self.x_zero_point, around)


@final
@dataclass(frozen=True, eq=False)
class ImageStep:
    """The 8-bit pixels themselves."""

    name: str
    shape: Shape
    grid: Grid

    def forward(self, values: Values, _integer: Any) -> dict[str, Array]:
        """Return the pixels: (N, C, H, W) uint8."""
        return {self.name: values[self.name]}


@final
@dataclass(frozen=True, eq=False)
class LayerStep:
    """codes = clamp(zero_point + round(acc multiplier 2^(shift - 31)))

    Of a convolution, whose clamp at the zero-point is the ReLU, or of the classifier,
    whose codes are logits on one scale: the largest possible one is 32 767. With the
    rounding ``REAL_ROUNDING`` the accumulators are multiplied by the float64 ratio of
    the scales instead: ``refqnn.integer.requantize_real``.
    """

    name: str
    source: str
    shape: Shape
    sum: Sum
    multiplier: Int  # (O,) int32
    shift: Int  # (O,) int32
    grid: Grid
    #: of ``refqnn.integer.requantize``
    rounding: str = "half_up"

    def __post_init__(self) -> None:
        hold_copies(self)

    def forward(self, values: Values, integer: Any) -> dict[str, Array]:
        """source: (N, C, H, W) or (N, I)  ->  codes: (N, O, Ho, Wo) or (N, O)"""
        acc = self.sum.forward(values[self.source], integer)
        at = (-1, *(1,) * (acc.ndim - 2))  # a value per channel
        z, low, high = self.grid[1:]
        if self.rounding == REAL_ROUNDING:
            real = (self.sum.scale / self.grid.scale).reshape(at)
            codes = integer.requantize_real(acc, real, z, q_min=low, q_max=high)
            return {f"{self.name}.accumulator": acc, self.name: codes}
        m, e = self.multiplier.reshape(at), self.shift.reshape(at)
        codes = integer.requantize(
            acc, m, e, z, q_min=low, q_max=high, rounding=self.rounding
        )
        return {f"{self.name}.accumulator": acc, self.name: codes}


@final
@dataclass(frozen=True, eq=False)
class ResidualStep:
    """codes = clamp(zero_point + round((acc m_1 + skip m_2) 2^(shift - 31)))

    One rounding for both branches. ``skip`` holds codes, or in option B the
    accumulators of a 1x1 convolution.
    """

    name: str
    source: str
    skip_source: str
    shape: Shape
    sum: Sum
    skip: Sum | Shortcut
    multiplier: Int  # (O,) int32
    skip_multiplier: Int  # (O,) int32
    shift: Int  # (O,) int32
    grid: Grid
    #: of ``refqnn.integer.requantize``
    rounding: str = "half_up"

    def __post_init__(self) -> None:
        hold_copies(self)

    def forward(self, values: Values, integer: Any) -> dict[str, Array]:
        """source: (N, C, H, W), skip_source: (N, S, ...)  ->  (N, O, Ho, Wo)"""
        acc = self.sum.forward(values[self.source], integer)
        skip = self.skip.forward(values[self.skip_source], integer)
        at = (-1, *(1,) * (acc.ndim - 2))  # a value per channel
        codes = integer.requantize_add(
            acc,
            self.multiplier.reshape(at),
            skip,
            self.skip_multiplier.reshape(at),
            self.shift.reshape(at),
            self.grid.zero_point,
            q_min=self.grid.q_min,
            q_max=self.grid.q_max,
            rounding=self.rounding,
        )
        return {
            f"{self.name}.accumulator": acc,
            f"{self.skip.name}.accumulator": skip,
            self.name: codes,
        }


@final
@dataclass(frozen=True, eq=False)
class PoolStep:
    """The sum of every plane, requantized by a multiplier that divides by H W."""

    name: str
    source: str
    shape: Shape
    x_zero_point: int
    accumulator_bits: int
    #: what one step of the accumulator is worth, 1 / (H W) included
    scale: float
    multiplier: Int  # (1,) int32
    shift: Int  # (1,) int32
    grid: Grid
    #: of ``refqnn.integer.requantize``
    rounding: str = "half_up"

    def __post_init__(self) -> None:
        hold_copies(self)

    def forward(self, values: Values, integer: Any) -> dict[str, Array]:
        """source: (N, C, H, W)  ->  codes: (N, C)"""
        x = values[self.source]
        acc = integer.sum_pool2d(x, zero_point=self.x_zero_point)
        m, e, (z, low, high) = self.multiplier, self.shift, self.grid[1:]
        codes = integer.requantize(
            acc, m, e, z, q_min=low, q_max=high, rounding=self.rounding
        )
        return {f"{self.name}.accumulator": acc, self.name: codes}


#: steps that requantize sums
Computing = LayerStep | ResidualStep | PoolStep
#: steps with real numbers between them
Gated = FloatStep | CodedStep | GatedStep
Step = ImageStep | Computing | OperationStep | RealStep | Gated


def sources_of(step: Step) -> tuple[str, ...]:
    """Return the names of the steps that a step reads."""
    several = getattr(step, "sources", None)
    if several is not None:
        return tuple(several)
    names = (getattr(step, "source", ""), getattr(step, "skip_source", ""))
    return tuple(name for name in names if name)


def with_branches(steps: Iterable[Step]) -> Iterator[Step]:
    """Yield every step; before one that chooses among branches, the steps of these."""
    for step in steps:
        for branch in getattr(step, "branches", ()):
            yield from branch
        yield step


def multiply_adds(steps: Iterable[Step], values: Values) -> dict[str, int]:
    """Count what a trace executed: {name of a sum of products: multiply-adds}

    A convolution of w: (O, C, Kh, Kw) spends C Kh Kw on each of its outputs, a product
    of w: (O, I) spends I, an LSTM its two matrices on every row; a transposed one of
    w: (C, O, Kh, Kw) spends O Kh Kw on each of its inputs. A branch counts on the
    images that took it alone. What a ``RealStep`` computes is not counted.
    """
    spent = {}
    for step in with_branches(steps):
        sums = {step.name: getattr(step, "sum", step)}
        if isinstance(step, ResidualStep):
            sums[step.skip.name] = step.skip
        for name, total in sums.items():
            match total:
                case Sum() | CodedStep():
                    outputs = values[f"{name}.accumulator"].size
                    spent[name] = outputs * total.w[0].size
                case FloatStep(op="conv2d" | "linear"):
                    spent[name] = values[name].size * total.constants[0][0].size
                case FloatStep(op="lstm"):
                    matrices = sum(w.size for w in total.constants[:2])
                    spent[name] = len(values[name]) * matrices
                case OperationStep(operation="conv_transpose2d"):
                    inputs = values[total.sources[0]].size
                    spent[name] = inputs * total.options["w"][0].size
                case OperationStep(operation="matmul"):
                    a = total.options.get("a", values[total.sources[0]])
                    spent[name] = values[name].size * a.shape[-1]
    return spent
