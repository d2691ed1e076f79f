"""The rungs between a plain loop and the kernels of ``refqnn.fast``, for the page.

Each is written to be read, and each is held to the first by tests/docs/test_rungs.py.
"""

import numpy as np

from refqnn._types import Array, Float, Int
from refqnn.fast.compiler import njit


@njit()
def compiled_loop(x: Float, w: Float, y: Float) -> None:
    """y[n, o, p, q] = sum over c, i, j of w[o, c, i, j] x[n, c, p + i, q + j]

    x: (N, C, H, W), w: (O, C, Kh, Kw)  ->  y: (N, O, Ho, Wo), written
    """
    for n in range(y.shape[0]):
        for o in range(y.shape[1]):
            for p in range(y.shape[2]):
                for q in range(y.shape[3]):
                    total = x.dtype.type(0)
                    for c in range(w.shape[1]):
                        for i in range(w.shape[2]):
                            for j in range(w.shape[3]):
                                total += w[o, c, i, j] * x[n, c, p + i, q + j]
                    y[n, o, p, q] = total


@njit()
def flat_planes(x: Float, w: Float, y: Float) -> None:
    """The same sum, a tap at a time over a whole plane laid out flat.

    A shift of the window by (i, j) is one offset in the flat plane, so the innermost
    loop runs over thousands of neighbours. What wraps around a row is not copied out.
    """
    _, channels, height, width = x.shape
    rows, columns = y.shape[2:]
    span = height * width
    line = np.empty(span, x.dtype)
    for n in range(y.shape[0]):
        for o in range(y.shape[1]):
            line[:] = 0
            for c in range(channels):
                plane = x[n, c].reshape(span)
                for i in range(w.shape[2]):
                    for j in range(w.shape[3]):
                        offset, factor = i * width + j, w[o, c, i, j]
                        for k in range(span - offset):
                            line[k] += factor * plane[k + offset]
            for p in range(rows):
                for q in range(columns):
                    y[n, o, p, q] = line[p * width + q]


def requantize_loop(acc: Int, multiplier: int, shift: int) -> Int:
    """One rounding, half up, in Python's integers, which have no width.

    acc: (...)  ->  (...) int8, clipped
    """
    q = np.empty(acc.shape, np.int8)
    for at in np.ndindex(*acc.shape):
        product = int(acc[at]) * multiplier
        rounded = (product + (1 << (30 - shift))) >> (31 - shift)
        q[at] = min(max(rounded, -128), 127)
    return q


def xnor_loop(x: Array, w: Array) -> Int:
    """Sum the products of signs, one by one.

    x: (N, C, H, W) of +-1, w: (O, C, Kh, Kw) of +-1  ->  (N, O, Ho, Wo) int32
    """
    (n, _, height, width), (o, c, kh, kw) = x.shape, w.shape
    y = np.empty((n, o, height - kh + 1, width - kw + 1), np.int32)
    for image, out, p, q in np.ndindex(*y.shape):
        y[image, out, p, q] = sum(
            int(w[out, k, i, j]) * int(x[image, k, p + i, q + j])
            for k, i, j in np.ndindex(c, kh, kw)
        )
    return y
