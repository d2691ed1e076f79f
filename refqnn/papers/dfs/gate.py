"""The gate: after block i it decides what block i + 1 executes.

DFS, arXiv:2001.00705, section 3, and its release; the recurrent gate of SkipNet (Wang
et al., ECCV 2018, arXiv:1711.09485) with n outputs.

    e_i = W_i mean(x_i) + b_i             one embedding a block, C -> D            (e)
    h, c = LSTM(e_i; h, c)                shared, from zeros in every pass         (h)
    z_(i+1) = U h + u                     shared, D -> n                           (z)
    p_(i+1) = softmax(z_(i+1))            in network.py                            (p)

The letters are of this file. D = 10 (released code). Nothing is detached: the
gradient of a decision flows into x_i.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple, final

import numpy as np

from refqnn._types import Float
from refqnn.core import Param, Run
from refqnn.nn import Linear
from refqnn.prompt import one_line

HIDDEN = 10

#: hidden and cell state of the LSTM
State = tuple[Float, Float]


@one_line
class GateCache(NamedTuple):
    """What ``RecurrentGate.backward`` needs."""

    backend: Any
    pool: Any
    embedding: Any
    lstm: Any
    projection: Any


@final
@dataclass(eq=False)
class RecurrentGate:
    """An embedding for every block, and the LSTM and projection that all share.

    ``implicit_zero`` puts a logit 0 before those of the projection: with one output,
    softmax is then the sigmoid of SkipNet.
    """

    embeddings: list[Linear]
    w_x: Param
    w_h: Param
    b: Param
    projection: Linear
    implicit_zero: bool = False

    def start(self, batch: int) -> State:
        """Give the state before the first block: zeros, (B, D) each."""
        zeros = np.zeros((batch, self.w_h.value.shape[1]), self.w_h.value.dtype)
        return zeros, zeros

    def forward(
        self, i: int, x: Float, state: State, run: Run
    ) -> tuple[Float, State, GateCache]:
        """Compute the logits of block i + 1 and the new state.

        i counts from 0, x: (B, C, H, W)  ->  z: (B, n), state: (B, D) twice
        """
        ops = run.backend.ops
        mean, c1 = ops.global_avg_pool2d(x)
        e, c2 = self.embeddings[i].forward(mean, run)  # (e)
        state, c3 = ops.lstm_cell(
            e, *state, self.w_x.value, self.w_h.value, self.b.value
        )  # (h)
        z, c4 = self.projection.forward(state[0], run)  # (z)
        if self.implicit_zero:
            z = np.concatenate([np.zeros_like(z[:, :1]), z], axis=1)
        return z, state, GateCache(run.backend, c1, c2, c3, c4)

    def backward(
        self, i: int, dz: Float, dstate: State, cache: GateCache
    ) -> tuple[Float, State]:
        """dz: (B, n), dstate: (B, D) twice  ->  dx: (B, C, H, W), dstate before"""
        ops = cache.backend.ops
        dz = dz[:, 1:] if self.implicit_zero else dz
        dh = dstate[0] + self.projection.backward(dz, cache.projection)
        g = ops.lstm_cell_backward((dh, dstate[1]), cache.lstm)
        for param, grad in ((self.w_x, g.dw_x), (self.w_h, g.dw_h), (self.b, g.db)):
            param.grad += grad
        dmean = self.embeddings[i].backward(g.dx, cache.embedding)
        return ops.global_avg_pool2d_backward(dmean, cache.pool), (g.dh, g.dc)

    def macs(self, i: int) -> int:
        """Count the multiply-adds of one decision after block i, biases left out.

        >>> gate = recurrent_gate([16], 4, rng=np.random.default_rng(0))
        >>> gate.macs(0)  # 16 x 10 + 2 x 40 x 10 + 3 x 10 + 10 x 4
        1030
        """
        d = self.w_h.value.shape[1]
        lstm = self.w_x.value.size + self.w_h.value.size + 3 * d
        return self.embeddings[i].w.value.size + lstm + self.projection.w.value.size


def recurrent_gate(
    channels: list[int],
    outputs: int,
    *,
    hidden: int = HIDDEN,
    implicit_zero: bool = False,
    dtype: Any = np.float32,
    rng: np.random.Generator,
) -> RecurrentGate:
    """Make gates for blocks of these channels, started as the release does.

    Embeddings N(0, 2 / D), projection N(0, 2 / (D n)), LSTM uniform in 1 / sqrt(D);
    biases of embeddings and projection start at 0 (a choice). The LSTM has one bias
    where the release has two, that are only ever added.
    """

    def normal(rows: int, columns: int, variance: float) -> Linear:
        w = rng.standard_normal((rows, columns)) * np.sqrt(variance)
        bias = Param(np.zeros(rows, dtype), group="affine")
        return Linear(Param(w.astype(dtype)), bias)

    def lstm(*shape: int, group: str = "weight") -> Param:
        values = rng.uniform(-1, 1, shape) / np.sqrt(hidden)
        return Param(values.astype(dtype), group=group)

    return RecurrentGate(
        embeddings=[normal(hidden, c, 2 / hidden) for c in channels],
        w_x=lstm(4 * hidden, hidden),
        w_h=lstm(4 * hidden, hidden),
        b=lstm(4 * hidden, group="affine"),
        projection=normal(outputs, hidden, 2 / (hidden * outputs)),
        implicit_zero=implicit_zero,
    )
