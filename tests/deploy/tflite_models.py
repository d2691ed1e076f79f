"""Whole models of random weights: residuals, separable layers, joined heads."""

from functools import partial

import numpy as np
from deploy.tflite_cases import Case

from refqnn.deploy.formats.tflite_schema import Model, Operator
from refqnn.deploy.formats.tflite_write import write_model


class Net(Case):
    """A model that grows: every method adds an operator and returns its tensor."""

    def __init__(self, seed, dtype="int8"):
        super().__init__("", 0, np.random.default_rng(seed))
        self.dtype = dtype
        #: steps of these codes in one of 8 bits
        self.fine = 128 if dtype == "int16" else 1

    def codes(self, shape, scale, zero, name=""):
        """Add a tensor on a grid of 8 bits, or on one of 16 bits as wide around 0."""
        zero = 0 if self.fine > 1 else zero
        scale = float(np.float32(scale / self.fine))
        return self.tensor(shape, self.dtype, scale=scale, zero=zero, name=name)

    def add(self, op, inputs, shape, version=2, *, scale, zero, name="", **options):
        y = self.codes(shape, scale, zero, name)
        self.operators.append(Operator(op, tuple(inputs), (y,), options, version))
        return y

    def grid(self, x):
        at = self.tensors[x]
        return {"scale": at.scale * self.fine, "zero": at.zero_point}

    def conv(self, x, channels, kernel=1, stride=1, *, depthwise=False, relu=3):
        at = self.tensors[x]
        _, h, w, c = at.shape
        channels = c if depthwise else channels
        shape = (1, kernel, kernel, c) if depthwise else (channels, kernel, kernel, c)
        codes = self.rng.integers(-127, 127, shape, endpoint=True).astype(np.int8)
        taps = kernel * kernel * (1 if depthwise else c)
        least = 1.3 / (73 * np.sqrt(taps))  # real values keep their spread
        scale = np.float32(self.rng.uniform(least, 2 * least, channels))
        weights = self.constant(codes, scale=scale, axis=3 if depthwise else 0)
        step = np.float32(at.scale) * scale
        bias = np.rint(self.rng.normal(size=channels) / 2 / step)
        bias = bias.astype(np.int64 if self.fine > 1 else np.int32)
        held = self.constant(bias, scale=step)
        size = (1, -(-h // stride), -(-w // stride), channels)
        y_scale = float(np.float32(6 / 255 if relu else self.rng.uniform(0.03, 0.05)))
        options = {"depth_multiplier": 1} if depthwise else {}
        return self.add(
            "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D", (x, weights, held), size,
            3, scale=y_scale, zero=-128 if relu else int(self.rng.integers(-9, 9)),
            stride_w=stride, stride_h=stride, fused_activation_function=relu, **options,
        )  # fmt: skip

    def block(self, x, channels, stride=1, expansion=3):
        """An inverted residual: expanded, filtered by planes, projected, added."""
        wide = self.conv(x, expansion * self.tensors[x].shape[3])
        deep = self.conv(wide, 0, 3, stride, depthwise=True)
        y = self.conv(deep, channels, relu=0)
        if stride != 1 or self.tensors[x].shape != self.tensors[y].shape:
            return y
        scale = float(np.float32(1.4 * self.grid(y)["scale"]))
        options = {"pot_scale_int16": False} if self.fine > 1 else {}
        shape = self.tensors[y].shape
        return self.add("ADD", (x, y), shape, scale=scale, zero=3, **options)

    def head(self, x, classes):
        """Planes to their mean, products, probabilities."""
        c = self.tensors[x].shape[3]
        scale = float(np.float32(self.tensors[x].scale / 3))
        pooled = self.add(
            "MEAN", (x, self.integers(1, 2)), (1, c), scale=scale, zero=-5
        )
        codes = self.rng.integers(-127, 127, (classes, c), endpoint=True)
        weights = self.constant(codes.astype(np.int8), scale=[0.02])
        bias = self.rng.integers(-2000, 2000, classes).astype(np.int32)
        held = self.constant(bias, scale=[np.float32(scale) * np.float32(0.02)])
        y_scale = float(np.float32(scale * 0.02 * np.sqrt(c) * 73 / 4))
        logits = self.add("FULLY_CONNECTED", (pooled, weights, held), (1, classes), 4,
                          scale=y_scale, zero=7)  # fmt: skip
        return self.add("SOFTMAX", (logits,), (1, classes), scale=1 / 256, zero=-128,
                        beta=1.0)  # fmt: skip

    def bytes(self, *outputs):
        operators = tuple(self.operators)
        return write_model(Model(tuple(self.tensors), operators, (0,), outputs))


def mobilenet(seed=1):
    """Residual additions, strides, a mean, products, softmax."""
    net = Net(seed)
    x = net.conv(net.tensor((1, 24, 24, 3), scale=1 / 48, zero=-1), 8, 3, 2)
    for channels, stride in ((8, 1), (12, 2), (12, 1), (16, 2), (16, 1)):
        x = net.block(x, channels, stride)
    return net.bytes(net.head(x, 10))


def keywords(seed=2):
    """Depthwise separable layers over a spectrogram that comes as a row."""
    net = Net(seed)
    x = net.tensor((1, 490), scale=1 / 48, zero=20)
    planes = (1, 49, 10, 1)
    x = net.add("RESHAPE", (x, net.integers(*planes)), planes, 1, **net.grid(x))
    x = net.conv(x, 16, 4, 2)
    for _ in range(3):
        x = net.conv(net.conv(x, 0, 3, depthwise=True), 16)
    size = net.tensors[x].shape
    pooled = (1, 1, 1, size[3])
    x = net.add("AVERAGE_POOL_2D", (x,), pooled, **net.grid(x), padding=1, stride_w=1,
                stride_h=1, filter_width=size[2], filter_height=size[1])  # fmt: skip
    return net.bytes(net.head(x, 12))


def detector(seed=3, dtype="int8"):
    """Two scales joined: resized, concatenated, logistic, boxes moved and cut."""
    net = Net(seed, dtype)
    x = net.conv(net.codes((1, 32, 32, 3), 1 / 48, 5), 8, 3, 2)
    near = net.block(x, 8)
    far = net.block(near, 8, 2)
    shape = net.tensors[near].shape
    size = net.integers(*shape[1:3])
    up = net.add("RESIZE_NEAREST_NEIGHBOR", (far, size), shape, **net.grid(far))
    same = net.add("QUANTIZE", (up,), shape, **net.grid(near))
    wide = (*shape[:3], 2 * shape[3])
    both = net.add("CONCATENATION", (near, same), wide, **net.grid(near), axis=3)
    boxes = net.conv(net.conv(both, 12, 3), 6, relu=0)
    rows = (1, shape[1] * shape[2], 6)
    flat = net.add("RESHAPE", (boxes, net.integers(*rows)), rows, 1, **net.grid(boxes))
    part = (*rows[:2], 2)
    scores = net.add("STRIDED_SLICE", (
        flat, net.integers(0, 0, 4), net.integers(1, rows[1], 6), net.integers(1, 1, 1),
    ), part, **net.grid(flat))  # fmt: skip
    y = net.add("LOGISTIC", (scores,), part, scale=1 / 256, zero=-128)
    return net.bytes(y)


MODELS = {
    "mobilenet": mobilenet,
    "keywords": keywords,
    "detector": detector,
    "detector int16": partial(detector, dtype="int16"),
}
