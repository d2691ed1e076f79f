"""The choices, as data: every axis, its values, their equations and who uses them.

An axis is a question that two implementations of "the same" operation may answer in
different ways. The first value of each axis is refqnn's own answer, the default of
``Semantics``. A family (``refqnn.conformance.families``) asks some of the questions.
"""

from collections.abc import Mapping
from itertools import permutations
from typing import NamedTuple

from refqnn.integer.requantize import REQUANTIZATIONS
from refqnn.integer.rounding import ROUNDINGS


class Value(NamedTuple):
    """One answer: its equation, and where it is met."""

    equation: str
    users: str


class Axis(NamedTuple):
    """A question and its answers, the default first."""

    question: str
    values: Mapping[str, Value]

    @property
    def default(self) -> str:
        """The answer of refqnn itself."""
        return next(iter(self.values))


def reordered(rows: Mapping[str, tuple[str, str]], default: str) -> dict[str, Value]:
    """Return rows as values, ``default`` first.

    >>> list(reordered({"a": ("", ""), "b": ("", "")}, "b"))
    ['b', 'a']
    """
    order = sorted(rows, key=lambda name: name != default)
    return {name: Value(*rows[name]) for name in order}


ROUNDING_ROWS = {name: (r.formula, r.users) for name, r in ROUNDINGS.items()}
REQUANTIZE_ROWS = {
    name: (r.formula, r.users) for name, r in REQUANTIZATIONS.items()
} | {
    "mixed_half_even": (
        "rint(float64(acc) * float32(real)) in float64",
        "the reference evaluator of ONNX QLinearConv under NumPy 2",
    )
}

AFFINE = {
    "rounding": Axis(
        "how is x / scale rounded?", reordered(ROUNDING_ROWS, "half_even")
    ),
    "scaling": Axis(
        "is x divided by the scale, or multiplied by its rounded reciprocal?",
        {
            "divide": Value("u = x / scale", "ONNX QuantizeLinear, refqnn"),
            "reciprocal": Value(
                "u = x * (1 / scale), 1 / scale rounded first",
                "PyTorch fake_quantize, FBGEMM without FMA",
            ),
            "reciprocal_fma": Value(
                "u + zero_point = fma(x, 1 / scale, zero_point): one rounding",
                "PyTorch quantize_per_tensor on x86",
            ),
        },
    ),
    "precision": Axis(
        "in which floating point is x / scale computed?",
        {
            "input": Value("u in the dtype of x", "ONNX, PyTorch, C in float"),
            "float64": Value(
                "u in float64, from float32 operands", "Python scalars, C in double"
            ),
        },
    ),
    "zero_point_when": Axis(
        "is the zero-point added after or before the rounding?",
        {
            "after_rounding": Value("round(u) + zero_point", "ONNX, PyTorch, TFLite"),
            "before_rounding": Value(
                "round(u + zero_point)",
                "TensorFlow fake quantization, onnxruntime's float kernels",
            ),
        },
    ),
    "zero_point_use": Axis(
        "is the zero-point added to the code?",
        {
            "added": Value("q + zero_point", "everyone, by specification"),
            "ignored": Value("q", "a zero-point that was never passed on"),
            "subtracted": Value("q - zero_point", "layers that store negated offsets"),
        },
    ),
    "overflow": Axis(
        "what becomes of a code that does not fit?",
        {
            "saturate": Value("clip(q, q_min, q_max)", "everyone, by specification"),
            "wrap": Value(
                "q modulo 2^b", "a cast without a clip; onnx/onnx#6169, #7835"
            ),
            "cast_then_clip": Value(
                "clip(int32(t), q_min, q_max), int32(t) = -2^31 for t >= 2^31",
                "x86 casts before a clip: large values become q_min",
            ),
        },
    ),
    "nan": Axis(
        "which code stands for NaN?",
        {
            "raise": Value("an error", "refqnn"),
            "q_min": Value("q_min", "x86 casts of NaN before a clip"),
            "q_max": Value("q_max", "clips written as min(max(NaN, lo), hi) by order"),
            "zero": Value("zero_point, real 0", "Arm casts: NaN becomes 0"),
            "kept": Value("NaN, where codes are floats", "NumPy, fake quantization"),
        },
    ),
    "dequantize_order": Axis(
        "is the zero-point subtracted from codes or from products?",
        {
            "subtract_first": Value("scale * (q - zero_point)", "ONNX, PyTorch"),
            "multiply_first": Value(
                "scale * q - scale * zero_point, each rounded",
                "kernels that fold scale * zero_point into a bias",
            ),
        },
    ),
    "code_difference": Axis(
        "in which width is q - zero_point computed?",
        {
            "exact": Value("q - zero_point in int32", "everyone, by specification"),
            "wraps": Value(
                "q - zero_point modulo 2^8", "arrays of int8 subtracted as int8"
            ),
        },
    ),
    "zero_point_sign": Axis(
        "is the zero-point subtracted or added?",
        {
            "subtract": Value("q - zero_point", "ONNX, TFLite"),
            "add": Value("q + zero_point", "layers that store the negated offset"),
        },
    ),
}

