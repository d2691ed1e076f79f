"""Models of one operator each, with the inputs on which they are compared."""

import zlib

import numpy as np

from refqnn.deploy.formats.tflite_schema import Model, Operator, Tensor
from refqnn.deploy.formats.tflite_write import write_model

#: outputs on which every operator is compared
OUTPUTS = 20_000
#: the shape of an input that is every code of 16 bits
EVERY = (1, 256, 1, 256)
FACTORS = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-(2**15), 2**15 - 1)}
#: operators of which LiteRT has one version
FIRST = ("RELU_N1_TO_1", "HARD_SWISH", "RESHAPE")


class Case:
    """A model of one operator, its name and its inputs: (N, C, H, W) or (N, I)."""

    def __init__(self, op, ties, rng):
        self.op, self.ties, self.rng = op, ties, rng
        self.tensors, self.operators = [], []

    def scale(self, least=-7, most=-3):
        """Draw a scale, a power of two where ties are wanted."""
        power = 2.0 ** self.rng.integers(least, most)
        return power if self.ties else float(np.float32(power * self.rng.uniform(1, 2)))

    def tensor(self, shape, dtype="int8", *, scale=None, zero=None, name="", **more):
        scale = self.scale() if scale is None else scale
        if zero is None:
            low, high = FACTORS[dtype]
            zero = 0 if dtype == "int16" else int(self.rng.integers(low, high + 1))
        name = name or f"t{len(self.tensors)}"
        self.tensors.append(Tensor(shape, dtype, scale, zero, name=name, **more))
        return len(self.tensors) - 1

    def constant(self, array, dtype=None, *, scale=(), zero=0, axis=0):
        name = f"c{len(self.tensors)}"
        made = Tensor(array.shape, dtype or array.dtype.name, scale, zero, array, name)
        self.tensors.append(made._replace(axis=axis))
        return len(self.tensors) - 1

    def integers(self, *values):
        return self.constant(np.array(values, np.int32))

    def operator(self, inputs, outputs, version=2, **options):
        version = 1 if self.op in FIRST else version
        made = Operator(self.op, tuple(inputs), tuple(outputs), options, version)
        self.operators.append(made)

    def model(self):
        last = self.operators[-1].outputs
        return write_model(
            Model(tuple(self.tensors), tuple(self.operators), (0,), last)
        )

    def images(self):
        """Draw as many inputs as the first output needs to have ``OUTPUTS`` codes."""
        codes = int(np.prod(self.tensors[self.operators[-1].outputs[0]].shape))
        count = -(-OUTPUTS // codes)
        t = self.tensors[0]
        if t.shape == EVERY:  # a function of one code
            return np.arange(-(2**15), 2**15, dtype=np.int16).reshape(1, 256, 256, 1)
        _, *shape = t.shape
        shape = (shape[2], shape[0], shape[1]) if len(shape) == 3 else tuple(shape)
        low, high = FACTORS[t.dtype]
        return self.rng.integers(
            low, high, (count, *shape), dtype=t.dtype, endpoint=True
        )


def weights(c, shape, channels, *, axis, per_channel, dtype="int8"):
    ends = {"int8": (-127, 127), "uint8": (0, 255), "int4": (-7, 7)}
    low, high = ends[dtype]
    w = c.rng.integers(low, high, shape, endpoint=True)
    count = channels if per_channel else 1
    scale = np.array([c.scale(-9, -5) for _ in range(count)], np.float32)
    zero = 0 if dtype != "uint8" else int(c.rng.integers(100, 150))
    kept = "int8" if dtype == "int4" else dtype
    return c.constant(w.astype(kept), dtype, scale=scale, zero=zero, axis=axis), scale


def bias(c, x, scale, channels, dtype=np.int32):
    spread = 3000 if dtype == np.int32 else 200_000
    b = c.rng.integers(-spread, spread, channels).astype(dtype)
    return c.constant(b, scale=np.float32(c.tensors[x].scale) * scale)


def aimed(c, *, per_channel=True):
    """Sums that are biases, the scale of the codes brings these to a tie or beside."""
    n, depthwise = OUTPUTS, c.op == "DEPTHWISE_CONV_2D"
    flat = (1, 1) if c.op == "FULLY_CONNECTED" else (1, 1, 1, 1)
    x = c.tensor(flat, scale=c.scale(-7, -1))
    shape = (*flat[:-1], n) if depthwise else (n, *flat[1:])
    count = n if per_channel else 1
    scale = np.array([c.scale(-7, -1) for _ in range(count)], np.float32)
    axis = 3 if depthwise else 0
    w = c.constant(np.zeros(shape, np.int8), scale=scale, axis=axis)
    at = c.tensors[x]
    step = np.float32(at.scale * np.median(scale) * 2.0 ** c.rng.integers(14, 17))
    real = np.float64(at.scale) * scale / np.float64(step)
    ties = (c.rng.integers(-120, 120, n) + 0.5) / real
    b = (np.rint(ties) + c.rng.integers(-1, 2, n)).astype(np.int32)
    b = c.constant(b, scale=np.float32(at.scale) * scale)
    y = c.tensor((*flat[:-1], n), scale=float(step), zero=0)
    options = {} if len(flat) == 2 else {"stride_w": 1, "stride_h": 1}
    options |= {"depth_multiplier": n} if depthwise else {}
    inputs = [x, w, b]
    if c.op == "TRANSPOSE_CONV":
        inputs = [c.integers(1, 1, 1, n), w, x, b]
    c.operator(inputs, [y], 4 if len(flat) == 2 else 3, **options)


def convolution(c, *, dtype="int8", w_dtype="int8", per_channel=True, padding=0,
                stride=1, dilation=1, activation=0, groups=1, wide=np.int32,
                zero=None, outputs=8):  # fmt: skip
    depthwise = c.op == "DEPTHWISE_CONV_2D"
    h, channels = 9, 4
    fine = {"scale": c.scale(-12, -10)} if dtype == "int16" else {}
    x = c.tensor((1, h, h, channels), dtype, **fine)
    shape = (1, 3, 3, outputs) if depthwise else (outputs, 3, 3, channels // groups)
    axis = 3 if depthwise else 0
    w, scale = weights(c, shape, outputs, axis=axis, per_channel=per_channel,
                       dtype=w_dtype)  # fmt: skip
    inputs = [x, w, bias(c, x, scale, outputs, wide)]
    reach = 2 * dilation + 1
    out = -(-h // stride) if padding == 0 else -(-(h - reach + 1) // stride)
    fine = {"scale": c.scale(-12, -10)} if dtype == "int16" else {}
    y = c.tensor((1, out, out, outputs), dtype, zero=zero, **fine)
    options = {"depth_multiplier": outputs // 4} if depthwise else {}
    if dtype == "int16" and wide == np.int32:
        options["quantized_bias_type"] = 2
    c.operator(inputs, [y], 3, padding=padding, stride_w=stride, stride_h=stride,
               dilation_w_factor=dilation, dilation_h_factor=dilation,
               fused_activation_function=activation, **options)  # fmt: skip


def product(c, *, dtype="int8", w_dtype="int8", per_channel=False, activation=0,
            shape=(1, 64), wide=np.int32, biased=True):  # fmt: skip
    fine = {"scale": c.scale(-12, -10)} if dtype == "int16" else {}
    x = c.tensor(shape, dtype, **fine)
    if len(shape) == 3:  # of a model whose input has two axes
        at = c.tensors[x]
        c.tensors[x] = at._replace(shape=(1, int(np.prod(shape))))
        grid = {"scale": at.scale, "zero": at.zero_point}
        flat, x = x, c.tensor(shape, dtype, **grid)
        order = c.integers(*shape)
        c.operators.append(Operator("RESHAPE", (flat, order), (x,), {}, 1))
    inputs = shape[-1] if len(shape) == 3 else int(np.prod(shape))
    w, scale = weights(c, (100, inputs), 100, axis=0, per_channel=per_channel,
                       dtype=w_dtype)  # fmt: skip
    b = bias(c, x, scale, 100, wide) if biased else -1
    out = (1, shape[1], 100) if len(shape) == 3 else (1, 100)
    y = c.tensor(out, dtype, **fine)
    narrow = {"quantized_bias_type": 2} if (dtype, wide) == ("int16", np.int32) else {}
    c.operator([x, w, b], [y], 4, fused_activation_function=activation,
               keep_num_dims=len(shape) == 3, **narrow)  # fmt: skip


def binary(c, *, dtype="int8", activation=0, constant=False, through="QUANTIZE",
           shape=(1, 4, 4, 8)):  # fmt: skip
    low, high = FACTORS[dtype]
    middle = 0 if dtype == "int16" else int(c.rng.integers(low // 2, high // 2))
    x = c.tensor(shape, dtype, zero=middle)
    options = {} if c.op == "MUL" else {"pot_scale_int16": False}
    if constant:
        held = c.rng.integers(low, high, (1, 1, 1, 8), endpoint=True).astype(dtype)
        other = c.constant(held, scale=c.scale(), zero=0)
    else:  # the codes of the input in another order, on another grid
        order = c.integers(0, 2, 1, 3)
        at = c.tensors[x]
        turned = c.tensor(shape, dtype, scale=at.scale, zero=at.zero_point)
        c.operators.append(Operator("TRANSPOSE", (x, order), (turned,), {}, 2))
        other = c.tensor(shape, dtype, zero=middle // 2)
        given = (turned,)
        if through == "MUL":  # of 16 bits, which QUANTIZE does not take here
            factor = np.full((1, 1, 1, 1), 2**14, dtype)
            given = turned, c.constant(factor, scale=2.0**-14)
        c.operators.append(Operator(through, given, (other,), {}, 2))
    y = c.tensor(shape, dtype, zero=middle, scale=c.scale(-7, -5))
    c.operator([x, other], [y], fused_activation_function=activation, **options)


def pool(c, *, dtype="int8", padding=0, activation=0, kernel=3, stride=2):
    x = c.tensor((1, 9, 9, 4), dtype)
    at = c.tensors[x]
    out = -(-9 // stride) if padding == 0 else -(-(9 - kernel + 1) // stride)
    y = c.tensor((1, out, out, 4), dtype, scale=at.scale, zero=at.zero_point)
    c.operator([x], [y], padding=padding, stride_w=stride, stride_h=stride,
               filter_width=kernel, filter_height=kernel,
               fused_activation_function=activation)  # fmt: skip


def means(c, *, dtype="int8", axes=(1, 2), keep=False, shape=(1, 7, 6, 16)):
    x = c.tensor(shape, dtype)
    sizes = [1 if i in axes else n for i, n in enumerate(shape)]
    out = tuple(n for i, n in enumerate(sizes) if keep or i not in axes)
    y = c.tensor(out, dtype)
    c.operator([x, c.integers(*axes)], [y], keep_dims=keep)


def unary(c, *, dtype="int8", out=None, fixed=None, powers=(-6, -2), **options):
    shape = EVERY if dtype == "int16" else (1, 8, 8, 8)
    x = c.tensor(shape, dtype, scale=c.scale(*powers))
    y = c.tensor(shape, out or dtype, **(fixed or {}))
    version = 3 if c.op == "LOGISTIC" else 2
    c.operator([x], [y], version, **options)


def softmax(c, *, dtype="int8", shape=(1, 50), powers=(-6, 0)):
    wide = dtype == "int16"
    x = c.tensor(shape, dtype, scale=c.scale(-12, -9) if wide else c.scale(*powers))
    scale, zero = 1 / 2**15 if wide else 1 / 256, -128 if dtype == "int8" else 0
    y = c.tensor(shape, dtype, scale=scale, zero=zero)
    c.operator([x], [y], beta=1.0)


def concatenated(c, *, dtype="int8", axis=3):
    x = c.tensor((1, 4, 4, 8), dtype)
    at = c.tensors[x]
    if dtype == "uint8":
        other = c.tensor((1, 4, 4, 8), dtype)
        c.operators.append(Operator("QUANTIZE", (x,), (other,), {}, 2))
        grid = {}
    else:
        grid = {"scale": at.scale, "zero": at.zero_point}
        other = c.tensor((1, 4, 4, 8), dtype, **grid)
        order = c.integers(0, 2, 1, 3)
        c.operators.append(Operator("TRANSPOSE", (x, order), (other,), {}, 2))
    shape = [1, 4, 4, 8]
    shape[axis] *= 2
    y = c.tensor(tuple(shape), dtype, **grid)
    c.operator([x, other], [y], axis=axis)


def rearranged(c, out, *inputs, dtype="int8", shape=(1, 5, 6, 8), first=False, **opts):
    x = c.tensor(shape, dtype)
    at = c.tensors[x]
    held = [c.integers(*v) if isinstance(v, tuple) else c.constant(v) for v in inputs]
    grid = {"scale": at.scale, "zero": at.zero_point}
    many = out if isinstance(out, list) else [out]
    outputs = [c.tensor(one, dtype, **grid) for one in many]
    c.operator([*held, x] if first else [x, *held], outputs, **opts)


def reshaped(c):
    """Keras's Flatten: the shape is computed, its first number packed with another."""
    x = c.tensor((1, 5, 6, 8))
    at = c.tensors[x]
    shapes = (4,), (), (2,)
    c.tensors += [Tensor(s, "int32", name=f"n{i}") for i, s in enumerate(shapes)]
    shape, first, both = range(x + 1, x + 4)
    limits = [c.integers(v) for v in (0, 1, 1)]
    rest = c.constant(np.array(240, np.int32))
    y = c.tensor((1, 240), scale=at.scale, zero=at.zero_point)
    one = {"shrink_axis_mask": 1}
    c.operators += [
        Operator("SHAPE", (x,), (shape,), {"out_type": 2}, 1),
        Operator("STRIDED_SLICE", (shape, *limits), (first,), one, 1),
        Operator("PACK", (first, rest), (both,), {"values_count": 2}, 1),
    ]
    c.operator([x, both], [y])


def transposed(c, *, padding=0, stride=2, activation=0, n=8):
    x = c.tensor((1, 5, 6, 4))
    w, scale = weights(c, (n, 3, 3, 4), n, axis=0, per_channel=True)
    size = [(n - 1) * stride + 3 if padding else n * stride for n in (5, 6)]
    b = bias(c, x, scale, n)
    y = c.tensor((1, *size, n))
    c.operator([c.integers(1, *size, n), w, x, b], [y], 3, padding=padding,
               stride_w=stride, stride_h=stride,
               fused_activation_function=activation)  # fmt: skip


def multiplied(c, *, adj_x=False, adj_y=True, centred=False):
    x = c.tensor((1, 1, 12, 12), scale=c.scale(-7, -5), zero=c.rng.integers(-20, 20))
    at = c.tensors[x]
    grid = {"scale": at.scale, "zero": at.zero_point}
    flat = c.tensor((1, 12, 12), **grid)
    shape = c.integers(1, 12, 12)
    c.operators.append(Operator("RESHAPE", (x, shape), (flat,), {}, 1))
    other = flat
    if centred:
        other = c.tensor((1, 12, 12), zero=0)
        c.operators.append(Operator("QUANTIZE", (flat,), (other,), {}, 2))
    y = c.tensor((1, 12, 12), scale=c.scale(-6, -4), zero=0)
    c.operator([flat, other], [y], adj_x=adj_x, adj_y=adj_y)


def nearest(c, *, size=(9, 4), **options):
    rearranged(c, (1, *size, 8), size, **options)


LOGISTIC = {"int8": {"scale": 1 / 256, "zero": -128},
            "uint8": {"scale": 1 / 256, "zero": 0}}  # fmt: skip
TANH = {"int8": {"scale": 1 / 128, "zero": 0}, "uint8": {"scale": 1 / 128, "zero": 128}}
PADS = np.array([[0, 0], [1, 2], [0, 3], [2, 0]], np.int32)
U = {"dtype": "uint8"}
INT16 = {"dtype": "int16"}
WIDEST = INT16 | {"fixed": {"scale": 2.0**-15, "zero": 0}}
RECTIFIED = {"through": "RELU"}
U_CONV = {"dtype": "uint8", "w_dtype": "uint8", "per_channel": False}
WIDE = {"dtype": "int16", "wide": np.int64}
NARROW = {"dtype": "int16", "wide": np.int32}
#: name -> operator, builder, its options
CASES = {
    "conv": ("CONV_2D", convolution, {}),
    "conv same 2": ("CONV_2D", convolution, {"stride": 2, "activation": 3}),
    "conv valid": ("CONV_2D", convolution, {"padding": 1, "dilation": 2}),
    "conv relu": ("CONV_2D", convolution, {"activation": 1, "zero": 0}),
    "conv clip": ("CONV_2D", convolution, {"activation": 2}),
    "conv groups": ("CONV_2D", convolution, {"groups": 2}),
    "conv one scale": ("CONV_2D", convolution, {"per_channel": False}),
    "conv int4": ("CONV_2D", convolution, {"w_dtype": "int4"}),
    "conv uint8": ("CONV_2D", convolution, U_CONV),
    "conv int16": ("CONV_2D", convolution, WIDE),
    "conv int16 narrow": ("CONV_2D", convolution, NARROW),
    "depthwise": ("DEPTHWISE_CONV_2D", convolution, {"stride": 2}),
    "depthwise relu6": ("DEPTHWISE_CONV_2D", convolution, {"activation": 3}),
    "depthwise dilated": ("DEPTHWISE_CONV_2D", convolution, {"dilation": 2}),
    "depthwise uint8": ("DEPTHWISE_CONV_2D", convolution, U_CONV),
    "depthwise int16": ("DEPTHWISE_CONV_2D", convolution, WIDE),
    "conv aimed": ("CONV_2D", aimed, {}),
    "conv odd": ("CONV_2D", convolution, {"outputs": 13}),
    "depthwise aimed": ("DEPTHWISE_CONV_2D", aimed, {}),
    "depthwise odd": ("DEPTHWISE_CONV_2D", convolution, {"outputs": 12}),
    "depthwise few": ("DEPTHWISE_CONV_2D", convolution, {"outputs": 4}),
    "depthwise int4": ("DEPTHWISE_CONV_2D", convolution,
                       {"outputs": 12, "w_dtype": "int4"}),
    "product": ("FULLY_CONNECTED", product, {}),
    "product aimed": ("FULLY_CONNECTED", aimed, {"per_channel": False}),
    "product aimed channels": ("FULLY_CONNECTED", aimed, {}),
    "product int4 odd": ("FULLY_CONNECTED", product,
                         {"shape": (1, 63), "w_dtype": "int4"}),
    "product relu": ("FULLY_CONNECTED", product, {"activation": 1}),
    "product channels": ("FULLY_CONNECTED", product, {"per_channel": True}),
    "product planes": ("FULLY_CONNECTED", product, {"shape": (1, 4, 4, 3)}),
    "product rows": ("FULLY_CONNECTED", product, {"shape": (1, 5, 16)}),
    "product int4": ("FULLY_CONNECTED", product, {"w_dtype": "int4"}),
    "product uint8": ("FULLY_CONNECTED", product,
                      {"dtype": "uint8", "w_dtype": "uint8"}),
    "product int16": ("FULLY_CONNECTED", product, WIDE),
    "product int16 narrow": ("FULLY_CONNECTED", product, NARROW),
    "product plain": ("FULLY_CONNECTED", product, {"biased": False}),
    "add": ("ADD", binary, {}),
    "add relu": ("ADD", binary, {"activation": 1}),
    "add constant": ("ADD", binary, {"constant": True}),
    "add uint8": ("ADD", binary, U),
    "add int16": ("ADD", binary, {"dtype": "int16", "constant": True}),
    "add planes": ("ADD", binary, {"dtype": "int16", "through": "MUL"}),
    "sub planes": ("SUB", binary, {"dtype": "int16", "through": "MUL"}),
    "mul planes": ("MUL", binary, {"dtype": "int16", "through": "MUL"}),
    "sub": ("SUB", binary, {}),
    "sub uint8": ("SUB", binary, U),
    "sub int16": ("SUB", binary, {"dtype": "int16", "constant": True}),
    "mul": ("MUL", binary, {}),
    "mul constant": ("MUL", binary, {"constant": True, "activation": 3}),
    "mul uint8": ("MUL", binary, U),
    "mul int16": ("MUL", binary, {"dtype": "int16", "constant": True}),
    "add rectified": ("ADD", binary, RECTIFIED),
    "sub rectified": ("SUB", binary, RECTIFIED),
    "add rectified uint8": ("ADD", binary, U | RECTIFIED),
    "sub rectified uint8": ("SUB", binary, U | RECTIFIED),
    "mul rectified": ("MUL", binary, RECTIFIED),
    "mul rectified uint8": ("MUL", binary, U | RECTIFIED),
    "average": ("AVERAGE_POOL_2D", pool, {}),
    "average valid": ("AVERAGE_POOL_2D", pool, {"padding": 1, "kernel": 4}),
    "average relu": ("AVERAGE_POOL_2D", pool, {"activation": 1}),
    "average uint8": ("AVERAGE_POOL_2D", pool, U),
    "average int16": ("AVERAGE_POOL_2D", pool, {"dtype": "int16"}),
    "maximum": ("MAX_POOL_2D", pool, {}),
    "maximum relu6": ("MAX_POOL_2D", pool, {"activation": 3}),
    "maximum uint8": ("MAX_POOL_2D", pool, U),
    "maximum int16": ("MAX_POOL_2D", pool, {"dtype": "int16", "activation": 1}),
    "mean": ("MEAN", means, {}),
    "mean kept": ("MEAN", means, {"keep": True}),
    "mean channels": ("MEAN", means, {"axes": (3,)}),
    "mean rows": ("MEAN", means, {"axes": (1,)}),
    "mean kept uint8": ("MEAN", means, U | {"keep": True}),
    "mean kept int16": ("MEAN", means, {"dtype": "int16", "keep": True}),
    "mean kept few": ("MEAN", means, {"keep": True, "shape": (1, 3, 5, 20)}),
    "mean uint8": ("MEAN", means, U),
    "mean int16": ("MEAN", means, {"dtype": "int16"}),
    "logistic": ("LOGISTIC", unary, {"fixed": LOGISTIC["int8"]}),
    "logistic uint8": ("LOGISTIC", unary, U | {"fixed": LOGISTIC["uint8"]}),
    "tanh": ("TANH", unary, {"fixed": TANH["int8"]}),
    "tanh uint8": ("TANH", unary, U | {"fixed": TANH["uint8"]}),
    "logistic fine": ("LOGISTIC", unary,
                      {"fixed": LOGISTIC["int8"], "powers": (-9, -6)}),
    "tanh fine": ("TANH", unary, {"fixed": TANH["int8"], "powers": (-9, -7)}),
    "logistic int16": ("LOGISTIC", unary, WIDEST | {"powers": (-12, -11)}),
    "logistic int16 wide": ("LOGISTIC", unary, WIDEST | {"powers": (-10, -9)}),
    "logistic int16 fine": ("LOGISTIC", unary, WIDEST | {"powers": (-20, -19)}),
    "tanh int16": ("TANH", unary, WIDEST | {"powers": (-12, -11)}),
    "tanh int16 next": ("TANH", unary, WIDEST | {"powers": (-11, -10)}),
    "tanh int16 wide": ("TANH", unary, WIDEST | {"powers": (-10, -9)}),
    "tanh int16 coarse": ("TANH", unary, WIDEST | {"powers": (-2, 2)}),
    "relu int16": ("RELU", unary, INT16),
    "relu6 int16": ("RELU6", unary, INT16 | {"powers": (-12, -10)}),
    "leaky int16": ("LEAKY_RELU", unary, INT16 | {"alpha": 0.1}),
    "quantize int16": ("QUANTIZE", unary, INT16),
    "quantize int16 int8": ("QUANTIZE", unary, INT16 | {"out": "int8"}),
    "quantize int8 int16": ("QUANTIZE", unary, {"out": "int16"}),
    "relu": ("RELU", unary, {}),
    "relu6": ("RELU6", unary, {}),
    "relu6 uint8": ("RELU6", unary, U),
    "relu n1": ("RELU_N1_TO_1", unary, {}),
    "leaky": ("LEAKY_RELU", unary, {"alpha": 0.1}),
    "hard swish": ("HARD_SWISH", unary, {}),
    "hard swish uint8": ("HARD_SWISH", unary, U),
    "quantize": ("QUANTIZE", unary, {}),
    "quantize uint8": ("QUANTIZE", unary, {"out": "uint8"}),
    "quantize int8": ("QUANTIZE", unary, U | {"out": "int8"}),
    "softmax": ("SOFTMAX", softmax, {}),
    "softmax planes": ("SOFTMAX", softmax, {"shape": (1, 4, 3, 20)}),
    "softmax uint8": ("SOFTMAX", softmax, U),
    "softmax fine": ("SOFTMAX", softmax, {"shape": (1, 200), "powers": (-9, -6)}),
    "softmax int16": ("SOFTMAX", softmax, {"dtype": "int16"}),
    "concat": ("CONCATENATION", concatenated, {}),
    "concat rows": ("CONCATENATION", concatenated, {"axis": 1}),
    "concat uint8": ("CONCATENATION", concatenated, U),
    "transposed": ("TRANSPOSE_CONV", transposed, {}),
    "transposed valid": ("TRANSPOSE_CONV", transposed, {"padding": 1, "stride": 3}),
    "transposed odd": ("TRANSPOSE_CONV", transposed, {"n": 13}),
    "transposed aimed": ("TRANSPOSE_CONV", aimed, {}),
    "transposed relu": ("TRANSPOSE_CONV", transposed, {"stride": 1, "activation": 1}),
    "matmul": ("BATCH_MATMUL", multiplied, {}),
    "matmul plain": ("BATCH_MATMUL", multiplied, {"adj_y": False}),
    "matmul turned": ("BATCH_MATMUL", multiplied, {"adj_x": True, "adj_y": False}),
    "matmul centred": ("BATCH_MATMUL", multiplied, {"adj_y": False, "centred": True}),
    "pad": ("PAD", rearranged, {"out": (1, 8, 9, 10), "inputs": (PADS,)}),
    "reshape": ("RESHAPE", rearranged, {"out": (1, 6, 40), "inputs": ((1, 6, 40),)}),
    "reshape computed": ("RESHAPE", reshaped, {}),
    "tile": ("TILE", rearranged, {"out": (1, 10, 6, 24), "inputs": ((1, 2, 1, 3),)}),
    "reshape planes": ("RESHAPE", rearranged,
                       {"out": (1, 10, 8, 3), "inputs": ((1, 10, 8, 3),)}),
    "transpose": ("TRANSPOSE", rearranged,
                  {"out": (1, 8, 5, 6), "inputs": ((0, 3, 1, 2),)}),
    "slice": ("STRIDED_SLICE", rearranged, {
        "out": (1, 2, 3, 8),
        "inputs": ((0, 1, 5, 0), (1, 5, -7, 8), (1, 2, -2, 1)),
        "begin_mask": 8, "end_mask": 8}),
    "split": ("SPLIT", rearranged, {"out": [(1, 5, 3, 8), (1, 5, 3, 8)],
                                    "inputs": ((2,),), "first": True,
                                    "num_splits": 2}),
    "nearest": ("RESIZE_NEAREST_NEIGHBOR", nearest, {}),
    "nearest corners": ("RESIZE_NEAREST_NEIGHBOR", nearest, {"align_corners": True}),
    "nearest centres": ("RESIZE_NEAREST_NEIGHBOR", nearest,
                        {"half_pixel_centers": True}),
    "bilinear": ("RESIZE_BILINEAR", nearest, {}),
    "bilinear small": ("RESIZE_BILINEAR", nearest,
                       {"size": (3, 1), "align_corners": True}),
    "bilinear corners": ("RESIZE_BILINEAR", nearest, {"align_corners": True}),
    "bilinear centres": ("RESIZE_BILINEAR", nearest, {"half_pixel_centers": True}),
}  # fmt: skip


def case(name, *, ties):
    """Return the bytes of a model and its inputs; scales are 2^k with ``ties``."""
    op, build, options = CASES[name]
    rng = np.random.default_rng([zlib.crc32(name.encode()), ties])
    c = Case(op, ties, rng)
    options = dict(options)
    inputs = options.pop("inputs", ())
    if inputs:
        build(c, options.pop("out"), *inputs, **options)
    else:
        build(c, **options)
    return c.model(), c.images()
