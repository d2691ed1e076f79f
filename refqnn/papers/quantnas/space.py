r"""The search space: which subnets there are, how they are written, encoded and drawn.

QuantNAS (Gao et al., CVPR 2024 NAS workshop) does not describe its space; this one is
ours. A stem and three stages of residual blocks as in ResNets for small images. A stage
has 1 or 2 blocks (its first ones). A block has a width, the share of the stage's
channels between its two convolutions (the first ones), and the kernel of both (the
centre of the largest). The channels of a stage are fixed, so that shortcuts need none.

    symbol                            code
    d, blocks of a stage              len(genotype[stage])
    e, width of a block               Gene.width
    k, kernel of a block              Gene.kernel
    a, encoding of a subnet           encode

A genotype is a tuple of stages, a stage a tuple of genes, one for each block that runs:
two genotypes are equal exactly if their subnets are, since ``check_space`` wants widths
that give different channels in every stage.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from refqnn._types import Float
from refqnn.quantizers.learned_step_size import lsq_levels


class Gene(NamedTuple):
    """The width of one block, a share of its stage's channels, and its kernel."""

    width: float
    kernel: int


Genotype = tuple[tuple[Gene, ...], ...]


class Space(NamedTuple):
    """The choices, ascending, and what all subnets have in common.

    The stem, the classifier and the pooled features have ``end_bits``.
    """

    channels: tuple[int, ...] = (8, 16, 32)
    depths: tuple[int, ...] = (1, 2)
    widths: tuple[float, ...] = (0.5, 0.75, 1.0)
    kernels: tuple[int, ...] = (3, 5)
    weight_bits: int = 4
    activation_bits: int = 4
    end_bits: int = 8
    classes: int = 10
    in_channels: int = 1
    size: int = 28  # of the square images

    @property
    def positions(self) -> list[tuple[int, int]]:
        """Every (stage, block) that a subnet may have."""
        most = self.depths[-1]
        return [(s, j) for s in range(len(self.channels)) for j in range(most)]


#: 216 subnets, all of them evaluated; and 74 088, searched by evolution
SMALL = Space(
    channels=(4, 8, 16), depths=(1, 2), widths=(0.5, 1.0), kernels=(3,), size=14
)
LARGE = Space(size=14)


class LayerShape(NamedTuple):
    """A convolution of a subnet, or its classifier, whose kernel and size are 1."""

    name: str
    inputs: int
    outputs: int
    kernel: int
    stride: int
    size: int  # of its output, square
    weight_bits: int
    input_bits: int

    @property
    def fan_in(self) -> int:
        """Inputs of one output: C Kh Kw."""
        return self.inputs * self.kernel**2

    @property
    def weights(self) -> int:
        """O C Kh Kw."""
        return self.outputs * self.fan_in

    @property
    def macs(self) -> int:
        """Multiply-adds of one image."""
        return self.weights * self.size**2


def check_space(space: Space) -> Space:
    """Return the space; raise ValueError, naming the field, if it has no subnets.

    >>> check_space(Space()).depths
    (1, 2)
    """
    for name in ("channels", "depths", "widths", "kernels"):
        values = getattr(space, name)
        ascending = all(a < b for a, b in itertools.pairwise(values))
        if not values or (name != "channels" and not ascending):
            raise ValueError(f"{name} must ascend and not be empty, got {values}")
    if space.depths[0] < 1:
        raise ValueError(f"depths must be at least 1, got {space.depths}")
    if any(a > b for a, b in itertools.pairwise((1, *space.channels))):
        raise ValueError(f"channels must be positive and not fall, {space.channels}")
    if not 0 < space.widths[0] <= space.widths[-1] <= 1:
        raise ValueError(f"widths must lie in (0, 1], got {space.widths}")
    if any(k < 1 or k % 2 == 0 for k in space.kernels):
        raise ValueError(f"kernels must be odd, got {space.kernels}")
    for channels in space.channels:
        middles = [middle(Gene(w, 1), channels) for w in space.widths]
        if len({*middles}) < len(middles):
            raise ValueError(
                f"widths must give different channels, {space.widths} of {channels} "
                f"give {middles}"
            )
    check_numbers(space)
    return space


