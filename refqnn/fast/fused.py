"""Compositions of twins in one pass: equal to the composition, bit for bit."""

from contextlib import suppress

import numpy as np
import numpy.typing as npt

from refqnn._types import Int
from refqnn.fast.integer.conv import carrier, conv2d
from refqnn.fast.integer.rescale import requantize
from refqnn.fast.program import Codes, Program, Scaling, UnsupportedError
from refqnn.geometry import Padding, Pair, output_size, window
from refqnn.integer.checks import as_conv2d_operands, as_requantize_operands
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
    m, e = (np.reshape(a, (-1, 1, 1)) for a in (multiplier, shift))
    given = (x, w, b, x_zero_point, w_zero_point)
    x, w, b, xz, wz = as_conv2d_operands(
        *given, groups=groups, padding_value="zero_point"
    )
    at = window(w.shape[2:], stride=stride, padding=padding, dilation=dilation)
    sums = np.zeros((1, len(w), *output_size(x.shape[2:], at)), np.int32)
    as_requantize_operands(sums, m, e, zero_point, q_min, q_max)
    scaling = Scaling(
        m.reshape(-1), e.reshape(-1), Codes(q_min, q_max, zero_point), rounding
    )
    centred = w.astype(np.int64) - wz[:, None, None, None]
    bound = check_accumulator(x.dtype, xz, centred, b, "int32")
    if carrier(x.dtype, xz, centred, bound) == np.int8 and x.size * w.size:
        info, program = np.iinfo(x.dtype), Program()
        source = program.load(x.shape[1:], Codes(info.min, info.max, xz))
        bias = np.zeros(len(w), np.int64) if b is None else b
        w8 = centred.astype(np.int8)
        with suppress(UnsupportedError):
            program.store(program.sum(source, w8, bias, at, scaling, groups=groups))
            return program.run(x)[0]
    acc = conv2d(
        x, w, b, x_zero_point=xz, w_zero_point=wz, stride=stride, padding=padding,
        dilation=dilation, groups=groups,
    )  # fmt: skip
    return requantize(
        acc, m, e, zero_point, q_min=q_min, q_max=q_max, rounding=rounding
    )
