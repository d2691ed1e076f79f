"""Compositions of twins in one pass: equal to the composition, bit for bit."""

from contextlib import suppress
from functools import lru_cache
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from refqnn._types import Array, Int
from refqnn.fast.integer.conv import carrier, conv2d
from refqnn.fast.integer.rescale import requantize
from refqnn.fast.program import Codes, Program, Scaling, UnsupportedError
from refqnn.geometry import Padding, Pair, Window, output_size, window
from refqnn.integer.checks import (
    as_conv2d_operands,
    as_requantize_operands,
)
from refqnn.integer.conv import check_accumulator


def conv2d_requantize(
    x: Int,
    w: Int,
    b: Int | None = None,
    *,
    multiplier: npt.ArrayLike,
    shift: npt.ArrayLike,
    zero_point: int,
    q_min: int,
    q_max: int,
    rounding: str = "half_up",
    x_zero_point: npt.ArrayLike = 0,
    w_zero_point: npt.ArrayLike = 0,
    stride: int | Pair = 1,
    padding: Padding = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
) -> Int:
    """requantize(conv2d(x, w, b, ...), multiplier, shift, zero_point, ...)

    x: (N, C, H, W), w: (O, C // G, Kh, Kw), multiplier, shift: () or (O,)
    ->  codes: (N, O, Ho, Wo)

    Raises ValueError as ``integer.conv2d`` and ``integer.requantize`` do.
    """
    given = (x, w, b, x_zero_point, w_zero_point)
    x, w, b, xz, wz = as_conv2d_operands(
        *given, groups=groups, padding_value="zero_point"
    )
    arrays = Frozen.of(w), Frozen.of(b), Frozen.of(multiplier), Frozen.of(shift)
    at = window(w.shape[2:], stride=stride, padding=padding, dilation=dilation)
    layer = x.shape[1:], x.dtype, xz, *arrays, Frozen.of(wz), at, groups
    output = zero_point, q_min, q_max, rounding
    try:
        program = _planned(*layer, *output)
    except TypeError:  # what cannot be hashed is refused where it is checked
        program = _planned.__wrapped__(*layer, *output)
    if program and x.size:
        return program.run(x)[0]
    acc = conv2d(
        x, w, b, x_zero_point=xz, w_zero_point=wz, stride=stride, padding=padding,
        dilation=dilation, groups=groups,
    )  # fmt: skip
    m, e = (np.reshape(a, (-1, 1, 1)) for a in (multiplier, shift))
    return requantize(
        acc, m, e, zero_point, q_min=q_min, q_max=q_max, rounding=rounding
    )


class Frozen(NamedTuple):
    """An array by value, so that what was planned for it is found again."""

    data: bytes
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @classmethod
    def of(cls, value: npt.ArrayLike | None) -> Self | None:
        """Freeze an array; None stays None."""
        if value is None:
            return None
        array = np.asarray(value)
        return cls(array.tobytes(), array.shape, array.dtype)

    def array(self) -> Array:
        """Return the array."""
        return np.frombuffer(self.data, self.dtype).reshape(self.shape)


@lru_cache(maxsize=32, typed=True)
def _planned(
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    x_zero_point: int,
    w: Frozen,
    b: Frozen | None,
    multiplier: Frozen,
    shift: Frozen,
    w_zero_point: Frozen,
    at: Window,
    groups: int,
    zero_point: int,
    q_min: int,
    q_max: int,
    rounding: str,
) -> Program | None:
    """Check and plan a layer; None where the machine has no step for it."""
    weights, wz = w.array(), w_zero_point.array()
    m, e = (np.reshape(a.array(), (-1, 1, 1)) for a in (multiplier, shift))
    height, width = shape[1:]
    sums = np.zeros((1, len(weights), *output_size((height, width), at)), np.int32)
    as_requantize_operands(sums, m, e, zero_point, q_min, q_max)
    centred = weights.astype(np.int64) - wz[:, None, None, None]
    bias = np.zeros(len(weights), np.int64) if b is None else b.array()
    bound = check_accumulator(dtype, x_zero_point, centred, bias, "int32")
    if carrier(dtype, x_zero_point, centred, bound) != np.int8 or not centred.size:
        return None
    codes = Codes(q_min, q_max, zero_point)
    scaling = Scaling(m.reshape(-1), e.reshape(-1), codes, rounding)
    info, program = np.iinfo(dtype), Program()
    source = program.load(shape, Codes(info.min, info.max, x_zero_point))
    w8 = centred.astype(np.int8)
    with suppress(UnsupportedError):
        program.store(program.sum(source, w8, bias, at, scaling, groups=groups))
        return program
    return None
