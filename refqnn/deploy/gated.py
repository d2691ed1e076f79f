"""Steps of a network whose gates choose, image by image, how a block runs.

    FloatStep    y = an operation of ``OPS`` on real numbers, as the network computes it
    CodedStep    y = s_x s_w sum (q_x - z_x) (q_w - z_w): codes of b bits, a sum of
                 integers, and one multiplication behind it
    GatedStep    the branch of each image that the decision of its gate names

Between these steps stand real numbers. Floats are those of the definitions whatever the
backend, so that a network has the same bits with ``refqnn`` and ``refqnn.fast``. Images
of one decision run together; what no image chose runs on none, and its tensors have no
rows.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from refqnn import ops
from refqnn._types import Array, Float, Int
from refqnn.deploy.fold import Grid
from refqnn.quantizers.min_max_grid import min_max_integers

Values = Mapping[str, Array]
#: codes of at most these bits are summed in int32
INT32_BITS = 8
#: the grid of a step whose results are real numbers
REAL_NUMBERS = Grid(1.0, 0, 0, 0)


def pixels(x: Int, *, scale: float, zero_point: int) -> Float:
    """scale (x - zero_point) in float32"""
    return np.float32(scale) * (x.astype(np.float32) - np.float32(zero_point))


def lstm(e: Float, *arrays: Array) -> tuple[Float, Float]:
    """e: (N, I), [h, c: (N, D)], w_x, w_h, b  ->  h, c: (N, D); they start as zeros"""
    *state, w_x, w_h, b = arrays
    zeros = np.zeros((len(e), w_h.shape[1]), w_h.dtype)
    h, c = state or (zeros, zeros)
    return ops.lstm_cell(e, h, c, w_x, w_h, b)[0]


def decide(z: Float, *, implicit_zero: bool = False) -> Int:
    """argmax of softmax(z), after a logit 0 in front of z where that is implicit"""
    if implicit_zero:
        z = np.concatenate([np.zeros_like(z[:, :1]), z], axis=1)
    return ops.softmax(z)[0].argmax(1)


#: op -> function of the sources, then the constants, of a step
OPS: dict[str, Callable[..., Any]] = {
    "pixels": pixels,
    "conv2d": lambda *arrays, **options: ops.conv2d(*arrays, **options)[0],
    "linear": lambda *arrays: ops.linear(*arrays)[0],
    "batch_norm": lambda *a, eps: ops.batch_norm_inference(*a, eps=eps)[0],
    "relu": lambda x: ops.relu(x)[0],
    "add": lambda x, y: x + y,
    "mean": lambda x: ops.global_avg_pool2d(x)[0],
    "lstm": lstm,
    "decide": decide,
}


@final
@dataclass(frozen=True, eq=False)
class FloatStep:
    """y = op(sources, constants, options), real numbers; a decision is an integer."""

    name: str
    sources: tuple[str, ...]
    op: str
    constants: tuple[Array, ...]
    options: Mapping[str, Any]
    shape: tuple[int, ...] = ()
    grid: Grid = REAL_NUMBERS

    def forward(self, values: Values, _integer: Any) -> dict[str, Array]:
        """Return the result; of an LSTM h, and c under ``NAME.cell``."""
        given = (values[source] for source in self.sources)
        y = OPS[self.op](*given, *self.constants, **self.options)
        if isinstance(y, tuple):
            return {self.name: y[0], f"{self.name}.cell": y[1]}
        return {self.name: y}


@final
@dataclass(frozen=True, eq=False)
class CodedStep:
    """y = s_x s_w conv(q_x - z_x, q_w - z_w), the convolution exact

    The inputs lie on the grid of ``bits`` from ``low`` to ``high``, with a true zero.
    """

    name: str
    source: str
    bits: int
    low: float
    high: float
    w: Int  # (O, C, Kh, Kw) codes in [0, 2^b)
    w_scale: float
    w_zero_point: int
    stride: int
    padding: int
    shape: tuple[int, ...] = ()
    grid: Grid = REAL_NUMBERS

    def forward(self, values: Values, integer: Any) -> dict[str, Array]:
        """source: (N, C, H, W)  ->  codes of it, accumulators and y: (N, O, Ho, Wo)"""
        x = values[self.source]
        q, scale, zero_point = min_max_integers(x, self.low, self.high, bits=self.bits)
        acc = integer.conv2d(
            q,
            self.w,
            x_zero_point=zero_point,
            w_zero_point=self.w_zero_point,
            stride=self.stride,
            padding=self.padding,
            accumulator="int32" if self.bits <= INT32_BITS else "int64",
        )
        y = (scale * self.w_scale * acc).astype(x.dtype)
        return {f"{self.name}.codes": q, f"{self.name}.accumulator": acc, self.name: y}


@final
@dataclass(frozen=True, eq=False)
class GatedStep:
    """y_n = the last step of branches[decision_n], of x_n; of an empty branch x_n

    What enters the branch of option k is called ``NAME.k``; the names of the steps in
    it begin so. Raises ValueError for a decision without a branch.
    """

    name: str
    sources: tuple[str, str]  # x and the decisions, (N,) integers
    options: tuple[int, ...]
    branches: tuple[tuple["FloatStep | CodedStep", ...], ...]
    shape: tuple[int, ...] = ()
    grid: Grid = REAL_NUMBERS

    def forward(self, values: Values, integer: Any) -> dict[str, Array]:
        """x: (N, C, H, W)  ->  y: (N, O, Ho, Wo), and what every branch computed"""
        x, taken = (values[source] for source in self.sources)
        if not np.isin(taken, range(len(self.branches))).all():
            raise ValueError(f"{self.name} has no branch for one of {np.unique(taken)}")
        stored: dict[str, Array] = {}
        results, rows = [], []
        for k, (option, branch) in enumerate(
            zip(self.options, self.branches, strict=True)
        ):
            rows.append(np.flatnonzero(taken == k))
            last = f"{self.name}.{option}"
            inner = {last: x[rows[-1]]}
            for step in branch:
                inner |= step.forward(inner, integer)
                last = step.name
            results.append(inner[last])
            stored |= inner
        y = np.concatenate(results)
        return stored | {self.name: y[np.argsort(np.concatenate(rows))]}
