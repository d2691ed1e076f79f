r"""One network whose subnets share weights: elastic depth, width and kernel.

QuantNAS (Gao et al., CVPR 2024 NAS workshop) has such a supernet; how this one is wired
is ours. A subnet reads views of the shared arrays: the first blocks of a stage, the
first channels between the convolutions of a block, the centre of the kernels. Gradients
add up in the same places of the shared gradients. Running statistics are never shared:
``calibrate`` makes those of one subnet, with its quantizers on.

    stem, relu, quant
    block: quant2(relu(conv2(quant1(relu(conv1(x)))) + shortcut(x)))
    mean of planes, quant, classifier

Every convolution is a ``folded_conv2d``; shortcuts are the identity or option A.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple, final

import numpy as np

from refqnn._types import Array, Float
from refqnn.core import Param, Run
from refqnn.nn import (
    GlobalAvgPool2d,
    ImageInput,
    PadShortcut,
    ReLU,
    he_normal,
    uniform_fan_in,
)
from refqnn.nn.layers import backward_or_same, forward_or_same
from refqnn.papers.quantnas.fold import (
    Statistics,
    calibrated_statistics,
    folded_conv2d,
    folded_conv2d_backward,
)
from refqnn.papers.quantnas.scales import (
    Oracle,
    Relative,
    Shared,
    Starting,
    Where,
    predicted,
)
from refqnn.papers.quantnas.space import (
    Genotype,
    LayerShape,
    Space,
    block_name,
    check_genotype,
    check_space,
    encode,
    largest,
    layers_of,
)
from refqnn.quantizers.learned_step_size import LSQCache

SCALES = ("shared", "predicted", "relative", "oracle")


class Calibrated(NamedTuple):
    """What one subnet is evaluated and deployed with, by layer."""

    genotype: Genotype
    statistics: dict[str, Statistics]
    steps: dict[str, float]


class Pass(NamedTuple):
    """One forward pass of one subnet."""

    run: Run
    a: Float  # its encoding
    scales: Any
    layers: dict[str, LayerShape]
    #: calibration: images of a batch, None in training
    batch: int | None
    found: Calibrated


class SteppedCache(NamedTuple):
    """What quantization by a chosen step is undone with, and what freezes it."""

    v: Float
    lsq: LSQCache


@final
@dataclass(eq=False)
class SharedConv:
    """The largest weights of a convolution and of the batch norm folded into it."""

    w: Param
    gamma: Param
    beta: Param

    def cut(self, layer: LayerShape) -> tuple[slice, tuple[slice, ...]]:
        """Return where the output channels and the weights of a layer are."""
        before = (self.w.value.shape[2] - layer.kernel) // 2
        centre = slice(before, before + layer.kernel)
        outputs = slice(layer.outputs)
        return outputs, (outputs, slice(layer.inputs), centre, centre)

    def forward(self, name: str, x: Float, at: Pass) -> tuple[Float, Any]:
        """x: (N, C, H, W)  ->  y: (N, O, Ho, Wo)"""
        kept: list[Any] = []
        layer, ops = at.layers[name], at.run.backend.ops
        outputs, cut = self.cut(layer)
        w, where = self.w.value[cut], weight_of(layer)
        conv = {"stride": layer.stride, "padding": layer.kernel // 2}
        if at.batch is not None:
            z, _ = ops.conv2d(x, w, **conv)
            at.found.statistics[name] = calibrated_statistics(
                z, batch=at.batch, backend=at.run.backend
            )
        y, cache = at.run.straight_through(
            folded_conv2d,
            x,
            w,
            self.gamma.value[outputs],
            self.beta.value[outputs],
            lambda v: chosen(where, v, at, kept),
            **grid_of(where, w.size),
            statistics=at.found.statistics.get(name),
            **conv,
            backend=at.run.backend,
        )
        return y, (layer, cache, at.scales, kept[-1])

    def backward(self, dy: Float, cache: Any) -> Float:
        """Add the gradients at the places of the layer: dy  ->  dx: (N, C, H, W)"""
        layer, folded, scales, how = cache
        outputs, cut = self.cut(layer)
        grads = folded_conv2d_backward(dy, folded)
        self.w.grad[cut] += grads.dw
        self.gamma.grad[outputs] += grads.dgamma
        self.beta.grad[outputs] += grads.dbeta
        scales.backward(grads.ds, how)
        return grads.dx


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
        return self.walked(x, self.passing(run, genotype, self.scales))

    def passing(
        self,
        run: Run,
        genotype: Genotype | None,
        scales: Any,
        batch: int | None = None,
    ) -> Pass:
        """Return the settings of a pass of a subnet."""
        space = self.space
        wanted = largest(space) if genotype is None else check_genotype(genotype, space)
        layers = {layer.name: layer for layer in layers_of(wanted, space)}
        found = Calibrated(wanted, {}, {})
        return Pass(run, encode(wanted, space), scales, layers, batch, found)

    def walked(self, x: Array, at: Pass) -> tuple[Float, Any]:
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
        y, c_quant = quantized("stem_quant", y, space.activation_bits, at)
        blocks = []
        for s, stage in enumerate(at.found.genotype):
            for j in range(len(stage)):
                y, c_block = self.block(block_name(s, j), y, at)
                blocks.append((block_name(s, j), c_block))
        y, c_pool = GlobalAvgPool2d().forward(y, at.run)
        y, c_pooled = quantized("pool_quant", y, ends, at)
        y, c_last = self.classified(y, at)
        head = (c_pool, c_pooled, c_last)
        return y, (c_image, c_stem, c_relu, c_quant, blocks, *head)

    def backward(self, dy: Float, cache: Any) -> Float:
        """dy: (N, K)  ->  dx: (N, C, H, W), the gradients added"""
        c_image, c_stem, c_relu, c_quant, blocks, c_pool, c_pooled, c_last = cache
        dy = self.classified_backward(dy, c_last)
        dy = quantized_backward(dy, c_pooled)
        dy = GlobalAvgPool2d().backward(dy, c_pool)
        for name, c_block in reversed(blocks):
            dy = self.block_backward(name, dy, c_block)
        dy = quantized_backward(dy, c_quant)
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
        h, c3 = quantized(f"{name}.quant1", h, bits, at)
        h, c4 = self.convs[second].forward(second, h, at)
        s, c5 = forward_or_same(skip, x, run)
        h, c6 = ReLU().forward(h + s, run)
        y, c7 = quantized(f"{name}.quant2", h, bits, at)
        return y, (skip, c1, c2, c3, c4, c5, c6, c7)

    def block_backward(self, name: str, dy: Float, cache: Any) -> Float:
        """dy: (N, O, Ho, Wo)  ->  dx: (N, C, H, W)"""
        skip, c1, c2, c3, c4, c5, c6, c7 = cache
        dh = quantized_backward(dy, c7)
        dsum = ReLU().backward(dh, c6)
        dskip = backward_or_same(skip, dsum, c5)
        dh = self.convs[f"{name}.conv2"].backward(dsum, c4)
        dh = quantized_backward(dh, c3)
        dh = ReLU().backward(dh, c2)
        return self.convs[f"{name}.conv1"].backward(dh, c1) + dskip

    def classified(self, x: Float, at: Pass) -> tuple[Float, Any]:
        """x: (N, I)  ->  logits: (N, K)"""
        where = weight_of(at.layers["classifier"])
        w, c_w = stepped(where, self.classifier_w.value, at)
        y, cache = at.run.backend.ops.linear(x, w, self.classifier_b.value)
        return y, (at.run.backend.ops, cache, c_w)

    def classified_backward(self, dy: Float, cache: Any) -> Float:
        """dy: (N, K)  ->  dx: (N, I)"""
        ops, c_linear, c_w = cache
        dx, dw, db = ops.linear_backward(dy, c_linear)
        self.classifier_w.grad += quantized_backward(dw, c_w)
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
        "predicted": lambda: predicted(Shared(), step_names(space), size, rng=rng),
        "relative": Relative,
        "oracle": Oracle,
    }
    image = ImageInput(scale=1 / 64, zero_point=128)
    return Supernet(space, image, made, Param(w), b, made_of[scales]())


def shared_conv(
    layer: LayerShape, dtype: np.dtype[Any], rng: np.random.Generator
) -> SharedConv:
    """Return random weights and the batch norm that starts as the identity."""
    shape = (layer.outputs, layer.inputs, layer.kernel, layer.kernel)
    return SharedConv(
        Param(he_normal(shape, rng=rng, dtype=dtype)),
        Param(np.ones(layer.outputs, dtype), group="affine"),
        Param(np.zeros(layer.outputs, dtype), group="affine"),
    )


def step_names(space: Space) -> tuple[str, ...]:
    """Return the names of everything that has a step, in the largest subnet."""
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
    net.walked(images, net.passing(run, genotype, first))
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

    Raises ValueError for a genotype that is none and without a whole batch of images.
    """
    if not len(images):
        raise ValueError("calibration needs images, got none")
    if not 1 <= batch <= len(images):
        raise ValueError(f"batch must be in [1, N = {len(images)}], got {batch}")
    run = Run() if backend is None else Run(backend=backend)
    at = net.passing(run, genotype, scales or net.scales, batch)
    net.walked(images[: len(images) // batch * batch], at)
    return at.found


def shortcut_of(
    inputs: int, first: LayerShape, second: LayerShape
) -> PadShortcut | None:
    """Return the identity, or option A where channels or size change."""
    if inputs == second.outputs and first.stride == 1:
        return None
    return PadShortcut(channels=second.outputs, stride=first.stride)


def weight_of(layer: LayerShape) -> Where:
    """Return what the step of a layer's weights is for."""
    return Where(layer.name, layer.weight_bits, signed=True, fan_in=layer.fan_in)


def grid_of(where: Where, n: int) -> dict[str, Any]:
    """Return Q_N, Q_P and LSQ's 1 / sqrt(N Q_P) for n values."""
    q_n, q_p = where.ends
    return {"q_n": q_n, "q_p": q_p, "grad_scale": 1 / np.sqrt(max(n, 1) * q_p)}


def chosen(where: Where, v: Float, at: Pass, kept: list[Any]) -> Float:
    """Return the step of a tensor; note it, and in ``kept`` how it came about."""
    s, how = at.scales.step(where, v, at.a)
    at.found.steps[where.name] = float(s)
    kept.append(how)
    return np.asarray(s)


def quantized(name: str, v: Float, bits: int, at: Pass) -> tuple[Float, Any]:
    """Quantize activations, v: (N, ...); the features of an image are its fan-in."""
    where = Where(name, bits, signed=False, fan_in=v.shape[1])
    return stepped(where, v, at)


def stepped(where: Where, v: Float, at: Pass) -> tuple[Float, Any]:
    """Quantize by the step that the scales choose."""
    kept: list[Any] = []
    n = v.size if where.signed else v.size // len(v)
    y, cache = at.run.straight_through(
        stepped_lsq,
        v,
        lambda seen: chosen(where, seen, at, kept),
        **grid_of(where, n),
        backend=at.run.backend,
    )
    return y, (at.run.backend, cache, at.scales, kept[-1])


def quantized_backward(dy: Float, cache: Any) -> Float:
    """Undo ``stepped``, the gradient of the step added."""
    backend, (_, recorded), scales, how = cache
    dv, ds = backend.quantizers.lsq_backward(dy, recorded)
    scales.backward(ds, how)
    return dv


def stepped_lsq(
    v: Float, s: Any, *, backend: Any, frozen: SteppedCache | None = None, **grid: Any
) -> tuple[Float, SteppedCache]:
    """Return lsq(v, s(v)); the frozen form holds what s reads of v."""
    seen = v if frozen is None else frozen.v
    held = None if frozen is None else frozen.lsq
    y, cache = backend.quantizers.lsq(v, s(seen), **grid, frozen=held)
    return y, SteppedCache(seen, cache)
