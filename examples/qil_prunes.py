"""QIL learns an interval for each layer; what lies below it becomes zero.

Quantization Interval Learning (arXiv:1808.05779): weights and activations are mapped by
a learned center c and half width d; below c - d they are pruned, above c + d clipped. A
small AlexNet is trained in floating point and fine-tuned at 5, 4 and 3 bits, each stage
from the weights and intervals before. How much of each layer is zero then?
"""

from dataclasses import replace
from functools import partial

import numpy as np

from refqnn import data, fast, plots
from refqnn.networks import alexnet
from refqnn.nn import PARETO_CIFAR, fit_stages
from refqnn.papers.qil import progressive, pruning_ratios

pictures = data.embedded().first(1000)
make = partial(alexnet, width=1 / 8)


def begin(network, rng, epochs, *, lr):
    """Return the training of a stage; intervals move at a hundredth of the rate."""
    preset = replace(PARETO_CIFAR, lr=lr, warmup_epochs=1, epochs=8, batch=64)
    training = preset.training(network, 1000, rng=rng, epochs=epochs, backend=fast)
    training.optimiser.lr_factors = {"quantizer": 0.01}
    return training


common = {"test": pictures[2:]}
float_stages = fit_stages(
    [("float", lambda rng: make(rng=rng))],
    partial(begin, lr=0.05),
    pictures[:2],
    epochs=3,
    **common,
)
stages = progressive(
    lambda bits, rng: make(
        method="qil", weight_bits=bits, activation_bits=bits, rng=rng
    ),
    partial(begin, lr=0.02),
    pictures[:2],
    bits=(5, 4, 3),
    epochs=1,
    source=float_stages[-1].network,
    **common,
)
for stage in (*float_stages, *stages):
    print(f"{stage.name:6s} {stage.records[-1]['test_accuracy']:.1%}")

layers = pruning_ratios(stages[-1].network, pictures.test_images[:200], backend=fast)
print("\nzeros of      weights             activations")
for layer in layers:
    bar = "#" * round(10 * layer.weight_ratio)
    print(
        f"{layer.name:12s} {layer.weight_ratio:5.0%} {bar:10s}   "
        f"{layer.activation_ratio:5.0%} {'#' * round(10 * layer.activation_ratio)}"
    )
weights = plots.LayerBars(
    "Zeros among the weights of AlexNet",
    [layer.name for layer in layers],
    [layer.kind == "linear" for layer in layers],
    [layer.weights for layer in layers],
    [layer.weight_ratio for layer in layers],
)
inputs = weights._replace(
    title="Zeros among its activations",
    counts=[layer.activations for layer in layers],
    shares=[layer.activation_ratio for layer in layers],
)
plots.save(plots.pruning([(weights, inputs)]), "qil_prunes.png")
print("\nqil_prunes.png shows it")
assert np.all([0 < layer.weight_ratio < 1 for layer in layers])
