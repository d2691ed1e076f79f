"""Every layer: exact gradients, gradients that add up, and what each one promises."""

import importlib
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from checkers import check_module

import refqnn
from refqnn import fast
from refqnn.core import Buffer, Param, Run, named_buffers, named_params
from refqnn.nn import (
    AvgPool2d,
    BasicBlock,
    BatchNorm2d,
    Conv2d,
    GlobalAvgPool2d,
    ImageInput,
    Linear,
    MaxPool2d,
    PadShortcut,
    RangeBatchNorm2d,
    ReLU,
    ReLU6,
    Residual,
    Sequential,
)
from refqnn.quantizers import (
    Affine,
    Binary,
    FixedPoint,
    MinMaxGradient,
    Ternary,
    min_max_gradient,
)
from refqnn.testing.networks import (
    check_backward_adds,
    check_same_state,
    state_of,
)


def param(rng, *shape, group="weight"):
    return Param(rng.standard_normal(shape), group=group)


def norm(rng, channels, **options):
    gamma, beta = (param(rng, channels, group="affine") for _ in "gb")
    mean, var = (
        Buffer(rng.standard_normal(channels)),
        Buffer(rng.random(channels) + 0.5),
    )
    return BatchNorm2d(gamma, beta, mean, var, **options)


def block(rng, inputs, outputs, stride=1, *, shortcut=None, quant=lambda: None, **own):
    return BasicBlock(
        conv1=Conv2d(param(rng, outputs, inputs, 3, 3), stride=stride, padding=1),
        norm1=norm(rng, outputs),
        relu1=ReLU(),
        quant1=quant(),
        conv2=Conv2d(param(rng, outputs, outputs, 3, 3), padding=1),
        norm2=norm(rng, outputs),
        shortcut=shortcut,
        relu2=ReLU(),
        **{"quant2": quant()} | own,
    )


def projection(rng):
    conv = Conv2d(param(rng, 4, 2, 1, 1), stride=2)
    return Sequential({"conv": conv, "norm": norm(rng, 4)})


def residual(rng, outputs, shortcut):
    conv = Conv2d(param(rng, outputs, 2, 3, 3), padding=1)
    body = Sequential({"conv": conv, "norm": norm(rng, outputs)})
    return Residual(body, shortcut, Sequential({"relu": ReLU()}))


