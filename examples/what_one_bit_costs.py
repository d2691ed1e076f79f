"""One bit and wide, or four bits and narrow? Networks of the same size.

The Pareto paper (arXiv:2008.09916): at one size in bits, fewer bits with more channels
win, unless filters read one channel. Here ResNet-8 of 4 bits sets the size; those of 2
and 1 bits are made as wide as fits into it. A few epochs on a small data set show how
it is done; `refqnn study pareto_curves` trains with several seeds and says who wins.
"""

from dataclasses import replace
from functools import partial

import numpy as np

from refqnn import data, fast
from refqnn.cost import c_size_bits, count
from refqnn.networks import resnet
from refqnn.nn import PARETO_CIFAR, fit
from refqnn.papers.pareto import align, sizes_on

pictures = data.embedded().first(2000)
pictures = pictures._replace(
    train_images=data.halve(pictures.train_images),
    test_images=data.halve(pictures.test_images),
)
make = partial(resnet, 8, activation_bits=4)
preset = replace(PARETO_CIFAR, warmup_epochs=0.5, epochs=2, batch=64)

# the size of the 4-bit network at half of its width: no weights are needed to count
target = c_size_bits(make(width=0.5, weight_bits=4, rng=None))
print(
    f"{target:,} bits of weights\n\nbits  width   left over   accuracy after 2 epochs"
)
grid = [k / 20 for k in range(6, 31)]
for bits in (4, 2, 1):
    sizes = sizes_on(grid, partial(make, weight_bits=bits, rng=None))
    aligned = align(grid, sizes, target)
    rng = np.random.default_rng(0)
    network = make(width=aligned.width, weight_bits=bits, rng=rng)
    training = preset.training(network, 2000, rng=rng, backend=fast)
    records = fit(training, pictures[:2], epochs=2, test=pictures[2:])
    left = aligned.residual_bits / target
    accuracy = records[-1]["test_accuracy"]
    print(f"{bits:4d}  {aligned.width:5.2f}  {left:10.2%}   {accuracy:.1%}")

# bits of weights are one price; multiply-adds are another, and grow with the width
macs = [
    count(make(width=width, weight_bits=4, rng=None), (1, 14, 14)).macs
    for width in (0.5, 1.0)
]
print(f"\ntwice as wide: {macs[1] / macs[0]:.1f} times the multiply-adds")
