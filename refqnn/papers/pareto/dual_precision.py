"""DualPrecision: one precision for depth-wise convolutions, one for all the others.

Chin, Chuang, Chandra, Marculescu. arXiv:2008.09916, section 6 and appendix E.

    paper                                              code
    the set of precisions, {1, 2, 4, 8}                PRECISIONS
    the grid, |B| x |B|, or |B| without depth-wise     grid
    ... at the size of the smallest 8-bit network      target, of ``aligned_network``
    the cell of the highest accuracy                   best
    traverse the curve by width-multipliers            ``aligned_network`` for each size
    "Flexible": a policy of HAQ, then widths           ``policy``

The heuristic is the first of these lines: one precision dominates at every size, so
that the grid is searched once, at the size that trains fastest. First and last layers
have 8 bits throughout.

A configuration is that of ``refqnn.networks.build``. Sizes are C_size in bits.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from refqnn.cost import c_size_bits
from refqnn.networks.from_config import build
from refqnn.nn import Sequential
from refqnn.papers.pareto.alignment import Aligned, align, sizes_on, width_grid
from refqnn.papers.pareto.single_training import with_policy

PRECISIONS = (1, 2, 4, 8)
#: widths that are tried, as shares of the network's own
GRID = width_grid(0.1, 6.0)


class Cell(NamedTuple):
    """A pair of precisions, and the network of the grid's size that has them.

    The width in ``aligned`` is a share of the configuration's own.
    """

    bits: int
    depthwise_bits: int | None
    network: dict[str, Any]
    aligned: Aligned


def network_to_count(
    config: Mapping[str, Any], policy: Mapping[str, int] | None, *, width: float
) -> Sequential:
    """Build a network without weights, ``width`` times as wide as its own, to count.

    Activations have no part in C_size, and their quantizers half of the time.
    """
    of_weights = {k: v for k, v in config.items() if k != "activation_bits"}
    network = build(of_width(of_weights, width))
    return network if policy is None else with_policy(network, policy)


def aligned_network(
    config: Mapping[str, Any],
    target: float,
    *,
    policy: Mapping[str, int] | None = None,
    widths: Sequence[float] = GRID,
    measure: Callable[[Sequential], int] = c_size_bits,
) -> tuple[dict[str, Any], Aligned]:
    """Return the widest network that is not larger than ``target`` bits, N(b, s).

    ``measure`` is C_size, or another cost in bits.

    Raises ValueError for a target no width of the grid meets.

    >>> config = {"network": "separable", "weight_bits": 1, "width": 0.5}
    >>> wide, aligned = aligned_network(config, 8000)
    >>> wide["width"], aligned.c_size_bits, round(aligned.residual_bits)
    (1.31, 7959, 41)
    """
    sizes = sizes_on(widths, partial(network_to_count, config, policy), measure)
    aligned = align(widths, sizes, target)
    return of_width(config, aligned.width), aligned


def of_width(config: Mapping[str, Any], width: float) -> dict[str, Any]:
    """Return a configuration ``width`` times as wide as its own, to six digits.

    >>> of_width({"network": "resnet", "width": 0.1}, 3)
    {'network': 'resnet', 'width': 0.3}
    """
    return {**config, "width": round(config.get("width", 1.0) * width, 6)}


def grid(
    config: Mapping[str, Any],
    target: float,
    *,
    separable: bool,
    precisions: Sequence[int] = PRECISIONS,
) -> list[Cell]:
    """Return a network of the size ``target`` for every pair of precisions.

    Networks without depth-wise convolutions (not ``separable``) have a cell for every
    precision.

    >>> cells = grid({"network": "separable"}, 8000, separable=True)
    >>> len(cells), [cell.depthwise_bits for cell in cells[:4]]
    (16, [1, 2, 4, 8])
    """
    cells = []
    for bits in precisions:
        for depthwise in precisions if separable else (None,):
            own: dict[str, Any] = {"weight_bits": bits}
            own |= {} if depthwise is None else {"depthwise_bits": depthwise}
            network, aligned = aligned_network({**config, **own}, target)
            cells.append(Cell(bits, depthwise, network, aligned))
    return cells


def best(accuracies: Sequence[float]) -> int:
    """Return the index of the highest accuracy; the first, the fewest bits, of equals.

    >>> best([70.0, 72.5, 72.5])
    1
    """
    return max(range(len(accuracies)), key=lambda i: (accuracies[i], -i))
