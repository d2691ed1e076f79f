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

from refqnn.papers.quantnas.deployment import accuracy as accuracy
from refqnn.papers.quantnas.deployment import plain as plain
from refqnn.papers.quantnas.elastic_network import calibrate as calibrate
from refqnn.papers.quantnas.elastic_network import initialise as initialise
from refqnn.papers.quantnas.elastic_network import supernet as supernet
from refqnn.papers.quantnas.fold import folded_conv2d as folded_conv2d
from refqnn.papers.quantnas.fold import folded_conv2d_backward as folded_conv2d_backward
from refqnn.papers.quantnas.space import Space as Space
from refqnn.papers.quantnas.space import largest as largest
from refqnn.papers.quantnas.space import smallest as smallest
