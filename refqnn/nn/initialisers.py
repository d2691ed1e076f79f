"""Values that parameters start from; every draw is from the generator passed in.

With ``rng=None`` nothing is drawn: a network that is only counted needs the shapes of
its weights, not 200 million of them.
"""

import math

import numpy as np
import numpy.typing as npt

from refqnn._types import Float
from refqnn.core import Buffer, Param
from refqnn.nn.norms import BatchNorm2d


def fan_in(shape: tuple[int, ...]) -> int:
    """Count the inputs of one output: everything but axis 0.

    >>> fan_in((16, 3, 3, 3)), fan_in((10, 64))
    (27, 64)
    """
    return math.prod(shape[1:])


def placeholder(shape: tuple[int, ...], dtype: npt.DTypeLike) -> Float:
    """Make zeros that take no memory and cannot be written.

    >>> placeholder((512, 512, 3, 3), np.float32).strides
    (0, 0, 0, 0)
    """
    return np.broadcast_to(np.zeros((), dtype), shape)


def he_normal(
    shape: tuple[int, ...],
    *,
    rng: np.random.Generator | None,
    dtype: npt.DTypeLike = np.float32,
) -> Float:
    """Draw normal values of deviation sqrt(2 / fan_in), which keeps ReLU signals alive.

    He et al., ICCV 2015, arXiv:1502.01852, equation 10.

    >>> he_normal((8, 2, 3, 3), rng=np.random.default_rng(0)).shape
    (8, 2, 3, 3)
    """
    if rng is None:
        return placeholder(shape, dtype)
    w = rng.standard_normal(shape) * math.sqrt(2 / fan_in(shape))
    return w.astype(dtype)


def uniform_fan_in(
    shape: tuple[int, ...],
    *,
    rng: np.random.Generator | None,
    dtype: npt.DTypeLike = np.float32,
) -> Float:
    """Draw from [-1 / sqrt(fan_in), 1 / sqrt(fan_in)), for classifiers.

    >>> w = uniform_fan_in((10, 4), rng=np.random.default_rng(0))
    >>> bool(np.all(abs(w) <= 0.5))
    True
    """
    if rng is None:
        return placeholder(shape, dtype)
    bound = 1 / math.sqrt(fan_in(shape))
    return rng.uniform(-bound, bound, shape).astype(dtype)


def batch_norm2d(
    channels: int, *, momentum: float = 0.1, dtype: npt.DTypeLike = np.float32
) -> BatchNorm2d:
    """Make a batch norm that starts as the identity of normalized input.

    >>> norm = batch_norm2d(3)
    >>> norm.gamma.value, norm.mean.value
    (array([1., 1., 1.], dtype=float32), array([0., 0., 0.], dtype=float32))
    """
    return BatchNorm2d(
        gamma=Param(np.ones(channels, dtype), group="affine"),
        beta=Param(np.zeros(channels, dtype), group="affine"),
        mean=Buffer(np.zeros(channels, dtype)),
        var=Buffer(np.ones(channels, dtype)),
        momentum=momentum,
    )
