"""HAQ's bits on ResNet-38 as DFS printed them: figures 16-18 of its supplement.

Shen, Fu, Wang, Xu, Wang, Lin. Fractional Skipping: Towards Finer-Grained Dynamic CNN
Inference. AAAI 2020, arXiv:2001.00705 (DFS), supplementary material. Read off the bars,
in ``printed/haq_resnet38_bits.csv``.

The axes are named the wrong way round: bits are vertical, layers horizontal. They do
not start at 0, so a bar at the minimum of its axis cannot be seen: ``hidden``. Only
figure 16 keeps the budget it is named after: 20.1 % for 20 %. Figure 17 is above its
30 % whatever the hidden bars are; figure 18 is 45.6 % for 50 % with these at the
minimum. Which of the 40 layers with weights the 35 bars are is not said; 2 .. 36 are
taken as the convolutions of the blocks, in order, without the last. DFS cites the code
as "haq-release" of "HAO"; it is mit-han-lab/haq. There, k-means with as many
centroids as weights changes nothing, and layers of more than 6 bits are let go while
fine-tuning, so that the 12 to 20 bits of figures 17 and 18 say little.
"""

from typing import NamedTuple

import numpy as np

from refqnn._types import Int
from refqnn.papers.haq.environment import size_ratio
from refqnn.papers.printed_tables import read_table

#: blocks in each of the three stages of ResNet-38, and channels of these
BLOCKS, CHANNELS = 6, (16, 32, 64)


class PrintedBits(NamedTuple):
    """One figure: bits of layers 2 .. 36, the hidden ones at the axis minimum."""

    figure: int
    percent: int  # the compression it is named after
    layers: Int  # (35,)
    bits: Int  # (35,)
    hidden: Int  # (35,), 1 where the bar cannot be seen

    def ratio(self, *, hidden_bits: int | None = None) -> float:
        """Return sum b n / (32 sum n), hidden bars at the axis minimum or as given."""
        bits = self.bits
        if hidden_bits is not None:
            bits = np.where(self.hidden, hidden_bits, bits)
        return size_ratio(bits, resnet38_weights()[self.layers - 2])


def printed_bits() -> list[PrintedBits]:
    """Return figures 16, 17 and 18.

    >>> [(f.percent, f.bits.size, int(f.hidden.sum())) for f in printed_bits()]
    [(20, 35, 0), (30, 35, 11), (50, 35, 6)]
    """
    rows = [
        {name: int(value) for name, value in row.items()}
        for row in read_table("haq_resnet38_bits.csv")
    ]
    policies = []
    for figure, percent in dict.fromkeys((r["figure"], r["percent"]) for r in rows):
        own = [row for row in rows if row["figure"] == figure]
        columns = ([row[name] for row in own] for name in ("layer", "bits", "hidden"))
        policies.append(PrintedBits(figure, percent, *map(np.array, columns)))
    return policies


def resnet38_weights() -> Int:
    """Return the weights of the 36 convolutions of the blocks, layers 2 .. 37.

    >>> resnet38_weights()[[0, 12, 13]]
    array([2304, 4608, 9216])
    """
    inputs = [CHANNELS[0], *np.repeat(CHANNELS, 2 * BLOCKS).tolist()[:-1]]
    outputs = np.repeat(CHANNELS, 2 * BLOCKS)
    return 9 * np.array(inputs) * outputs