GRADIENT = {
    "straight_through": Axis(
        "through which inputs does the gradient pass?",
        {
            "input_inclusive": Value(
                "dx = dy where lo <= x <= hi, lo and hi the ends of the grid",
                "TensorFlow fake quantization, refqnn.quantizers.affine",
            ),
            "none": Value("dx = dy everywhere", "Bengio et al., arXiv:1308.3432"),
            "input_open": Value("dx = dy where lo < x < hi", "LSQ, arXiv:1902.08153"),
            "input_half_open": Value(
                "dx = dy where lo <= x < hi", "PACT, arXiv:1805.06085"
            ),
            "input_half_open_below": Value(
                "dx = dy where lo < x <= hi", "a clip that passes ties on one side"
            ),
            "rounded_inclusive": Value(
                "dx = dy where q_min <= round(u) + zero_point <= q_max",
                "PyTorch fake_quantize_per_tensor_affine",
            ),
        },
    ),
    "backward_rounding": Axis(
        "which code does the backward pass compute again?",
        {
            "as_forward": Value("the code of the forward pass", "refqnn, TensorFlow"),
            "zero_point_inside": Value(
                "round(u + zero_point), whatever the forward pass did",
                "PyTorch's learnable fake quantization",
            ),
        },
    ),
    "scale_gradient": Axis(
        "which factor multiplies the gradient of the scale?",
        {
            "1": Value("ds = sum dy r", "PyTorch's learnable fake quantization"),
            "1/sqrt(N*q_p)": Value(
                "ds = sum dy r / sqrt(N q_max), N all values",
                "LSQ for weights, section 2.2",
            ),
            "1/sqrt(F*q_p)": Value(
                "ds = sum dy r / sqrt(F q_max), F the values of one example",
                "LSQ for activations; zhutmost/lsq-net#23",
            ),
            "1/sqrt(N)": Value("ds = sum dy r / sqrt(N)", "LSQ without the levels"),
            "none": Value("ds = 0", "fixed scales"),
        },
    ),
}

REQUANTIZE = {
    "requantize": Axis(
        "how does an int32 accumulator become a code?",
        reordered(REQUANTIZE_ROWS, "half_up"),
    ),
    "multiplier_bits": Axis(
        "how many bits has the multiplier?",
        {
            "31": Value("multiplier as given", "TFLite, TOSA RESCALE, gemmlowp"),
            "15": Value(
                "round(multiplier / 2^16) 2^16", "TOSA scale16, CMSIS-NN for int16"
            ),
        },
    ),
}

