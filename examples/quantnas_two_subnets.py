"""One supernet, trained once: its cheapest subnet and its largest one.

QuantNAS (Gao et al., CVPR 2024 workshop): subnets of many depths and widths share their
weights, are folded and quantized while they train, and need no training of their own. A
short training, then both ends of the space: accuracy, price, and the same subnet as a
network of integers.
"""

from refqnn.papers.quantnas.cost import bit_operations, c_size
from refqnn.papers.quantnas.judge import (
    Judge,
    compare_integers,
    image_parts,
    train_supernet,
)
from refqnn.papers.quantnas.search import cheapest
from refqnn.papers.quantnas.space import SMALL, count, largest

parts = image_parts("embedded", 500)
parts["test"] = tuple(part[:100] for part in parts["test"])
net = train_supernet(SMALL, 0, parts["train"], scales="predicted", steps=30)
judge = Judge(net, parts)
print(f"{count(SMALL)} subnets share the weights\n")
print("subnet      10^6 bit operations   kbit   held out    integers on test images")

ends = {
    "cheapest": cheapest(SMALL, lambda genotype: bit_operations(genotype, SMALL)),
    "largest": largest(SMALL),
}
for name, genotype in ends.items():
    operations = bit_operations(genotype, SMALL) / 1e6
    integers, compared = compare_integers(judge, genotype)
    print(
        f"{name:10s} {operations:20.1f} {c_size(genotype, SMALL) / 1e3:6.1f} "
        f"{judge.accuracy(genotype):10.1%} {compared['accuracy']:10.1%}, "
        f"{len(integers.steps)} steps"
    )
    # deployed integers equal the float64 execution of the same network, to the bit
    assert compared["different_from_float64"] == 0
    assert compared["layers_beyond_the_bound"] == 0
print("\nevery layer is within its bound; no integer differs from float64 execution")
print("`refqnn study quantnas_front` trains longer and searches all of them")
