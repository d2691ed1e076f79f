"""Equation 1 for one block, and its backward pass.

DFS, arXiv:2001.00705, section 3.

    x_i = sum_(k >= 1) m_ik C_i^(b_k)(x_(i-1)) + m_i0 skip_i(x_(i-1))              (1)

    paper                                     code              where
    equation 1, F_i is x_i                    y                 mixture
    G_i, the largest element selected         m                 gate_mask
    C_i^(b_k), F_(i-1) where skipped          candidates        block.py

skip_i is the identity where shapes allow it, else the shortcut alone (block.py). The
masks m come from the gate's probabilities p. ``straight_through``, the default and
the released code: the largest p wins the whole sample,
m = onehot(argmax p) - sg(p) + p, so that equation 1 as a mixture is only the gradient;
the first of equal probabilities wins (the release marks all of them). ``soft``: m = p
while training, as equation 1 is printed; in evaluation the largest wins here, too.

The backward pass, g = dL/dx_i, is the forward from bottom to top:

    dm_k = <g, candidate_k> + alpha sigma c_k, its second term equation 2's        (a)
    dz = p (dm - sum_j p_j dm_j), the gate's logits, in both modes                 (b)
    g_k = m_k g, what reaches candidate k                                          (c)
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from refqnn._types import Array, Float
from refqnn.core import Run
from refqnn.papers.dfs.block import FractionalBlock
from refqnn.papers.dfs.cost import SKIP, one_hot
from refqnn.prompt import one_line

GateMode = Literal["straight_through", "soft"]


@one_line
class MaskCache(NamedTuple):
    """m - p, which ``frozen`` holds while p varies: the residual of the mask."""

    residual: Float


def gate_mask(
    p: Float, *, gate_mode: GateMode, frozen: MaskCache | None = None
) -> tuple[Float, MaskCache]:
    """m = onehot(argmax p) - sg(p) + p, or p in the soft mode

    p: (B, n)  ->  m: (B, n); with ``frozen``, p plus the recorded residual

    >>> gate_mask(np.array([[0.25, 0.75], [0.5, 0.5]]), gate_mode="straight_through")[0]
    array([[0., 1.],
           [1., 0.]])
    """
    if frozen is not None:
        return p + frozen.residual, frozen
    m = p.copy() if gate_mode == "soft" else one_hot(p.argmax(1), p.shape[1])
    m = m.astype(p.dtype)
    return m, MaskCache(m - p)


class BlockPass(NamedTuple):
    """One gated block of a forward pass; candidates that did not run are None."""

    candidates: list[Float | None]
    caches: list[Any]
    m: Float  # (B, n)
    p: Float  # (B, n)
    gate: Any
    chosen: bool  # by ``choose``, not by the gate: no gradient from m to p


def mixture(
    block: FractionalBlock,
    x: Float,
    m: Float,
    options: Sequence[int],
    needed: Array,
    run: Run,
) -> tuple[Float, list[Float | None], list[Any]]:
    """Compute equation 1 over the candidates that are needed.

    x: (B, C, H, W), m: (B, n)  ->  y: (B, O, Ho, Wo), n candidates, n caches
    """
    candidates: list[Float | None] = [None] * len(options)
    caches: list[Any] = [None] * len(options)
    for k in np.flatnonzero(needed).tolist():
        b = options[k]
        candidates[k], caches[k] = (
            block.skip(x, run) if b == SKIP else block.forward(x, run, b)
        )
    parts = [each(m[:, k]) * y for k, y in enumerate(candidates) if y is not None]
    return np.asarray(sum(parts[1:], parts[0])), candidates, caches  # (1)


def mixture_backward(
    block: FractionalBlock, g: Float, at: BlockPass, options: Sequence[int]
) -> Float:
    """g: (B, O, Ho, Wo)  ->  dx: (B, C, H, W), through every candidate with a share"""
    dx: Any = 0.0
    for k, b in enumerate(options):
        if at.candidates[k] is None or not at.m[:, k].any():
            continue
        g_k = each(at.m[:, k]) * g  # (c)
        undo = block.skip_backward if b == SKIP else block.backward
        dx = dx + undo(g_k, at.caches[k])
    return np.asarray(dx)


def gate_gradient(g: Float, at: BlockPass, prices: Float) -> Float:
    """g: (B, O, Ho, Wo), prices = alpha sigma c: (n,)  ->  dz: (B, n)

    A decision that was chosen from outside has no gradient but that of its price.
    """
    dm = np.tile(prices, (len(g), 1))  # (a)
    if not at.chosen:
        for k, y in enumerate(at.candidates):
            if y is None:
                raise ValueError("backward through the gates needs a training pass")
            dm[:, k] += np.einsum("bchw,bchw->b", g, y, dtype=np.float64)
    p = at.p.astype(np.float64)
    dz: Float = p * (dm - (p * dm).sum(1, keepdims=True))  # (b)
    return dz.astype(g.dtype)


def each(m: Float) -> Float:
    """Return one factor a sample as a factor of its planes: (B,) -> (B, 1, 1, 1)."""
    return m[:, None, None, None]
