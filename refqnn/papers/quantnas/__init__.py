r"""QuantNAS: search among the subnets of a quantized supernet.

Gao et al. QuantNAS: Quantization-aware Neural Architecture Search For Efficient
Deployment On Mobile Device. CVPR 2024 workshop on neural architecture search.

From the paper (its supplement, all that we have): a supernet whose subnets share
weights, with folded layers; batch norms calibrated for each subnet, so that folded
weights differ from subnet to subnet; a scale predictor in place of a scale that is
shared; figures 12 (the best scale differs threefold and fourfold between 30 subnets,
layers 5 and 48) and 13 (the front with the predictor lies above). It has no numbers for
figure 13, no bits, no seeds, and does not say which scale is "optimal".

Everything else is our design and marked so where it stands:

    what                                                     where
    batch norm folded by batch statistics, then quantized    fold.py
    depth, width, kernel of a block; genotypes, encoding     space.py
    shared, predicted, relative and best steps               scales.py
    a layer: slices of shared weights, chosen steps          shared_layers.py
    all layers; first steps, calibration of a subnet         elastic_network.py
    sandwich, distillation, Adam for scales                  sandwich.py
    bit operations, size, measured latency                   cost.py
    enumeration, evolution, fronts, hypervolume              search.py
    a subnet as a plain network, to deploy                   deployment.py
    accuracy of subnets, each once; integers compared        judge.py
    how far steps are from those of least square error       step_errors.py
    figure 12, smaller                                       study_scales.py
    figure 13, smaller                                       study.py

Best read in this order. Supplement and claim do not quite meet: figure 12 is about
subnets trained from scratch, the predictor serves calibrated subnets of a supernet, so
``study_scales`` measures both; and part of the ratios is the fan-in of folded weights
alone.
"""

from refqnn.papers.quantnas.cost import LatencyTable as LatencyTable
from refqnn.papers.quantnas.cost import bit_operations as bit_operations
from refqnn.papers.quantnas.cost import c_size as c_size
from refqnn.papers.quantnas.cost import load_table as load_table
from refqnn.papers.quantnas.cost import measure as measure
from refqnn.papers.quantnas.deployment import accuracy as accuracy
from refqnn.papers.quantnas.deployment import plain as plain
from refqnn.papers.quantnas.elastic_network import Supernet as Supernet
from refqnn.papers.quantnas.elastic_network import calibrate as calibrate
from refqnn.papers.quantnas.elastic_network import initialise as initialise
from refqnn.papers.quantnas.elastic_network import supernet as supernet
from refqnn.papers.quantnas.fold import Statistics as Statistics
from refqnn.papers.quantnas.fold import folded_conv2d as folded_conv2d
from refqnn.papers.quantnas.fold import folded_conv2d_backward as folded_conv2d_backward
from refqnn.papers.quantnas.sandwich import Alone as Alone
from refqnn.papers.quantnas.sandwich import Sandwich as Sandwich
from refqnn.papers.quantnas.sandwich import distillation as distillation
from refqnn.papers.quantnas.sandwich import train as train
from refqnn.papers.quantnas.scales import Oracle as Oracle
from refqnn.papers.quantnas.scales import Predicted as Predicted
from refqnn.papers.quantnas.scales import Relative as Relative
from refqnn.papers.quantnas.scales import Shared as Shared
from refqnn.papers.quantnas.scales import mse_step as mse_step
from refqnn.papers.quantnas.search import Evolution as Evolution
from refqnn.papers.quantnas.search import Point as Point
from refqnn.papers.quantnas.search import cheapest as cheapest
from refqnn.papers.quantnas.search import enumerate_space as enumerate_space
from refqnn.papers.quantnas.search import evolve as evolve
from refqnn.papers.quantnas.search import front as front
from refqnn.papers.quantnas.search import hypervolume as hypervolume
from refqnn.papers.quantnas.shared_layers import Calibrated as Calibrated
from refqnn.papers.quantnas.space import Gene as Gene
from refqnn.papers.quantnas.space import Space as Space
from refqnn.papers.quantnas.space import check_genotype as check_genotype
from refqnn.papers.quantnas.space import count as count
from refqnn.papers.quantnas.space import draw as draw
from refqnn.papers.quantnas.space import encode as encode
from refqnn.papers.quantnas.space import every as every
from refqnn.papers.quantnas.space import largest as largest
from refqnn.papers.quantnas.space import smallest as smallest