MAPS, ROWS = (3, 2, 4, 5), (3, 4)
#: name -> how to make the layer, shape of its input
LAYERS = {
    "image": (lambda _: ImageInput(0.5, 3), MAPS),
    "conv": (lambda g: Conv2d(param(g, 3, 2, 3, 3), padding=1), MAPS),
    "conv, bias": (lambda g: Conv2d(param(g, 3, 2, 1, 1), param(g, 3)), MAPS),
    "conv, all settings": (
        lambda g: Conv2d(
            param(g, 4, 1, 2, 2),
            stride=(2, 1),
            padding=((1, 0), (0, 2)),
            dilation=2,
            groups=2,
        ),
        MAPS,
    ),
    "conv, fixed point": (
        lambda g: Conv2d(param(g, 3, 2, 3, 3), weight_quant=FixedPoint(bits=3)),
        MAPS,
    ),
    "conv, ternary": (
        lambda g: Conv2d(param(g, 3, 2, 2, 2), param(g, 3), weight_quant=Ternary()),
        MAPS,
    ),
    "linear": (lambda g: Linear(param(g, 5, 4)), ROWS),
    "linear, binary": (
        lambda g: Linear(param(g, 5, 4), param(g, 5), weight_quant=Binary()),
        ROWS,
    ),
    "batch norm": (lambda g: norm(g, 2), MAPS),
    "range batch norm": (
        lambda g: RangeBatchNorm2d(
            param(g, 2, group="affine"),
            param(g, 2, group="affine"),
            Buffer(g.standard_normal(2)),
            Buffer(g.random(2) + 0.5),
            chunks=4,
        ),
        MAPS,
    ),
    "batch norm, eps": (lambda g: norm(g, 2, eps=0.5), MAPS),
    "relu": (lambda _: ReLU(), MAPS),
    "relu6": (lambda _: ReLU6(), MAPS),
    "global average": (lambda _: GlobalAvgPool2d(), MAPS),
    "max pool": (lambda _: MaxPool2d(2, stride=1, padding=1), MAPS),
    "average pool": (lambda _: AvgPool2d(2), MAPS),
    "average pool, settings": (
        lambda _: AvgPool2d(3, stride=2, padding=1, count_include_pad=False),
        MAPS,
    ),
    "residual": (lambda g: residual(g, 2, None), MAPS),
    "residual, shortcut": (lambda g: residual(g, 5, PadShortcut(5, 1)), MAPS),
    "pad shortcut": (lambda _: PadShortcut(channels=5, stride=2), MAPS),
    "sequence": (
        lambda g: Sequential({"a": Conv2d(param(g, 2, 2, 3, 3)), "b": ReLU()}),
        MAPS,
    ),
    "block": (lambda g: block(g, 2, 2), MAPS),
    "block, option A": (lambda g: block(g, 2, 4, 2, shortcut=PadShortcut(4, 2)), MAPS),
    "block, option B": (lambda g: block(g, 2, 4, 2, shortcut=projection(g)), MAPS),
    "block, quantized": (lambda g: block(g, 2, 2, quant=lambda: Affine(bits=3)), MAPS),
    "block, float shortcut": (
        lambda g: block(g, 2, 2, quant2=None, quant0=Affine(bits=3)),
        MAPS,
    ),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("training", [True, False])
def test_gradients(name, training, rng):
    make, shape = LAYERS[name]
    layer, x = make(rng), rng.standard_normal(shape)
    layer.forward(x, Run(training=True))  # ranges become known
    check_module(layer, x, Run(training=training), rng)


@pytest.mark.parametrize("name", LAYERS)
def test_backward_adds_and_arguments_are_left_alone(name, rng):
    make, shape = LAYERS[name]
    check_backward_adds(make(rng), rng.standard_normal(shape), Run(training=True), rng)


@pytest.mark.parametrize("name", [name for name in LAYERS if "batch norm" in name])
def test_running_statistics_move_in_training_alone(name, rng):
    make, shape = LAYERS[name]
    layer, x = make(rng), rng.standard_normal(shape)
    before = state_of(layer)
    layer.forward(x, Run())
    layer.forward(x, Run(training=True).replaying([]))
    check_same_state(state_of(layer), before)
    layer.forward(x, Run(training=True))
    with pytest.raises(AssertionError):
        check_same_state(state_of(layer), before)


@pytest.mark.parametrize("name", LAYERS)
def test_no_output_shares_memory_with_an_input(name, rng):
    make, shape = LAYERS[name]
    layer, x = make(rng), rng.standard_normal(shape)
    for training in (True, False):
        y, cache = layer.forward(x, Run(training=training))
        dy = np.ones_like(y)
        assert not np.shares_memory(x, y)
        assert not np.shares_memory(dy, layer.backward(dy, cache))


@pytest.mark.parametrize("name", LAYERS)
def test_float32_stays_float32(name, rng):
    make, shape = LAYERS[name]
    layer = make(rng)
    for leaf in [*named_params(layer).values(), *named_buffers(layer).values()]:
        if leaf.value.dtype == np.float64 and leaf.value.ndim:
            leaf.value = leaf.value.astype(np.float32)
            leaf.grad = np.zeros_like(leaf.value)
    x = rng.standard_normal(shape).astype(np.float32)
    for training in (True, False):
        y, cache = layer.forward(x, Run(training=training))
        dx = layer.backward(np.ones_like(y), cache)
        assert y.dtype == dx.dtype == np.float32
    for leaf in named_buffers(layer).values():
        assert leaf.value.dtype == np.float32 or not leaf.value.ndim
    for leaf in named_params(layer).values():
        assert leaf.grad.dtype == np.float32


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_shows_itself_once(name, rng):
    make, shape = LAYERS[name]
    layer, x = make(rng), rng.standard_normal(shape)
    seen = []
    run = Run(training=True, observe=lambda m, x, y: seen.append((m, x.shape, y)))
    y, _ = layer.forward(x, run)
    own = [(m, s, out) for m, s, out in seen if m is layer]
    assert len(own) == 1
    assert own[0][1] == x.shape
    assert own[0][2] is y


@dataclass(eq=False)
class Wrong:
    """A layer whose backward or gradient is spoilt by ``spoil``."""

    inner: Any
    spoil: Any

    def forward(self, x, run):
        return self.inner.forward(x, run)

    def backward(self, dy, cache):
        return self.spoil(self.inner, self.inner.backward(dy, cache))


def double_dx(_, dx):
    return 2 * dx


def double_dw(conv, dx):
    conv.w.grad *= 1.001
    return dx


def forget_dw(conv, dx):
    conv.w.grad = np.zeros_like(conv.w.grad)
    return dx


@pytest.mark.parametrize("spoil", [double_dx, double_dw, forget_dw])
def test_gradient_check_rejects(spoil, rng):
    layer = Wrong(Conv2d(param(rng, 3, 2, 3, 3)), spoil)
    with pytest.raises(AssertionError):
        check_module(layer, rng.standard_normal(MAPS), Run(training=True), rng)


def replace_dw(conv, dx):
    conv.w.grad = conv.w.grad / conv.w.grad
    return dx


def test_adding_check_rejects(rng):
    layer = Wrong(Conv2d(param(rng, 3, 2, 3, 3)), replace_dw)
    with pytest.raises(AssertionError):
        check_backward_adds(layer, rng.standard_normal(MAPS), Run(), rng)


@dataclass(eq=False)
class InPlace:
    """A layer that overwrites its input."""

    def forward(self, x, run):  # noqa: ARG002 - a layer's signature
        x *= 2
        return x, None

    def backward(self, dy, cache):  # noqa: ARG002 - a layer's signature
        return dy


def test_adding_check_rejects_mutation(rng):
    with pytest.raises(AssertionError):
        check_backward_adds(InPlace(), rng.standard_normal(MAPS), Run(), rng)


def test_image_input_in_every_dtype():
    x = np.array([[[[0, 128, 255]]]], np.uint8)
    layer = ImageInput(scale=0.1, zero_point=128)
    y, cache = layer.forward(x, Run())
    np.testing.assert_array_equal(y, np.float32(0.1) * np.float32([[[[-128, 0, 127]]]]))
    assert y.dtype == np.float32
    y64, _ = layer.forward(x.astype(np.float64), Run())
    np.testing.assert_array_equal(y64, 0.1 * np.array([[[[-128.0, 0, 127]]]]))
    np.testing.assert_array_equal(
        layer.backward(np.ones(2, np.float32), cache), np.float32([0.1, 0.1])
    )
    with pytest.raises(ValueError, match="images must be numbers, got dtype bool"):
        layer.forward(x > 0, Run())


def test_running_statistics_agree_with_pytorch(rng):
    torch = pytest.importorskip("torch")
    theirs = torch.nn.BatchNorm2d(2, momentum=0.3, eps=0.01, dtype=torch.float64)
    ours = norm(rng, 2, momentum=0.3, eps=0.01)
    with torch.no_grad():
        theirs.weight.copy_(torch.tensor(ours.gamma.value))
        theirs.bias.copy_(torch.tensor(ours.beta.value))
        theirs.running_mean.copy_(torch.tensor(ours.mean.value))
        theirs.running_var.copy_(torch.tensor(ours.var.value))
    for _ in range(3):
        x = rng.standard_normal((3, 2, 2, 2))
        y, _ = ours.forward(x, Run(training=True))
        np.testing.assert_allclose(y, theirs(torch.tensor(x)).detach(), rtol=1e-10)
    np.testing.assert_allclose(ours.mean.value, theirs.running_mean, rtol=1e-12)
    np.testing.assert_allclose(ours.var.value, theirs.running_var, rtol=1e-12)
    theirs.eval()
    y, _ = ours.forward(x, Run())
    np.testing.assert_allclose(y, theirs(torch.tensor(x)).detach(), rtol=1e-10)


def test_running_statistics_by_hand():
    layer = BatchNorm2d(*(Param(np.ones(1)) for _ in "gb"), *(Buffer(np.ones(1)),) * 2)
    layer.mean, layer.var = Buffer(np.array([1.0])), Buffer(np.array([1.0]))
    x = np.array([0.0, 2.0, 4.0, 6.0]).reshape(1, 1, 2, 2)  # mean 3, variance 20 / 3
    layer.forward(x, Run(training=True))
    np.testing.assert_allclose(layer.mean.value, [0.9 * 1 + 0.1 * 3])
    np.testing.assert_allclose(layer.var.value, [0.9 * 1 + 0.1 * 20 / 3])


@dataclass(eq=False)
class Scaled:
    """A quantizer-like slot: y = k * v forward, dv = k * dy back."""

    k: float

    def forward(self, v, run):  # noqa: ARG002 - a layer's signature
        return self.k * v, self.k

    def backward(self, dy, cache):
        return cache * dy


def test_slots_of_a_convolution_act_where_they_should(rng):
    w, x = rng.standard_normal((3, 2, 3, 3)), rng.standard_normal(MAPS)
    slots = {"weight_quant": Scaled(2.0), "grad_quant": Scaled(5.0)}
    conv = Conv2d(Param(w), Param(np.ones(3)), **slots)
    y, cache = conv.forward(x, Run())
    plain, plain_cache = refqnn.ops.conv2d(x, 2 * w, np.ones(3))
    np.testing.assert_allclose(y, 5 * plain)
    dx = conv.backward(np.ones_like(y), cache)
    want = refqnn.ops.conv2d_backward(np.full_like(y, 5), plain_cache)
    np.testing.assert_allclose(dx, want.dx)
    np.testing.assert_allclose(conv.w.grad, 2 * want.dw)
    np.testing.assert_allclose(conv.b.grad, want.db)


def test_a_bifurcated_gradient_reaches_the_weights_as_it_came(rng):
    w, x = rng.standard_normal((3, 2, 3, 3)), rng.standard_normal(MAPS)
    grads = []
    for bits in (1, 8):
        slots = {"grad_quant": MinMaxGradient(bits=bits), "bifurcate": True}
        conv = Conv2d(Param(w), Param(np.ones(3)), **slots)
        run = Run(training=True, rng=np.random.default_rng(1))
        y, cache = conv.forward(x, run)
        dy = np.random.default_rng(2).standard_normal(y.shape)
        noise = np.random.default_rng(1).random(y.shape) - 0.5
        dx = conv.backward(dy, cache)
        _, plain = refqnn.ops.conv2d(x, w, np.ones(3))
        g_q = min_max_gradient(dy, noise, bits=bits)
        want = refqnn.ops.conv2d_backward(g_q, plain).dx
        np.testing.assert_array_equal(dx, want)
        grads.append((conv.w.grad, conv.b.grad))
        exact = refqnn.ops.conv2d_backward(dy, plain)
        np.testing.assert_array_equal(conv.w.grad, exact.dw)
        np.testing.assert_array_equal(conv.b.grad, exact.db)
    np.testing.assert_array_equal(grads[0][0], grads[1][0])


@pytest.mark.parametrize("side", [refqnn, fast])
def test_a_bifurcated_gradient_takes_each_half_of_the_backward_once(
    side, rng, monkeypatch
):
    halves = []
    conv_module = importlib.import_module(f"{side.__name__}.ops.conv")
    for name in ("conv2d_input_grad", "conv2d_weight_grad"):
        half = getattr(conv_module, name)

        def counted(*args, name=name, half=half):
            halves.append(name)
            return half(*args)

        monkeypatch.setattr(conv_module, name, counted)
    w, x = rng.standard_normal((3, 2, 3, 3)), rng.standard_normal(MAPS)
    conv = Conv2d(Param(w), grad_quant=MinMaxGradient(bits=2), bifurcate=True)
    y, cache = conv.forward(x, Run(training=True, rng=rng, backend=side))
    conv.backward(np.ones_like(y), cache)
    assert halves == ["conv2d_input_grad", "conv2d_weight_grad"]


def recording_backend(calls):
    """Return a backend that notes the names of the ops it is asked for."""

    class Ops:
        def __getattr__(self, name):
            calls.append(name)
            return getattr(refqnn.ops, name)

    return SimpleNamespace(ops=Ops(), quantizers=refqnn.quantizers)


BACKEND_CALLS = {
    "conv": ["conv2d", "conv2d_backward"],
    "linear": ["linear", "linear_backward"],
    "batch norm": ["batch_norm", "batch_norm_backward"],
    "range batch norm": ["range_batch_norm", "range_batch_norm_backward"],
    "relu": ["relu", "relu_backward"],
    "global average": ["global_avg_pool2d", "global_avg_pool2d_backward"],
    "max pool": ["max_pool2d", "max_pool2d_backward"],
    "average pool": ["avg_pool2d", "avg_pool2d_backward"],
}


@pytest.mark.parametrize("name", BACKEND_CALLS)
def test_forward_and_backward_use_the_backend_of_the_run(name, rng):
    make, shape = LAYERS[name]
    calls = []
    layer = make(rng)
    run = Run(training=True, backend=recording_backend(calls))
    y, cache = layer.forward(rng.standard_normal(shape), run)
    layer.backward(y, cache)
    assert calls == BACKEND_CALLS[name]


@pytest.mark.parametrize(
    ("channels", "before"), [(2, 0), (3, 0), (4, 1), (5, 1), (6, 2)]
)
def test_pad_shortcut_places_channels(channels, before, rng):
    x = rng.standard_normal(MAPS)
    y, _ = PadShortcut(channels=channels, stride=2).forward(x, Run())
    want = np.zeros((3, channels, 2, 3))
    want[:, before : before + 2] = x[:, :, ::2, ::2]
    np.testing.assert_array_equal(y, want)


def test_pad_shortcut_cannot_drop_channels():
    with pytest.raises(ValueError, match="channels must be at least C = 2, got 1"):
        PadShortcut(channels=1, stride=1).forward(np.zeros(MAPS), Run())


def test_block_is_its_formula(rng):
    layer = block(
        rng, 2, 4, 2, shortcut=PadShortcut(4, 2), quant=lambda: Affine(bits=4)
    )
    x, run = rng.standard_normal(MAPS), Run(training=True)
    y, _ = layer.forward(x, run)
    run = Run(training=True).replaying([])
    h = x
    for part in (layer.conv1, layer.norm1, layer.relu1):
        h, _ = part.forward(h, run)
    h, _ = layer.quant1.forward(h, Run())
    for part in (layer.conv2, layer.norm2):
        h, _ = part.forward(h, run)
    skip, _ = layer.shortcut.forward(x, run)
    h, _ = layer.quant2.forward(np.maximum(h + skip, 0), Run())
    np.testing.assert_array_equal(y, h)


def test_a_shortcut_may_read_what_is_not_quantized(rng):
    own = {"quant2": None, "quant0": Affine(bits=2)}
    layer = block(rng, 2, 2, **own)
    layer.quant0.set_range(-1.0, 2.0)
    x, run = rng.standard_normal(MAPS), Run()
    y, _ = layer.forward(x, run)
    h, _ = layer.quant0.forward(x, run)
    for part in (layer.conv1, layer.norm1, layer.relu1, layer.conv2, layer.norm2):
        h, _ = part.forward(h, run)
    np.testing.assert_array_equal(y, np.maximum(h + x, 0))


def test_sequential_names_and_iterates(rng):
    layers = {"a": Conv2d(param(rng, 2, 2, 1, 1)), "b": norm(rng, 2)}
    network = Sequential(layers)
    assert list(network) == list(layers.items())
    assert list(named_params(network)) == [
        "layers.a.w",
        "layers.b.gamma",
        "layers.b.beta",
    ]
    assert list(named_buffers(network)) == ["layers.b.mean", "layers.b.var"]


def test_variance_of_two_values_doubles_and_of_one_stays_zero(rng):
    for x, want in (([[[[1.0, 3.0]]]], 2.0), ([[[[5.0]]]], 0.0)):
        layer = norm(rng, 1, momentum=1.0)
        layer.forward(np.array(x), Run(training=True))
        np.testing.assert_array_equal(layer.var.value, [want])


DEFAULTS = {
    Conv2d: {"stride": 1, "padding": 0, "dilation": 1, "groups": 1, "b": None},
    BatchNorm2d: {"eps": 1e-5, "momentum": 0.1},
    MaxPool2d: {"stride": None, "padding": 0},
    AvgPool2d: {"stride": None, "padding": 0, "count_include_pad": True},
    ImageInput: {"zero_point": 0},
}


@pytest.mark.parametrize("kind", DEFAULTS)
def test_defaults(kind):
    assert {name: getattr(kind, name) for name in DEFAULTS[kind]} == DEFAULTS[kind]


def test_a_residual_adds_before_what_comes_after():
    body = Sequential({"conv": Conv2d(Param(np.full((1, 1, 1, 1), -3.0)))})
    layer = Residual(body, None, Sequential({"relu": ReLU()}))
    x = np.array([[[[1.0, -1.0]]]])
    y, cache = layer.forward(x, Run())
    np.testing.assert_array_equal(y, [[[[0, 2]]]])  # relu(-3 x + x)
    dx = layer.backward(np.ones_like(y), cache)
    np.testing.assert_array_equal(dx, [[[[0, -2]]]])
    assert [name for name, _ in layer.after] == ["relu"]
