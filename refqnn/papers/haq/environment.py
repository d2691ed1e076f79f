r"""What HAQ's agent sees, does and is paid: states, actions, the budget, the reward.

    paper                                    code            where
    O_k, ten numbers a layer, (O)            rows            states
    a_k in [0, 1] -> b_k, (B)                bits            bits_of
    the budget, by lowering bits, (L)        kept            project
    R = lambda (acc_quant - acc_origin) (R)  0.1, per cent   Problem.reward

(O), (B), (L) and (R) are names of this file, not numbers of the paper.

Bits of weights are what is counted, linearly: ``size_ratio``. That is not the
"computation percentage" of DFS, which is quadratic, the product of the bits of weights
and activations: 8 bits everywhere are 1/4 here and 1/16 there.

Chosen here: the last action is in the state as bits / b_max in both orders, as in the
released environment with a latency table (the released one for model size puts in the
bits themselves, and before the first layer 4); before the first layer it is 1. A
convolution is depthwise if it has as many groups as input channels and more than one
(released code: also if it has one channel). The index is that among the layers.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, final

import numpy as np

from refqnn._types import Float, Int
from refqnn.core import named_modules
from refqnn.cost import FLOAT_BITS, cost
from refqnn.geometry import pair
from refqnn.nn import Linear

#: lambda of the reward, for accuracies in per cent
REWARD_SCALE = 0.1
#: names of the columns; "weight" is i_w/a: 1 for bits of weights, 0 of activations
PAPER_ORDER = (
    "index",
    "c_in",
    "c_out",
    "kernel",
    "stride",
    "feature",
    "weights",
    "depthwise",
    "weight",
    "last_action",
)
#: that of released code for weights only: nine columns
RELEASED_ORDER = (
    "depthwise",
    "c_in",
    "c_out",
    "stride",
    "kernel",
    "weights",
    "feature",
    "index",
    "last_action",
)
ORDERS = {"paper": PAPER_ORDER, "released": RELEASED_ORDER}


class Layer(NamedTuple):
    """A layer whose weights get bits; a fully connected one has kernel 1, stride 0."""

    name: str
    c_in: int
    c_out: int
    kernel: int
    stride: int
    feature: int  # H W of its input; of a fully connected layer its inputs
    weights: int
    depthwise: bool


def layer_table(network: Any, input_shape: tuple[int, int, int]) -> tuple[Layer, ...]:
    """Return the convolutions and fully connected layers, in the order they run.

    input_shape: (C, H, W) of one image. Of a kernel or stride that is not square the
    height is taken.
    """
    modules = dict(named_modules(network))
    rows = cost(network, input_shape).layers
    return tuple(layer_of(r.name, modules[r.name], r.input_shape) for r in rows)


def layer_of(name: str, module: Any, input_shape: tuple[int, ...]) -> Layer:
    """Describe a layer that reads maps of (C, H, W), or (I,) features."""
    w, c_in = module.w.value, input_shape[0]
    if isinstance(module, Linear):
        return Layer(name, c_in, len(w), 1, 0, c_in, w.size, depthwise=False)
    stride, _ = pair(module.stride, name="stride", least=1)
    pixels = math.prod(input_shape[1:])
    deep = getattr(module, "groups", 1) == c_in > 1
    return Layer(name, c_in, len(w), w.shape[2], stride, pixels, w.size, deep)


def states(
    layers: Sequence[Layer], *, order: str = "paper", activations: bool = False
) -> Float:
    """Return O_k of every decision, columns scaled to [0, 1].

    layers: L  ->  (L, 10) in the order of the paper, (L, 9) in that of released code

    Columns of one value stay as they are, so the last action starts as 1. With
    ``activations`` (paper order only) every layer has two rows, for the bits of its
    weights and then of its activations. Raises ValueError for no layers and an unknown
    order.
    """
    if order not in ORDERS or (activations and order != "paper"):
        raise ValueError(
            f"order must be one of {sorted(ORDERS)}, and 'paper' with activations, "
            f"got {order!r}"
        )
    if not len(layers):
        raise ValueError("layers must hold at least one layer, got none")
    kinds = (1, 0) if activations else (1,)
    rows = [
        layer._asdict() | {"index": k, "weight": kind, "last_action": 1}
        for k, layer in enumerate(layers)
        for kind in kinds
    ]
    return scale_columns(
        np.array([[row[name] for name in ORDERS[order]] for row in rows])
    )  # (O)


def scale_columns(table: Float) -> Float:
    """Map every column to [0, 1] by its minimum and maximum; leave a constant one.

    table: (L, S)  ->  (L, S), float64

    >>> scale_columns(np.array([[3, 1], [3, 5], [3, 2]]))
    array([[3.  , 0.  ],
           [3.  , 1.  ],
           [3.  , 0.25]])
    """
    table = np.asarray(table, np.float64)
    low, high = table.min(axis=0), table.max(axis=0)
    spans = high > low
    return np.where(spans, (table - low) / np.where(spans, high - low, 1), table)


def bits_of(action: Float | float, *, b_min: int, b_max: int) -> Int:
    """b = round(lo + a (hi - lo)),  lo = b_min - 1/2, hi = b_max + 1/2

    action a: (...) in [0, 1]  ->  b: (...), every one of b_min .. b_max equally often

    Ties are rounded to even and the result is clipped, which at a = 0 and 1 is needed:
    unclipped 1 .. 7 bits would become 0 and 8. Raises ValueError for actions outside
    [0, 1] and bits that are not 1 <= b_min <= b_max.

    >>> bits_of(np.array([0.0, 0.5, 1.0]), b_min=1, b_max=7)
    array([1, 4, 7])
    """
    check_range(b_min, b_max)
    a = np.asarray(action, np.float64)
    if not np.all((a >= 0) & (a <= 1)):
        raise ValueError(f"action must be in [0, 1], got {action}")
    lo, hi = b_min - 0.5, b_max + 0.5
    return np.clip(np.rint(lo + a * (hi - lo)), b_min, b_max).astype(np.int64)  # (B)


def check_range(b_min: int, b_max: int) -> None:
    """Raise unless 1 <= b_min <= b_max <= 32, all ints."""
    for name, bits in (("b_min", b_min), ("b_max", b_max)):
        if isinstance(bits, bool) or not isinstance(bits, int | np.integer):
            raise ValueError(f"{name} must be an int, got {bits!r}")  # noqa: TRY004 - bad values are ValueErrors in this house
    if not 1 <= b_min <= b_max <= FLOAT_BITS:
        raise ValueError(f"1 <= b_min <= b_max <= 32 is needed, got {b_min}, {b_max}")


def size_ratio(bits: Int, weights: Int) -> float:
    """sum b_l n_l / (32 sum n_l): what HAQ's percentage of compression is

    bits, weights: (L,)  ->  ()

    Linear in bits, and of weights alone; DFS's "cp" is quadratic.

    >>> size_ratio(np.array([8, 8]), np.array([10, 30]))
    0.25
    """
    return float(np.dot(bits, weights) / (FLOAT_BITS * np.sum(weights)))


def budget(weights: Int, ratio: float) -> float:
    """T = ratio 32 sum n_l, in bits

    >>> budget(np.array([1, 3]), 0.25)
    32.0
    """
    return ratio * FLOAT_BITS * int(np.sum(weights))


def project(bits: Int, weights: Int, *, ratio: float, b_min: int) -> Int:
    """Lower bits by one, from the last layer to the first and again, until they fit.

    bits, weights: (L,)  ->  (L,), sum b_l n_l <= ratio * 32 sum n_l

    Layers at b_min are passed over, and nothing is lowered once the budget is met.
    Raises ValueError for bits below b_min and a ratio below b_min / 32.

    >>> project(np.array([8, 8]), np.array([1, 3]), ratio=0.2, b_min=2)
    array([7, 6])
    """
    check_ratio(ratio, b_min)
    check_policy(bits, weights, b_min)
    kept = np.array(bits, np.int64)
    size = int(np.dot(kept, weights))
    target = budget(weights, ratio)
    while size > target:
        for layer in reversed(range(kept.size)):
            if kept[layer] > b_min:
                kept[layer] -= 1  # (L)
                size -= int(weights[layer])
            if size <= target:
                break
    return kept


def check_ratio(ratio: float, b_min: int) -> None:
    """Raise unless even b_min everywhere fits the ratio, and the ratio is at most 1."""
    floor = b_min / FLOAT_BITS
    if not floor <= ratio <= 1:
        raise ValueError(
            f"ratio must be in [b_min / 32 = {floor:g}, 1]: {b_min} bits in every "
            f"layer are {floor:g} of the size, got {ratio}"
        )


def check_policy(bits: Int, weights: Int, b_min: int) -> None:
    """Raise unless both are (L,), bits at least b_min and weights at least 1."""
    b, n = np.asarray(bits), np.asarray(weights)
    if b.ndim != 1 or b.shape != n.shape or not b.size:
        raise ValueError(
            f"bits and weights must be (L,): bits{b.shape}, weights{n.shape}"
        )
    if b.dtype.kind not in "iu" or b.min() < b_min:
        raise ValueError(f"bits must be ints of at least b_min = {b_min}, got {bits}")
    if n.min() < 1:
        raise ValueError(f"weights must be at least 1 in every layer, got {weights}")


@final
@dataclass(frozen=True)
class Problem:
    """Which bits for which layer, such that the weights shrink to ``ratio``.

    ``float_accuracy`` is that of the network before, in per cent. Raises ValueError for
    a ratio that cannot be met.
    """

    layers: tuple[Layer, ...]
    ratio: float
    float_accuracy: float
    b_min: int = 2
    b_max: int = 8

    def __post_init__(self) -> None:
        check_range(self.b_min, self.b_max)
        check_ratio(self.ratio, self.b_min)
        if not self.layers:
            raise ValueError("layers must hold at least one layer, got none")

    @property
    def weights(self) -> Int:
        """Return the number of weights of every layer: (L,)."""
        return np.array([layer.weights for layer in self.layers])

    def policy(self, proposed: Int) -> Int:
        """Return the proposed bits, lowered until they fit: (L,)  ->  (L,)"""
        return project(proposed, self.weights, ratio=self.ratio, b_min=self.b_min)

    def fits(self, policy: Int) -> bool:
        """Return whether the policy is within the budget: (L,)  ->  bool"""
        return int(np.dot(policy, self.weights)) <= budget(self.weights, self.ratio)

    def reward(self, accuracy: float) -> float:
        """R = 0.1 (accuracy - float_accuracy), in per cent

        >>> problem = Problem((Layer("fc", 2, 3, 1, 0, 2, 6, False),), 0.2, 90.0)
        >>> problem.reward(85.0)
        -0.5
        """
        return REWARD_SCALE * (accuracy - self.float_accuracy)  # (R)
