"""What the paper prints: decisions of figures 12 to 15, tables 1 and 2.

DFS, arXiv:2001.00705, and its supplement. The files in ``papers/printed`` say what was
digitised, and how the two bars that contradict themselves were read: figure 12 draws
block 36 at 8 and at 16 bits, which imply a cp of 18.6 and 19.2 %, and figure 13 leaves
out the keep share of block 33. The bars of figure 15 imply 51.9 % under a caption of
50 %. Of figures 8 to 11 only what the text says is known.
"""

from typing import Any

import numpy as np

from refqnn._types import Float
from refqnn.papers.dfs.cost import KEEP, OPTIONS, SKIP
from refqnn.papers.printed_tables import read_table

#: gated blocks of ResNet-74 are 2 to 36
GATED = 35


def printed_decisions(cp_percent: int) -> Float:
    """Read the shares of (skip, 8, 16, keep) in the gated blocks 2 to 36: (35, 4).

    cp_percent: 20, 30, 40 or 50, figures 12 to 15.

    >>> printed_decisions(40)[0]  # block 2: two thirds keep, the rest 16 bits
    array([0.  , 0.  , 0.33, 0.67])
    """
    every = read_table("dfs_decisions.csv")
    bars = [r for r in every if int(r["cp_percent"]) == cp_percent]
    if not bars:
        raise ValueError(f"cp_percent must be 20, 30, 40 or 50, got {cp_percent}")
    shares = np.zeros((GATED, len(OPTIONS)))
    shares[:, OPTIONS.index(int(bars[0]["other_bits"]))] = 1
    for r in bars:
        block, share = int(r["block"]) - 2, float(r["share"])
        shares[block, OPTIONS.index(int(r["other_bits"]))] = round(1 - share, 2)
        shares[block, OPTIONS.index(int(r["bits"]))] = share
    return shares


def printed_table(number: int) -> list[dict[str, Any]]:
    """Read table 1 or 2: alpha, sign, target, cp and accuracy, in per cent.

    >>> printed_table(1)[1]["cp_percent"]  # the constant sign ends far below 40 %
    8.2
    """
    numbers = ("alpha", "target_percent", "cp_percent", "accuracy_percent")
    return [
        {"sign": r["sign"]} | {key: float(r[key]) for key in numbers}
        for r in read_table("dfs_tables.csv")
        if int(r["table"]) == number
    ]


def option_name(bits: int) -> str:
    """Name an option.

    >>> [option_name(bits) for bits in (0, 8, 32)]
    ['skip', '8 bits', 'keep']
    """
    return {SKIP: "skip", KEEP: "keep"}.get(bits, f"{bits} bits")
