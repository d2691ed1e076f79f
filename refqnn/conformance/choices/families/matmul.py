"""matmul: products of two arrays of codes, neither of which is constant.

    sum over k of (x[i, k] - z_x) (y[k, j] - z_y)     (1)

Read as products of rows of y transposed, it asks what ``linear`` asks.
"""

from functools import cache

import numpy as np

from refqnn import integer
from refqnn._types import Int
from refqnn.conformance.choices import axes, draws, kinds, rows
from refqnn.conformance.choices.families import convolution
from refqnn.conformance.choices.family import Choices, Family, Inputs, Outputs
from refqnn.integer.products import matmul as checked

#: answers of ``linear`` to what is no question here
AS_LINEAR = {"weight_order": "OI", "bias": "ignored"}


def matmul(
    choices: Choices, x: Int, y: Int, x_zero_point: int, y_zero_point: int
) -> Outputs:
    """Equation (1) for matrices, or for as many of both."""
    zeros = {"a_zero_point": x_zero_point, "b_zero_point": y_zero_point}
    checked(x[..., :1, :1], y[..., :1, :1], **zeros, accumulator="int64")  # raises
    if choices["y_order"] == "transposed":
        y = np.ascontiguousarray(y).reshape(*y.shape[:-2], *y.shape[:-3:-1])
        y = y.swapaxes(-1, -2)
    leading = np.broadcast_shapes(x.shape[:-2], y.shape[:-2])
    pairs = zip(
        np.broadcast_to(x, leading + x.shape[-2:]).reshape(-1, *x.shape[-2:]),
        np.broadcast_to(y, leading + y.shape[-2:]).reshape(-1, *y.shape[-2:]),
        strict=True,
    )
    answers, none = {**choices, **AS_LINEAR}, np.zeros(y.shape[-1], np.int32)
    products = [
        convolution.linear(answers, m, w.T, none, x_zero_point, y_zero_point)["y"]
        for m, w in pairs
    ]
    return {"y": np.stack(products).reshape(*leading, x.shape[-2], y.shape[-1])}


def inputs(rng: np.random.Generator, *shape: int) -> Inputs:
    """Draw codes that fill their types: uint8 (..., I, K), int8 (..., K, J)."""
    *leading, i, k, j = shape
    a = rng.integers(0, 256, (*leading, i, k)).astype(np.uint8)
    b = rng.integers(-128, 128, (*leading, k, j)).astype(np.int8)
    zeros = int(rng.integers(1, 256)), int(rng.integers(-128, 128)) | 1
    return draws.call(matmul, a, b, *zeros)


@cache
def candidates() -> list[Inputs]:
    """List one small product by hand, a deep one, then drawn ones."""
    rng = np.random.default_rng(20_261_130)
    a, b = np.array([[1, 2]], np.uint8), np.array([[1, 3], [2, 4]], np.int8)
    deep = np.full((1, 600), 32_130, np.int16), np.full((600, 2), 120, np.int8)
    drawn = [inputs(rng, *of) for of in ((1, 4, 3), (4, 16, 8), (2, 3, 7, 5))]
    drawn += [wide(rng, 24) for _ in range(12)]
    small = [draws.call(matmul, a, b, 1, z) for z in (0, 2)]
    return [*small, draws.call(matmul, *deep, 3, 0), *drawn]


def wide(rng: np.random.Generator, n: int) -> Inputs:
    """Draw matrices of any size, one or more; sums that no int32 holds."""
    i, k, j, deep = draws.product(rng, n)
    several = 3 if n > draws.MOST else 2
    leading = () if deep else draws.pick(rng, (), (), (1,), (several,))
    dtypes = draws.pick(rng, "uint8", "int8", "int16"), draws.pick(rng, "int8", "uint8")
    a = draws.codes(rng, (*leading, i, k), dtypes[0])
    b = draws.codes(rng, (*leading, k, j), dtypes[1])
    if deep:
        a = draws.high(a, convolution.QUARTER[a.itemsize])
        b = draws.high(b, convolution.QUARTER[1])
    zeros = [draws.offset(rng, dtype) for dtype in dtypes]
    return draws.call(matmul, draws.laid_out(rng, a), draws.laid_out(rng, b), *zeros)


def sums_of(call: Inputs) -> Int:
    """Return the outputs of refqnn, in int64."""
    x, y, x_zero_point, y_zero_point = call.values()
    zeros = {"a_zero_point": x_zero_point, "b_zero_point": y_zero_point}
    return integer.matmul(x, y, **zeros, accumulator="int64")


FAMILIES = (
    Family(
        "matmul",
        (
            "{y_order}",
            "{x_zero_point_use}: {code_difference}; {w_zero_point_use}",
            "{accumulator}",
        ),
        axes.of(
            "accumulator x_zero_point_use w_zero_point_use code_difference y_order"
        ),
        matmul,
        candidates,
        lambda rng, n: inputs(rng, max(n // 8, 1), 16, 8),
        canonical=convolution.canonical,
        wide=wide,
        regions=kinds.regions(
            "x: dtypes uint8 int8 int16, integers, layout, examples, tails",
            "x: columns values 1 7 64 65",
            "y: dtypes int8 uint8, integers, layout",
            "x_zero_point y_zero_point: integers",
        )
        | kinds.where("x", {"several matrices": lambda x: x.ndim > 2 and len(x) > 1})
        | kinds.where("y", {"square": lambda y: y.shape[-1] == y.shape[-2] > 1})
        | kinds.where("y", {"above 32 columns, large": lambda y: y.shape[-1] > 32})
        | kinds.wide_sums(sums_of, 16, 24, 32)
        | rows.long_rows(lambda call: call["y"].shape[-1]),
    ),
)