TENSOR = {
    "padding_value": Axis(
        "which code surrounds the plane?",
        {
            "zero_point": Value("x_zero_point, real 0", "ONNX, TFLite, PyTorch"),
            "raw_zero": Value("the code 0", "im2col with memset; NVIDIA/cutlass#817"),
        },
    ),
    "padding_side": Axis(
        "on which side is uneven padding?",
        {
            "as_given": Value("(top, bottom), (left, right)", "explicit padding"),
            "swapped": Value(
                "(bottom, top), (right, left)", "SAME_LOWER taken for SAME_UPPER"
            ),
        },
    ),
    "kernel": Axis(
        "which way does the kernel lie?",
        {
            "correlation": Value("w[i, j] meets x[p + i, q + j]", "deep learning"),
            "convolution": Value(
                "w[Kh - 1 - i, Kw - 1 - j] meets x[p + i, q + j]",
                "signal processing, scipy.signal.convolve2d",
            ),
            "transposed": Value(
                "w[j, i] meets x[p + i, q + j], for square kernels",
                "column-major memory",
            ),
        },
    ),
    "weight_layout": Axis(
        "in which order are the weights read from memory?",
        {
            "OIHW": Value("w as given", "PyTorch, ONNX"),
            "OHWI": Value("w read as (O, Kh, Kw, C // G)", "TFLite, CMSIS-NN"),
            "HWIO": Value("w read as (Kh, Kw, C // G, O)", "TensorFlow, Keras"),
        },
    ),
    "weight_order": Axis(
        "in which order is the matrix read from memory?",
        {
            "OI": Value("w as given", "PyTorch, ONNX Gemm with transB = 1, TFLite"),
            "IO": Value("w read as (I, O)", "Keras, ONNX MatMul, Fortran order"),
        },
    ),
    "group_assignment": Axis(
        "which channels form a group?",
        {
            "contiguous": Value("channel c in group c // (C / G)", "PyTorch, ONNX"),
            "interleaved": Value("channel c in group c % G", "channel-last kernels"),
        },
    ),
    "accumulator": Axis(
        "in what are products summed?",
        {
            "int32": Value("every partial sum exact", "everyone, by specification"),
            "int16_saturating_pairs": Value(
                "sat16(x[2k] w[2k] + x[2k+1] w[2k+1]), then int32, x uint8",
                "AVX2 vpmaddubsw; microsoft/onnxruntime#6004",
            ),
            "int16_wrap": Value(
                "the sum modulo 2^16", "accumulators that are too narrow"
            ),
        },
    ),
    "x_zero_point_use": Axis(
        "is the zero-point of x subtracted?",
        {
            "subtracted": Value("(x - x_zero_point) w", "everyone, by specification"),
            "ignored": Value("x w", "kernels for symmetric quantization"),
            "added": Value(
                "(x + x_zero_point) w",
                "CMSIS-NN's input_offset = -zero_point, passed with the wrong sign",
            ),
        },
    ),
    "bias": Axis(
        "is the bias added?",
        {
            "added": Value("b + sum", "everyone, by specification"),
            "ignored": Value("sum", "a bias that was never loaded"),
        },
    ),
    "pool_rounding": Axis(
        "how is the mean of a window rounded?", reordered(ROUNDING_ROWS, "half_away")
    ),
    "pool_count": Axis(
        "by what is the sum of a window divided?",
        {
            "include_pad": Value("Kh Kw", "PyTorch by default"),
            "exclude_pad": Value("positions inside the plane", "ONNX, TFLite, Keras"),
        },
    ),
    "pool_centre": Axis(
        "is the real mean rounded, or the mean of codes?",
        {
            "real": Value("z + round(sum (x - z) / n)", "refqnn, QDQ models"),
            "codes": Value("round(sum x / n)", "TFLite, CMSIS-NN"),
        },
    ),
    "pool_division": Axis(
        "is the sum divided, or multiplied by a reciprocal?",
        {
            "exact": Value("sum / n", "integer kernels"),
            "float32_reciprocal": Value(
                "float32(sum) * float32(1 / n)", "float kernels with 1 / n ready"
            ),
        },
    ),
    "max_pool_padding": Axis(
        "may padding win a maximum?",
        {
            "never": Value("max over the plane", "PyTorch, ONNX"),
            "raw_zero": Value("max(0, plane) at the border", "planes padded by memset"),
        },
    ),
}