def check_numbers(space: Space) -> None:
    """Raise unless sizes are at least 1 and bits are those LSQ has, 2 of weights."""
    for name in ("classes", "in_channels", "size"):
        if getattr(space, name) < 1:
            raise ValueError(f"{name} must be at least 1, got {getattr(space, name)}")
    for name in ("weight_bits", "activation_bits", "end_bits"):
        try:
            lsq_levels(getattr(space, name), signed=name != "activation_bits")
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error


def check_genotype(genotype: Any, space: Space) -> Genotype:
    """Return a genotype, from lists too; raise ValueError, naming stage and block.

    >>> check_genotype([[[0.5, 3]], [[1, 5], [1, 3]], [[0.5, 3]]], Space())[0]
    (Gene(width=0.5, kernel=3),)
    """
    stages = tuple(genotype) if isinstance(genotype, list | tuple) else ()
    if len(stages) != len(space.channels):
        raise ValueError(
            f"genotype must have {len(space.channels)} stages, got {genotype!r}"
        )
    genes = []
    for s, stage in enumerate(stages):
        if not isinstance(stage, list | tuple) or len(stage) not in space.depths:
            raise ValueError(
                f"stage {s + 1} must have a depth in {space.depths}, got {stage!r}"
            )
        genes.append(
            tuple(check_gene(gene, s, j, space) for j, gene in enumerate(stage))
        )
    return tuple(genes)


def check_gene(gene: Any, stage: int, block: int, space: Space) -> Gene:
    """Return the gene of a block; raise unless its width and kernel are choices."""
    where = f"stage {stage + 1} block {block + 1}"
    if not isinstance(gene, list | tuple) or len(gene) != 2:
        raise ValueError(f"{where} must be (width, kernel), got {gene!r}")
    width, kernel = gene
    if width not in space.widths:
        raise ValueError(f"{where}: width must be in {space.widths}, got {width!r}")
    if kernel not in space.kernels:
        raise ValueError(f"{where}: kernel must be in {space.kernels}, got {kernel!r}")
    return Gene(float(width), int(kernel))


def largest(space: Space) -> Genotype:
    """Return the genotype with the largest choice everywhere."""
    gene = Gene(float(space.widths[-1]), space.kernels[-1])
    return ((gene,) * space.depths[-1],) * len(space.channels)


def smallest(space: Space) -> Genotype:
    """Return the genotype with the smallest choice everywhere.

    >>> smallest(Space())[2]
    (Gene(width=0.5, kernel=3),)
    """
    gene = Gene(float(space.widths[0]), space.kernels[0])
    return ((gene,) * space.depths[0],) * len(space.channels)


def draw_gene(space: Space, rng: np.random.Generator) -> Gene:
    """Return a uniform width and a uniform kernel."""
    width = space.widths[rng.integers(len(space.widths))]
    return Gene(float(width), int(space.kernels[rng.integers(len(space.kernels))]))


def draw(space: Space, rng: np.random.Generator) -> Genotype:
    """Return a genotype whose depths, widths and kernels are uniform choices."""
    depths = [
        space.depths[rng.integers(len(space.depths))]
        for _ in range(len(space.channels))
    ]
    return tuple(tuple(draw_gene(space, rng) for _ in range(d)) for d in depths)


def random_subnet(space: Space, seed: int, index: int) -> Genotype:
    """Draw subnet ``index`` of a seed, whatever else the seed draws.

    >>> random_subnet(Space(), 0, 3) == random_subnet(Space(), 0, 3)
    True
    """
    return draw(space, np.random.default_rng([seed, 2, index]))


