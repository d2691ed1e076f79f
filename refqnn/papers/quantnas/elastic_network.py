r"""One network whose subnets share weights: elastic depth, width and kernel.

QuantNAS (Gao et al., CVPR 2024 NAS workshop) has such a supernet; how this one is wired
is ours: a subnet runs the first blocks of every stage, on slices of the shared arrays
(``shared_layers``). Running statistics are never shared: ``calibrate`` makes those of
one subnet, with its quantizers on.

    stem, relu, quant
    block: quant2(relu(conv2(quant1(relu(conv1(x)))) + shortcut(x)))
    mean of planes, quant, classifier

Every convolution is a ``folded_conv2d``; shortcuts are the identity or option A.
"""

from dataclasses import dataclass
from typing import Any, final

import numpy as np

from refqnn._types import Array, Float
from refqnn.core import Param, Run
from refqnn.nn import GlobalAvgPool2d, ImageInput, ReLU, uniform_fan_in
from refqnn.papers.quantnas.scales import (
    Oracle,
    Relative,
    Shared,
    Starting,
    new_predictor,
)
from refqnn.papers.quantnas.shared_layers import (
    Calibrated,
    Pass,
    SharedConv,
    fake_quantize,
    fake_quantize_backward,
    quantize_activations,
    shared_conv,
    shortcut_of,
    where_of_weights,
)
from refqnn.papers.quantnas.space import (
    Genotype,
    Space,
    block_name,
    check_genotype,
    check_space,
    encode,
    largest,
    layers_of,
)

SCALES = ("shared", "predicted", "relative", "oracle")


@final
@dataclass(eq=False)
class Supernet:
    """All subnets of a space. ``forward`` is training: statistics of the batch."""

    space: Space
    image: ImageInput
    convs: dict[str, SharedConv]
    classifier_w: Param
    classifier_b: Param
    scales: Any

    def forward(
        self, x: Array, run: Run, genotype: Genotype | None = None
    ) -> tuple[Float, Any]:
        """x: (N, C, H, W)  ->  logits: (N, K), of the largest subnet if none is named

        Raises ValueError in evaluation: a subnet is calibrated first, and evaluated as
        a network of its own.
        """
        if not run.training:
            raise ValueError("a subnet is evaluated by plain(supernet, calibrate(...))")
        return self.run_layers(x, self.start_pass(run, genotype, self.scales))

    def start_pass(
        self, run: Run, genotype: Genotype | None, scales: Any, batch: int | None = None
    ) -> Pass:
        """Return a pass of a subnet, its statistics and steps still empty."""
        space = self.space
        wanted = largest(space) if genotype is None else check_genotype(genotype, space)
        layers = {layer.name: layer for layer in layers_of(wanted, space)}
        calibrated = Calibrated(wanted, {}, {})
        return Pass(run, encode(wanted, space), scales, layers, batch, calibrated)

    def run_layers(self, x: Array, at: Pass) -> tuple[Float, Any]:
        """x: (N, C, H, W)  ->  logits: (N, K), layer by layer"""
        space, ends = self.space, self.space.end_bits
        if x.shape[1:] != (space.in_channels, space.size, space.size) or not len(x):
            raise ValueError(
                f"images must be (N, {space.in_channels}, {space.size}, {space.size}), "
                f"N at least 1: images{x.shape}"
            )
        y, c_image = self.image.forward(x.astype(self.dtype), at.run)
        y, c_stem = self.convs["stem"].forward("stem", y, at)
        y, c_relu = ReLU().forward(y, at.run)
        y, c_quant = quantize_activations("stem_quant", y, space.activation_bits, at)
        blocks = []
        for s, stage in enumerate(at.calibrated.genotype):
            for j in range(len(stage)):
                y, c_block = self.block(block_name(s, j), y, at)
                blocks.append((block_name(s, j), c_block))
        y, c_pool = GlobalAvgPool2d().forward(y, at.run)
        y, c_pooled = quantize_activations("pool_quant", y, ends, at)
        y, c_last = self.classify(y, at)
        head = (c_pool, c_pooled, c_last)
        return y, (c_image, c_stem, c_relu, c_quant, blocks, *head)

    def backward(self, dy: Float, cache: Any) -> Float:
        """dy: (N, K)  ->  dx: (N, C, H, W), the gradients added"""
        c_image, c_stem, c_relu, c_quant, blocks, c_pool, c_pooled, c_last = cache
        dy = self.classify_backward(dy, c_last)
        dy = fake_quantize_backward(dy, c_pooled)
        dy = GlobalAvgPool2d().backward(dy, c_pool)
        for name, c_block in reversed(blocks):
            dy = self.block_backward(name, dy, c_block)
        dy = fake_quantize_backward(dy, c_quant)
        dy = ReLU().backward(dy, c_relu)
        dy = self.convs["stem"].backward(dy, c_stem)
        return self.image.backward(dy, c_image)

    def block(self, name: str, x: Float, at: Pass) -> tuple[Float, Any]:
        """x: (N, C, H, W)  ->  y: (N, O, Ho, Wo)"""
        bits, run = self.space.activation_bits, at.run
        first, second = f"{name}.conv1", f"{name}.conv2"
        skip = shortcut_of(x.shape[1], at.layers[first], at.layers[second])
        h, c1 = self.convs[first].forward(first, x, at)
        h, c2 = ReLU().forward(h, run)
        h, c3 = quantize_activations(f"{name}.quant1", h, bits, at)
        h, c4 = self.convs[second].forward(second, h, at)
        s, c5 = (x, None) if skip is None else skip.forward(x, run)
        h, c6 = ReLU().forward(h + s, run)
        y, c7 = quantize_activations(f"{name}.quant2", h, bits, at)
        return y, (skip, c1, c2, c3, c4, c5, c6, c7)

    def block_backward(self, name: str, dy: Float, cache: Any) -> Float:
        """dy: (N, O, Ho, Wo)  ->  dx: (N, C, H, W)"""
        skip, c1, c2, c3, c4, c5, c6, c7 = cache
        dh = fake_quantize_backward(dy, c7)
        dsum = ReLU().backward(dh, c6)
        dskip = dsum if skip is None else skip.backward(dsum, c5)
        dh = self.convs[f"{name}.conv2"].backward(dsum, c4)
        dh = fake_quantize_backward(dh, c3)
        dh = ReLU().backward(dh, c2)
        return self.convs[f"{name}.conv1"].backward(dh, c1) + dskip

    def classify(self, x: Float, at: Pass) -> tuple[Float, Any]:
        """x: (N, I)  ->  logits: (N, K)"""
        where = where_of_weights(at.layers["classifier"])
        w, c_w = fake_quantize(where, self.classifier_w.value, at)
        y, cache = at.run.backend.ops.linear(x, w, self.classifier_b.value)
        return y, (at.run.backend.ops, cache, c_w)

    def classify_backward(self, dy: Float, cache: Any) -> Float:
        """dy: (N, K)  ->  dx: (N, I)"""
        ops, c_linear, c_w = cache
        dx, dw, db = ops.linear_backward(dy, c_linear)
        self.classifier_w.grad += fake_quantize_backward(dw, c_w)
        self.classifier_b.grad += db
        return dx

    @property
    def dtype(self) -> Any:
        """The dtype of the weights."""
        return self.classifier_w.value.dtype


