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
"""
