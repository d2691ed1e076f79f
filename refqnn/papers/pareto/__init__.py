"""Which precision is best at a given size: the Pareto paper, a room for each part.

Chin, Chuang, Chandra, Marculescu. One Weight Bitwidth to Rule Them All. ECCV Workshops
2020, arXiv:2008.09916, the later version of the submission "On the Pareto Efficiency of
Quantized CNNs", whose numbering this is.

    paper                                     room             where
    Q(W), (1) to (5), appendix B              quantizers/      fixed_point, ternary, ...
    C_size, (6); memory, appendix F           refqnn/cost.py   c_size_bits, count
    table 3, recomputed                       sizes            table3, near_misses
    N(b, s), definition 4.1                   alignment        align, domination
    Var(mean|w|), (7), proposition 5.1        variance         mean_abs_variance
    figure 4                                  figure4          MeanAbsVariance
    Delta Acc, tables 1 and 2                 sensitivity      changes
    DualPrecision, section 6                  dual_precision   grid, aligned_network
    "Flexible": a policy of HAQ, then widths  flexible         policy_run
    one training of any of them               single_training  pareto_run
    what ``refqnn study`` runs                study            table 3, (7), appendix B
    ... figures 1 to 3                        study_curves     pareto_curves
    ... tables 1 and 2, figure 4              study_sensitivity
    ... tables 3 and 7, figures 6 and 7       study_dual_precision
    appendix A                                nn/presets.py    PARETO_...
    appendix C                                networks/        named

The derivation of the variance and the errata: PARETO.md, beside this folder.
"""

from refqnn.papers.pareto.alignment import Aligned as Aligned
from refqnn.papers.pareto.alignment import Curve as Curve
from refqnn.papers.pareto.alignment import Domination as Domination
from refqnn.papers.pareto.alignment import align as align
from refqnn.papers.pareto.alignment import domination as domination
from refqnn.papers.pareto.alignment import quadratic_width as quadratic_width
from refqnn.papers.pareto.alignment import sizes_on as sizes_on
from refqnn.papers.pareto.alignment import width_grid as width_grid
from refqnn.papers.pareto.dual_precision import PRECISIONS as PRECISIONS
from refqnn.papers.pareto.dual_precision import Cell as Cell
from refqnn.papers.pareto.dual_precision import aligned_network as aligned_network
from refqnn.papers.pareto.dual_precision import best as best
from refqnn.papers.pareto.dual_precision import grid as grid
from refqnn.papers.pareto.figure4 import MeanAbsVariance as MeanAbsVariance
from refqnn.papers.pareto.flexible import policy_run as policy_run
from refqnn.papers.pareto.sensitivity import KINDS as KINDS
from refqnn.papers.pareto.sensitivity import Changes as Changes
from refqnn.papers.pareto.sensitivity import changes as changes
from refqnn.papers.pareto.sensitivity import table1_runs as table1_runs
from refqnn.papers.pareto.sensitivity import table2_runs as table2_runs
from refqnn.papers.pareto.single_training import pareto_run as pareto_run
from refqnn.papers.pareto.single_training import with_policy as with_policy
from refqnn.papers.pareto.sizes import near_misses as near_misses
from refqnn.papers.pareto.sizes import table3 as table3
from refqnn.papers.pareto.variance import channel_correlation as channel_correlation
from refqnn.papers.pareto.variance import mean_abs_variance as mean_abs_variance
from refqnn.papers.pareto.variance import (
    mean_abs_variance_printed as mean_abs_variance_printed,
)
from refqnn.papers.pareto.variance import rho as rho
from refqnn.papers.pareto.variance import simulate as simulate