def stages_of(space: Space) -> Iterator[tuple[Gene, ...]]:
    """Yield every form of one stage."""
    widths = [float(w) for w in space.widths]
    genes = [Gene(*pair) for pair in itertools.product(widths, space.kernels)]
    for depth in space.depths:
        yield from itertools.product(genes, repeat=depth)


def count(space: Space) -> int:
    """Return the number of subnets.

    >>> count(Space())  # (6 + 36)^3
    74088
    """
    genes = len(space.widths) * len(space.kernels)
    return int(sum(genes**d for d in space.depths) ** len(space.channels))


def every(space: Space) -> Iterator[Genotype]:
    """Yield every genotype of a space."""
    return itertools.product(stages_of(space), repeat=len(space.channels))


def block_name(stage: int, block: int) -> str:
    """Return the name of a block, counted from 1 as in ``refqnn.networks.resnet``.

    >>> block_name(0, 1)
    'stage1_block2'
    """
    return f"stage{stage + 1}_block{block + 1}"


def middle(gene: Gene, channels: int) -> int:
    """max(1, int(width * channels)): channels between the two convolutions.

    >>> middle(Gene(0.75, 3), 8)
    6
    """
    return max(1, int(gene.width * channels))


def layers_of(genotype: Any, space: Space) -> list[LayerShape]:
    """Return the layers with weights in the order in which they run.

    Raises ValueError for a genotype outside the space.

    >>> [layer.name for layer in layers_of(smallest(Space()), Space())][:2]
    ['stem', 'stage1_block1.conv1']
    """
    bits, a = space.weight_bits, space.activation_bits
    inputs, size = space.channels[0], space.size
    stem = (space.in_channels, inputs, 3, 1, size, space.end_bits, 8)
    layers = [LayerShape("stem", *stem)]
    for s, stage in enumerate(check_genotype(genotype, space)):
        outputs = space.channels[s]
        for j, gene in enumerate(stage):
            name, k, mid = block_name(s, j), gene.kernel, middle(gene, outputs)
            stride = 2 if s and not j else 1
            size = -(-size // stride)
            layers += [
                LayerShape(f"{name}.conv1", inputs, mid, k, stride, size, bits, a),
                LayerShape(f"{name}.conv2", mid, outputs, k, 1, size, bits, a),
            ]
            inputs = outputs
    last = (inputs, space.classes, 1, 1, 1, space.end_bits, space.end_bits)
    return [*layers, LayerShape("classifier", *last)]


def encode(genotype: Any, space: Space) -> Float:
    """a = one-hot depths, one-hot width and kernel of every position, log fan-ins

    ->  (E,) float64; a position without a block has zeros

    >>> small = Space(channels=(2,), depths=(1, 2), widths=(0.5, 1.0), kernels=(1, 3))
    >>> encode(((Gene(1.0, 1),),), small)[:6]  # one block, the second width
    array([1., 0., 0., 1., 1., 0.])
    """
    genotype = check_genotype(genotype, space)
    one_hots = [one_hot(len(stage), space.depths) for stage in genotype]
    for s, j in space.positions:
        active = j < len(genotype[s])
        gene = genotype[s][j] if active else Gene(0.0, 0)
        one_hots += [one_hot(gene.width, space.widths)]
        one_hots += [one_hot(gene.kernel, space.kernels)]
    fan_ins = {layer.name: layer.fan_in for layer in layers_of(genotype, space)}
    convs = [f"{block_name(s, j)}.conv{i}" for s, j in space.positions for i in (1, 2)]
    logs = [math.log(fan_ins.get(name, 1)) for name in convs]
    return np.concatenate([*one_hots, np.array(logs)])


def one_hot(value: float, choices: Sequence[float]) -> Float:
    """(value == choice_1, ..., value == choice_n), as floats"""
    return np.array([float(value == choice) for choice in choices])