def supernet(
    space: Space,
    *,
    scales: str = "shared",
    dtype: str = "float32",
    rng: np.random.Generator,
) -> Supernet:
    """Return a supernet with random weights; ``initialise`` sets its steps.

    ``scales`` is "shared", "predicted", "relative" or "oracle"; the weights do not
    depend on it.

    >>> made = supernet(Space(), rng=np.random.default_rng(0))
    >>> made.convs["stage1_block1.conv1"].w.value.shape
    (8, 8, 5, 5)
    """
    check_space(space)
    if scales not in SCALES:
        raise ValueError(f"scales must be one of {SCALES}, got {scales!r}")
    *convs, last = layers_of(largest(space), space)
    made = {layer.name: shared_conv(layer, np.dtype(dtype), rng) for layer in convs}
    w = uniform_fan_in((last.outputs, last.inputs), rng=rng, dtype=np.dtype(dtype))
    b = Param(np.zeros(last.outputs, dtype), group="affine")
    size = encode(largest(space), space).size
    made_of: dict[str, Any] = {
        "shared": Shared,
        "predicted": lambda: new_predictor(Shared(), step_names(space), size, rng=rng),
        "relative": Relative,
        "oracle": Oracle,
    }
    image = ImageInput(scale=1 / 64, zero_point=128)
    return Supernet(space, image, made, Param(w), b, made_of[scales]())


def step_names(space: Space) -> tuple[str, ...]:
    """Return the names of weights and activations of the largest subnet, in order."""
    weights = [layer.name for layer in layers_of(largest(space), space)]
    blocks = [block_name(s, j) for s, j in space.positions]
    quants = [f"{name}.quant{i}" for name in blocks for i in (1, 2)]
    return (*weights, "stem_quant", *quants, "pool_quant")


def initialise(
    net: Supernet,
    images: Array,
    genotype: Genotype | None = None,
    *,
    backend: Any = None,
) -> None:
    """Set the first steps by LSQ's rule, from one pass of a subnet, or of the largest.

    images: (N, C, H, W), one batch. Nothing to do for the oracle.
    """
    if isinstance(net.scales, Oracle):
        return
    run = Run(training=True) if backend is None else Run(training=True, backend=backend)
    first = Starting()
    net.run_layers(images, net.start_pass(run, genotype, first))
    net.scales.start(first)


def calibrate(
    net: Supernet,
    genotype: Genotype,
    images: Array,
    *,
    batch: int = 64,
    scales: Any = None,
    backend: Any = None,
) -> Calibrated:
    """Return statistics and steps of one subnet, quantizers on, in one pass.

    images: (N, C, H, W), without labels. Every layer reads codes of the calibrated
    layers before it. ``scales`` in place of the supernet's own.

    Raises ValueError for a genotype outside the space and for less than a batch.
    """
    if not len(images):
        raise ValueError("calibration needs images, got none")
    if not 1 <= batch <= len(images):
        raise ValueError(f"batch must be in [1, N = {len(images)}], got {batch}")
    run = Run() if backend is None else Run(backend=backend)
    at = net.start_pass(run, genotype, scales or net.scales, batch)
    net.run_layers(images[: len(images) // batch * batch], at)
    return at.calibrated
