"""Broadcasting sums, and the residual addition that is one.

Derivation: DERIVATIONS.md, "add".
"""

import numpy as np

from refqnn._types import Float
from refqnn.ops.checks import check_float, check_gradient


def sum_to(g: Float, shape: tuple[int, ...]) -> Float:
    """Sum ``g`` over the axes along which ``shape`` was broadcast to reach it.

    Accumulates in float64 and returns the dtype of ``g``.

    g: (...)  ->  shape

    >>> sum_to(np.ones((2, 3)), (1, 3))
    array([[2., 2., 2.]])
    """
    lead = g.ndim - len(shape)
    own = tuple(range(lead, g.ndim))
    axes = [*range(lead)]
    for a, size in zip(own, shape, strict=True):
        if size == 1 and g.shape[a] != 1:
            axes.append(a)
    if not axes:
        return g.copy()
    return g.sum(axis=tuple(axes), dtype=np.float64).astype(g.dtype).reshape(shape)


def add(x: Float, y: Float) -> tuple[Float, tuple[tuple[int, ...], tuple[int, ...]]]:
    """z = x + y, broadcast; the residual addition of a block.

    x: (...), y: (...)  ->  z: (...)

    The result has the dtype of x. Raises ValueError where the shapes do not broadcast.

    >>> add(np.ones((2, 1)), np.array([1.0, 2.0]))[0]
    array([[2., 3.],
           [2., 3.]])
    """
    check_float(x=x, y=y)
    return (x + y).astype(x.dtype, copy=False), (x.shape, y.shape)


def add_backward(
    dz: Float, cache: tuple[tuple[int, ...], tuple[int, ...]]
) -> tuple[Float, Float]:
    """dx = dz, dy = dz, each summed over the axes along which it was broadcast.

    dz: (...)  ->  dx: shape of x, dy: shape of y

    >>> add_backward(np.ones((2, 2)), add(np.ones((2, 1)), np.ones(2))[1])[1]
    array([2., 2.])
    """
    x_shape, y_shape = cache
    check_gradient(dz, np.broadcast_shapes(x_shape, y_shape), name="dz")
    return sum_to(dz, x_shape), sum_to(dz, y_shape)
