"""Softmax cross-entropy with label smoothing, averaged over the batch.

    t[n, k] = (1 - a) 1{k = labels[n]} + a / K                                     (1)
    loss = -1/N sum_n sum_k t[n, k] log softmax(logits)[n, k]                      (2)

(1): Szegedy, Vanhoucke, Ioffe, Shlens, Wojna. Rethinking the Inception Architecture.
CVPR 2016, arXiv:1512.00567, section 7.
Derivation of the backward pass: DERIVATIONS.md, "softmax_cross_entropy".
"""

from typing import Any, NamedTuple

import numpy as np

from refqnn._types import Float, Int
from refqnn.ops.checks import FLOATS, check_float, check_real
from refqnn.ops.exponential import log_softmax
from refqnn.prompt import one_line


@one_line
class SoftmaxCrossEntropyCache(NamedTuple):
    """p - t: predicted minus wanted probabilities, (N, K) in float64."""

    surplus: Float
    dtype: np.dtype[np.floating[Any]]


def softmax_cross_entropy(
    logits: Float, labels: Int, *, label_smoothing: float = 0.0
) -> tuple[np.floating[Any], SoftmaxCrossEntropyCache]:
    """loss = -mean over n of log softmax(logits)[n, labels[n]]

    logits: (N, K), labels: (N,) integers in [0, K)  ->  loss: ()

    Computed in float64; the loss, in nats, has the dtype of the logits. Raises
    ValueError for an empty batch and for labels that are no classes.

    >>> loss, _ = softmax_cross_entropy(np.zeros((1, 4)), np.array([2]))
    >>> float(np.exp(loss))
    4.0
    """
    check_labels(logits, labels)
    check_real(label_smoothing, name="label_smoothing", low=0, high=1)
    n, k = logits.shape
    t = np.full((n, k), label_smoothing / k)
    t[np.arange(n), labels] += 1 - label_smoothing  # (1)
    log_p = log_softmax(logits)
    loss = (t * np.where(t > 0, 0 - log_p, 0)).sum() / n  # (2), 0 log 0 = 0
    cache = SoftmaxCrossEntropyCache(np.exp(log_p) - t, logits.dtype)
    return logits.dtype.type(loss), cache


def softmax_cross_entropy_backward(
    dloss: float | Float, cache: SoftmaxCrossEntropyCache
) -> Float:
    """dlogits = dloss (softmax(logits) - t) / N

    dloss: ()  ->  dlogits: (N, K)

    >>> _, cache = softmax_cross_entropy(np.zeros((1, 4)), np.array([2]))
    >>> softmax_cross_entropy_backward(1.0, cache)
    array([[ 0.25,  0.25, -0.75,  0.25]])
    """
    if np.shape(dloss) != ():
        raise ValueError(f"dloss must be one number, got shape {np.shape(dloss)}")
    surplus, dtype = cache
    return (float(dloss) * surplus / surplus.shape[0]).astype(dtype)


def check_labels(logits: Float, labels: Int) -> None:
    """Raise unless there is one label in [0, K) for every row of the logits."""
    if getattr(logits, "dtype", None) not in FLOATS:
        check_float(logits=logits)
    if logits.ndim != 2 or 0 in logits.shape:
        raise ValueError(f"logits must be (N, K), not empty: logits{logits.shape}")
    labels = np.asarray(labels)
    if labels.dtype.kind not in "iu":
        raise ValueError(f"labels must be integers, got dtype {labels.dtype}")
    n, k = logits.shape
    if labels.shape != (n,):
        raise ValueError(
            f"logits (N, K) and labels (N,) disagree on N: "
            f"logits{logits.shape}, labels{labels.shape}"
        )
    wrong = labels[(labels < 0) | (labels >= k)]
    if wrong.size:
        raise ValueError(f"labels must lie in [0, {k}), got {wrong[0]}")
