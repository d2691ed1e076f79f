"""Layers that normalize each channel: by mean and variance, or by mean and range.

In training by the batch, in evaluation by running statistics.
"""

from dataclasses import dataclass
from typing import Any, final

import numpy as np

from refqnn._types import Float
from refqnn.core import Buffer, Param, Run


def norm_backward(self: Any, dy: Float, cache: Any) -> Float:
    """Add the gradients of gamma and beta.

    dy: (N, C, H, W)  ->  dx: (N, C, H, W)
    """
    undo, norm_cache = cache
    dx, dgamma, dbeta = undo(dy, norm_cache)[:3]
    self.gamma.grad += dgamma
    self.beta.grad += dbeta
    return np.asarray(dx)


@final
@dataclass(eq=False)
class BatchNorm2d:
    """Normalize each channel by the batch in training, by running statistics in eval.

    running <- (1 - momentum) * running + momentum * batch, with the *unbiased* batch
    variance (M / (M - 1) times the one that normalizes, M = N H W), as PyTorch does.
    A replayed pass leaves the running statistics alone.
    """

    gamma: Param
    beta: Param
    mean: Buffer
    var: Buffer
    eps: float = 1e-5
    momentum: float = 0.1

    def forward(self, x: Float, run: Run) -> tuple[Float, Any]:
        """x: (N, C, H, W)  ->  y: (N, C, H, W)"""
        ops, gamma, beta = run.backend.ops, self.gamma.value, self.beta.value
        if run.training:
            y, cache = ops.batch_norm(x, gamma, beta, eps=self.eps)
            undo = ops.batch_norm_backward
            if run.replay is None:
                m = x.size // x.shape[1]
                update(self, mean=cache.mean, var=cache.var * (m / max(m - 1, 1)))
        else:
            mean, var = self.mean.value, self.var.value
            y, cache = ops.batch_norm_inference(x, gamma, beta, mean, var, eps=self.eps)
            undo = ops.batch_norm_inference_backward
        if run.observe is not None:
            run.observe(self, x, y)
        return y, (undo, cache)

    backward = norm_backward


@final
@dataclass(eq=False)
class RangeBatchNorm2d:
    """Normalize each channel by the mean range of chunks of the batch.

    In eval by running means of the batches' mean and scale K R + eps, moved as those of
    ``BatchNorm2d`` (a choice). Batches whose values do not come out even in ``chunks``
    are cut into the largest number of chunks below it that does (a choice).
    """

    gamma: Param
    beta: Param
    mean: Buffer
    scale: Buffer
    chunks: int = 16
    constant: Any = "released"
    eps: float = 1e-5
    momentum: float = 0.1

    def forward(self, x: Float, run: Run) -> tuple[Float, Any]:
        """x: (N, C, H, W)  ->  y: (N, C, H, W)"""
        ops, gamma, beta = run.backend.ops, self.gamma.value, self.beta.value
        if run.training:
            chunks = even_chunks(x.size // x.shape[1], self.chunks)
            y, cache = ops.range_batch_norm(
                x, gamma, beta, chunks=chunks, constant=self.constant, eps=self.eps
            )
            undo = ops.range_batch_norm_backward
            if run.replay is None:
                update(self, mean=cache.mean, scale=cache.scale)
        else:
            var = self.scale.value**2
            y, cache = ops.batch_norm_inference(
                x, gamma, beta, self.mean.value, var, eps=0.0
            )
            undo = ops.batch_norm_inference_backward
        if run.observe is not None:
            run.observe(self, x, y)
        return y, (undo, cache)

    backward = norm_backward


def update(norm: Any, **batch: Float) -> None:
    """running <- (1 - momentum) running + momentum batch, for each statistic: (C,)"""
    for name, value in batch.items():
        running = getattr(norm, name)
        moved = (1 - norm.momentum) * running.value + norm.momentum * value
        running.value = moved.astype(running.value.dtype)


def even_chunks(count: int, most: int) -> int:
    """Find the largest number of chunks, at most ``most``, that cuts count evenly.

    Chunks hold at least two values.

    >>> even_chunks(48, 16), even_chunks(50, 16), even_chunks(7, 16)
    (16, 10, 1)
    """
    fitting = (k for k in range(min(most, count // 2), 1, -1) if count % k == 0)
    return next(fitting, 1)