ORDERS = {
    " ".join(order): Value(
        f"rows are cut into {', '.join(order)}",
        {"ifgo": "PyTorch, Keras", "iofg": "ONNX (i o f c)", "ifog": "Core ML"}.get(
            "".join(order), "-"
        ),
    )
    for order in permutations("ifgo")
}

TRAINING = {
    "gate_order": Axis("in which order are the four gates?", ORDERS),
    "lstm_bias": Axis(
        "which biases are added?",
        {
            "sum": Value("b_x + b_h", "PyTorch, ONNX, cuDNN"),
            "input_only": Value("b_x", "Keras: one bias"),
            "recurrent_only": Value("b_h", "a bias loaded from the wrong half"),
        },
    ),
    "forget_bias": Axis(
        "is something added to the forget gate?",
        {
            "0": Value("sigmoid(f)", "PyTorch, ONNX"),
            "1": Value("sigmoid(f + 1)", "TensorFlow BasicLSTMCell"),
        },
    ),
    "running_variance": Axis(
        "which variance is remembered?",
        {
            "unbiased": Value("sum (x - mean)^2 / (M - 1)", "PyTorch"),
            "biased": Value("sum (x - mean)^2 / M", "Keras, ONNX since opset 15"),
        },
    ),
    "running_momentum": Axis(
        "what does the momentum multiply?",
        {
            "new": Value("(1 - m) old + m new", "PyTorch"),
            "old": Value("m old + (1 - m) new", "Keras, ONNX, Caffe"),
        },
    ),
    "batch_variance": Axis(
        "which variance normalizes the batch?",
        {
            "biased": Value("sum (x - mean)^2 / M", "everyone, by specification"),
            "unbiased": Value("sum (x - mean)^2 / (M - 1)", "var(ddof=1)"),
        },
    ),
    "epsilon": Axis(
        "where is epsilon added?",
        {
            "inside": Value("sqrt(var + eps)", "everyone, by specification"),
            "outside": Value("sqrt(var) + eps", "Adam's habit"),
        },
    ),
    "reduction": Axis(
        "how are the losses of a batch put together?",
        {
            "mean": Value("sum / N", "PyTorch and Keras by default"),
            "sum": Value("sum", "Caffe2, hand-written loops"),
        },
    ),
    "smoothing": Axis(
        "where does the smoothed mass go?",
        {
            "all_classes": Value("(1 - a) 1{k = y} + a / K", "arXiv:1512.00567"),
            "other_classes": Value(
                "(1 - a) at y, a / (K - 1) elsewhere", "fairseq, hand-written losses"
            ),
        },
    ),
    "logarithm": Axis(
        "in which base is the loss?",
        {
            "natural": Value("ln", "everyone, by specification"),
            "base_2": Value("log2", "information theory"),
        },
    ),
    "decay_order": Axis(
        "where does weight decay enter?",
        {
            "gradient": Value("g = grad + decay * value", "PyTorch SGD"),
            "after_momentum": Value(
                "direction = v + decay * value", "decay outside the velocity"
            ),
            "decoupled": Value("value (1 - lr decay) - lr v", "SGDW, arXiv:1711.05101"),
        },
    ),
    "decayed": Axis(
        "which parameters decay?",
        {
            "all": Value("weights and biases", "PyTorch SGD without groups"),
            "weights": Value("weights", "parameter groups, as most recipes want"),
        },
    ),
    "updated": Axis(
        "which weights does the step start from?",
        {
            "latent": Value(
                "w is updated, quantized anew in each pass", "BinaryConnect and since"
            ),
            "quantized": Value(
                "wq is updated: what was below one step is lost",
                "training loops that write the quantized weights back",
            ),
        },
    ),
    "velocity": Axis(
        "does the velocity hold the learning rate?",
        {
            "without_lr": Value("v = m v + g, value - lr v", "PyTorch, TensorFlow"),
            "with_lr": Value("v = m v + lr g, value - v", "Caffe, Keras, Sutskever"),
        },
    ),
    "dampening": Axis(
        "is the first step dampened?",
        {
            "not_first": Value("v = g at first", "PyTorch"),
            "always": Value("v = (1 - dampening) g at first", "velocity from zero"),
        },
    ),
    "nesterov": Axis(
        "what is Nesterov's direction?",
        {
            "gradient_plus_velocity": Value("g + m v", "PyTorch, TensorFlow"),
            "velocity": Value("v", "heavy ball: the flag is ignored"),
            "twice": Value("m (m v + g) + g", "an update applied twice"),
        },
    ),
    "noise_use": Axis(
        "is there noise before the rounding?",
        {
            "added": Value("as given", "DoReFa-Net; Banner et al."),
            "ignored": Value("none: biased", "rounding to the nearest"),
        },
    ),
    "gradient_maximum": Axis(
        "over what runs the maximum of DoReFa-Net's gradient quantizer?",
        {
            "sample": Value("max over one sample", "arXiv:1606.06160, section 2.5"),
            "tensor": Value("max over the batch", "one reduction for all"),
        },
    ),
    "gradient_limits": Axis(
        "over what run minimum and maximum of a quantized gradient?",
        {
            "tensor": Value("min and max over the batch", "Banner et al."),
            "sample": Value("min and max over one sample", "quantizers by example"),
        },
    ),
    "threshold": Axis(
        "does a probability of one half open the gate?",
        {
            "at_least": Value("run where p >= 0.5", "refqnn, SkipNet"),
            "above": Value("run where p > 0.5", "torch.round, ties to even"),
        },
    ),
    "gate_gradient": Axis(
        "what is the gradient of the decision?",
        {
            "through_sigmoid": Value("dlogit = dm p (1 - p)", "soft surrogate"),
            "straight_through": Value("dlogit = dm", "identity surrogate"),
            "none": Value("dlogit = 0", "a decision that was detached"),
        },
    ),
    "skipped_state": Axis(
        "what becomes of a recurrent state when its block is skipped?",
        {
            "kept": Value("h' = h", "states of skipped steps carry over"),
            "updated": Value("h' = h_new", "gates that see every block"),
            "zeroed": Value("h' = 0", "h' = m h_new"),
        },
    ),
    "skipped_branch": Axis(
        "is a skipped block computed?",
        {
            "not_run": Value("y = x", "executed work is saved"),
            "times_zero": Value(
                "y = x + 0 f(x), NaN where f(x) is infinite",
                "ucbdrive/skipnet#11; multiplication by a mask",
            ),
        },
    ),
    "backward": Axis(
        "is the backward pass the published one?",
        {
            "published": Value("as derived in the file", "refqnn"),
            "identity": Value("dx = dy", "straight through everything"),
            "none": Value("dx = 0", "autograd through a rounding"),
        },
    ),
}

OPTIONS = {
    "ternary_variant": ("which threshold?", ("resolved", "printed", "twn")),
    "filter_group": ("which weights share a scale?", ("filter", "layer")),
    "narrow_range": ("is the lowest code left out?", ("False", "True")),
    "true_zero": ("is real 0 a level?", ("True", "False")),
    "pact_scope": ("through what does alpha's gradient pass?", ("whole", "rounding")),
    "sawb_grid": ("is 0 a level?", ("mid_rise", "mid_tread")),
    "max_grad": ("has the maximum a gradient?", ("True", "False")),
    "balanced_split": ("cut at medians or at means?", ("median", "mean")),
    "xnor_gradient": ("which gradient of the scale?", ("exact", "paper", "released")),
    "clip_grad": ("is the gradient of clipped values 0?", ("False", "True")),
}
QUANTIZER = {
    name: Axis(question, {v: Value(f"{name} = {v}", "the paper's file") for v in given})
    for name, (question, given) in OPTIONS.items()
}

AXES: dict[str, Axis] = AFFINE | GRADIENT | REQUANTIZE | TENSOR | TRAINING | QUANTIZER
