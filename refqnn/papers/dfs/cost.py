"""What a decision costs, and how the resource loss steers the cost to a target.

DFS, arXiv:2001.00705, section 3. A layer of b bits costs (b / 32)^2 of the full one: a
product of b-bit weights and b-bit inputs.

    paper                                    code             where
    b_k, bit-width of option k               options          check_options
    8 bits cost 8/32 x 8/32 = 1/16, (C)      c_k              costs
    computation percentage, cp, (P)          cp               computation_percentage
    E, resource loss, (E)                    E                resource
    alpha, positive above the target, (S)    sigma            dynamic_sign

The letters are of this file: the paper numbers equations 1 and 2 only.

Read in the released code, where the paper says "FLOPs": every gated block counts alike,
whatever its multiply-adds, and the first block, the stem, the classifier, the 1x1
shortcuts and the gates count nothing. Figure 10 agrees: blocks that all take 8 bits
are said to cost 6.25 % = 1/16. ``weights`` gives every block a share of its own, for
instance its multiply-adds. A cp that equals the target counts as below (released code).
Below 1/16 no network can be without skips, so that skips at 4 and 5 % are arithmetic:
``least_skip_share``.
"""

import itertools
from collections.abc import Sequence

import numpy as np

from refqnn._types import Float, Int
from refqnn.quantizers.min_max_grid import MOST_BITS

SKIP = 0
#: bits of the block that is not quantized
KEEP = 32
#: the paper's four options
OPTIONS = (SKIP, 8, 16, KEEP)
#: the released scripts' seven options
RELEASED_OPTIONS = (SKIP, 8, 10, 12, 14, 16, KEEP)


def check_options(options: Sequence[int]) -> tuple[int, ...]:
    """Give the options as a tuple; raise unless their bits, and so costs, increase.

    0 skips a block, 32 keeps it as it is, 1 to 24 quantize weights and inputs.

    >>> check_options([0, 8, 32])
    (0, 8, 32)
    """
    bits = tuple(options)
    if not bits:
        raise ValueError("options must hold at least one number of bits, got none")
    for b in bits:
        known = isinstance(b, int | np.integer) and not isinstance(b, bool)
        if not known or not (SKIP <= b <= MOST_BITS or b == KEEP):
            raise ValueError(
                f"options must be 0 (skip), 1 to {MOST_BITS} or 32 (keep), got {b!r}"
            )
    if any(later <= b for b, later in itertools.pairwise(bits)):
        raise ValueError(f"bits, and so costs, must increase in options, got {bits}")
    return bits


def costs(options: Sequence[int]) -> Float:
    """c_k = (b_k / 32)^2

    options: n numbers of bits  ->  c: (n,), float64

    >>> costs((0, 8, 16, 32))
    array([0.    , 0.0625, 0.25  , 1.    ])
    """
    return (np.array(check_options(options)) / KEEP) ** 2  # (C)


def one_hot(decisions: Int, n: int) -> Float:
    """m_k = 1 where k is the decision, else 0

    decisions: (...) in [0, n)  ->  m: (..., n), float64

    >>> one_hot(np.array([1, 0]), 2)
    array([[0., 1.],
           [1., 0.]])
    """
    check_decisions(decisions, n)
    chosen = np.asarray(decisions)[..., None] == np.arange(n)
    return chosen.astype(np.float64)


def check_decisions(decisions: Int, n: int) -> None:
    """Raise unless decisions are integers in [0, n).

    >>> check_decisions(np.array([0, 3]), 4)
    """
    d = np.asarray(decisions)
    if d.dtype.kind not in "iu" or (d.size and not 0 <= d.min() <= d.max() < n):
        worst = d.flat[np.abs(d - n / 2).argmax()] if d.dtype.kind in "iu" else d.dtype
        raise ValueError(f"decisions must be integers in [0, {n}), got {worst}")


def computation_percentage(
    m: Float, options: Sequence[int], *, weights: Float | None = None
) -> float:
    """cp = sum_l w_l mean_b sum_k m_blk c_k / sum_l w_l, as a share in [0, 1]

    m: (B, L, n), masks of L gated blocks; weights: (L,), ones by default  ->  cp

    The exact mean over samples; released code takes the mean over batches.

    >>> m = one_hot(np.array([[1, 3], [1, 0]]), 4)
    >>> computation_percentage(m, (0, 8, 16, 32))  # (1/16 + 1 + 1/16 + 0) / 4
    0.28125
    """
    m = np.asarray(m)
    if m.ndim != 3 or not m.size or m.shape[2] != len(options):
        raise ValueError(f"m must be (B, L, n = {len(options)}), got m{m.shape}")
    per_block = (m.astype(np.float64) @ costs(options)).mean(axis=0)
    w = np.ones(m.shape[1]) if weights is None else np.asarray(weights, np.float64)
    if w.shape != m.shape[1:2] or not w.sum() > 0 or w.min() < 0:
        raise ValueError(f"weights must be (L = {m.shape[1]},), positive, got {w}")
    return float(per_block @ w / w.sum())  # (P)


def resource(m: Float, options: Sequence[int]) -> float:
    """E = sum_blk m_blk c_k

    m: (B, L, n)  ->  E: a sum over samples and blocks, as released, not a mean

    >>> resource(one_hot(np.array([[1, 3], [1, 0]]), 4), (0, 8, 16, 32))
    1.125
    """
    return float((m.astype(np.float64) @ costs(options)).sum())  # (E)


def dynamic_sign(cp: float, target: float) -> int:
    """sigma = +1 where cp > target, else -1

    The loss CE + alpha sigma E falls with E above the target and rises below it.

    >>> dynamic_sign(0.41, 0.40), dynamic_sign(0.40, 0.40)
    (1, -1)
    """
    return 1 if cp > target else -1  # (S)


def check_target(target: float, options: Sequence[int]) -> None:
    """Raise unless ``target`` lies in (0, 1] and above the cheapest option.

    >>> check_target(0.0625, (8, 16))
    """
    c = costs(options)
    if not 0 < target <= 1:
        raise ValueError(f"target must lie in (0, 1], got {target}")
    if not c[0] <= target <= c[-1]:
        raise ValueError(
            f"target {target} is out of reach: options {tuple(options)} cost from "
            f"{c[0]:g} (floor) to {c[-1]:g}"
        )


def least_skip_share(target: float, options: Sequence[int]) -> float:
    """max(0, 1 - target / c_1): blocks that must be skipped to reach the target

    c_1 is the cost of the cheapest option that executes.

    >>> least_skip_share(0.05, (0, 8, 16, 32)), least_skip_share(0.2, (0, 8, 16, 32))
    (0.19999999999999996, 0.0)
    """
    check_target(target, options)
    c = costs(options)
    return 0.0 if c[0] > 0 else float(max(0.0, 1 - target / c[1]))
