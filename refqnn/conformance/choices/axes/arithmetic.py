"""Axes of quantization: scaling, rounding, range, gradients, requantization."""

from refqnn.conformance.choices.axes.axis import Axis, Value, default_first
from refqnn.integer.rescale import REQUANTIZATIONS
from refqnn.integer.rounding import ROUNDINGS

#: roundings that the integer code does not offer: conformance's own
MORE_ROUNDINGS = {
    "half_odd": ("nearest, ties to the odd neighbour", "datapaths that round to odd"),
    "half_to_zero": ("nearest, ties towards 0", "qonnx HALF_DOWN, AP_RND_ZERO"),
    "away": ("sign(t) ceil(|t|)", "qonnx UP"),
}
ROUNDING_ROWS = {
    name: (r.formula, r.users) for name, r in ROUNDINGS.items()
} | MORE_ROUNDINGS
REQUANTIZE_ROWS = {
    name: (r.formula, r.users) for name, r in REQUANTIZATIONS.items()
} | {
    "mixed_half_even": (
        "rint(float64(acc) * float32(real)) in float64",
        "the reference evaluator of ONNX QLinearConv under NumPy 2",
    ),
    "float32_half_away": (
        "round(float32(acc) * float32(real)), ties away from 0",
        "C roundf, Arm vcvta; XNNPACK fp32 on Arm",
    ),
    "float64_half_away": (
        "round(acc * real) in float64, ties away from 0",
        "models in C and C++ that call round",
    ),
}

AFFINE = {
    "rounding": Axis(
        "how is x / scale rounded?", default_first(ROUNDING_ROWS, "half_even")
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
            "range": Value(
                "u + zero_point - q_min = x a + b, a = (q_max - q_min) / (hi - lo), "
                "b = -lo a, lo and hi the ends of the grid",
                "OpenVINO FakeQuantize and Quantize",
            ),
            "range_fma": Value(
                "the same, x a + b rounded once", "OpenVINO where the compiler fuses"
            ),
        },
    ),
    "half": Axis(
        "is a tie told exactly, or is one half added in floating point?",
        {
            "exact": Value("the fraction compared with 1/2", "rint, refqnn"),
            "float": Value(
                "floor(t + 0.5f), trunc(t + copysign(0.5f, t)): the sum rounds",
                "C written by hand; qonnx HALF_UP",
            ),
        },
    ),
    "code_range": Axis(
        "is the range of codes used as given?",
        {
            "as_given": Value("[q_min, q_max]", "everyone, by specification"),
            "symmetric": Value(
                "[max(q_min, -q_max), q_max]",
                "TFLite and TensorRT weights, -127 to 127; PaddlePaddle/Paddle#42695",
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
            "cast16_then_clip": Value(
                "clip(int16(q), q_min, q_max)", "kernels that narrow to 16 bits first"
            ),
            "cast_then_clip": Value(
                "clip(int32(t), q_min, q_max), int32(t) = -2^31 for |t| >= 2^31",
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
            "raw_zero": Value("the code 0", "PyTorch PT2E, quantize_per_channel"),
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
            "fma": Value(
                "fma(scale, q, -(scale * zero_point)): the product not rounded",
                "the same under a compiler that fuses; LiteRT and XNNPACK with FMA",
            ),
        },
    ),
    "code_difference": Axis(
        "in which width is q - zero_point computed?",
        {
            "exact": Value("q - zero_point in int32", "everyone, by specification"),
            "wraps": Value(
                "q - zero_point modulo 2^8, signed",
                "arrays subtracted as int8; pytorch/executorch#20655",
            ),
            "wraps_in_type": Value(
                "q - zero_point in the type of q", "arrays of codes subtracted as such"
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
            "1/N": Value("ds = sum dy r / N", "a mean where the sum was meant"),
            "negated": Value("ds = -sum dy r", "a sign lost"),
        },
    ),
    "scale_mask": Axis(
        "where is r of the gradient of the scale the residual q - zero_point - u?",
        {
            "as_input": Value("where the gradient of x passes", "refqnn, TensorFlow"),
            "input_inclusive": Value("where lo <= x <= hi", "torch.clamp, a mask each"),
            "input_open": Value("where lo < x < hi", "LSQ equation (3)"),
            "none": Value("everywhere", "a clip that was detached"),
        },
    ),
}

SUMS = {
    "sum_rescaling": Axis(
        "how is a sum of codes on two grids brought to a third?",
        {
            "exact": Value(
                "z + round((s_x (x - z_x) + s_y (y - z_y)) / s), one exact rounding",
                "refqnn",
            ),
            "onnxruntime": Value(
                "round((c + r_y y) + r_x x), r = s_i / s, the zero-points in c",
                "onnxruntime QLinearAdd on x86",
            ),
            "tflite": Value(
                "shifted left by 20 (15), three requantizations of two roundings",
                "TensorFlow Lite ADD and SUB, reference kernels; CMSIS-NN",
            ),
            "xnnpack": Value(
                "z + floor((m_x (x - z_x) + m_y (y - z_y)) / 2^k + 1/2), 21 bits",
                "XNNPACK qs8-vadd",
            ),
            "dequantized": Value(
                "z + rint((s_x (x - z_x) + s_y (y - z_y)) / s) in float32",
                "DequantizeLinear, Add, QuantizeLinear left as they are",
            ),
            "torch": Value(
                "z + rint((fma(s_x, x, -s_x z_x) + fma(s_y, y, -s_y z_y)) (1 / s))",
                "PyTorch quantized.add on x86",
            ),
            "separate": Value(
                "z + M(s_x / s, x - z_x) + M(s_y / s, y - z_y), each rounded",
                "kernels that bring both operands to the grid of the sum first",
            ),
        },
    ),
    "product_rescaling": Axis(
        "how is a product of codes brought to its grid?",
        {
            "exact": Value(
                "z + round(s_x s_y / s (x - z_x) (y - z_y)), one exact rounding",
                "refqnn",
            ),
            "onnxruntime": Value(
                "round(r (x - z_x) (y - z_y) + z), r = s_x s_y / s",
                "onnxruntime QLinearMul",
            ),
            "tflite": Value(
                "z + M(r, (x - z_x) (y - z_y)), two roundings",
                "TensorFlow Lite MUL, reference kernels; CMSIS-NN",
            ),
            "float32": Value(
                "z + rint(r (x - z_x) (y - z_y)) in float32", "XNNPACK qs8-vmul"
            ),
            "reciprocal": Value(
                "the same, r = s_x s_y (1 / s)", "PyTorch quantized.mul"
            ),
            "half_away": Value(
                "z + round(r (x - z_x) (y - z_y)) in float32, ties away from 0",
                "kernels in C that call roundf",
            ),
            "dequantized": Value(
                "z + rint(s_x (x - z_x) s_y (y - z_y) / s) in float32",
                "DequantizeLinear, Mul, QuantizeLinear left as they are",
            ),
        },
    ),
}
REQUANTIZE = {
    "requantize": Axis(
        "how does an int32 accumulator become a code?",
        default_first(REQUANTIZE_ROWS, "half_up"),
    ),
    "multiplier_bits": Axis(
        "how many bits has the multiplier?",
        {
            "31": Value("multiplier as given", "TFLite, TOSA RESCALE, gemmlowp"),
            "15": Value(
                "min(round(multiplier / 2^16), 2^15 - 1) 2^16",
                "TOSA scale16, CMSIS-NN for int16",
            ),
            "15_truncated": Value(
                "floor(multiplier / 2^16) 2^16", "the upper half of the register"
            ),
        },
    ),
    "float_sum": Axis(
        "is the product rounded before the zero-point is added in float?",
        {
            "rounded": Value("float(acc real) + zero_point", "code without FMA"),
            "fused": Value(
                "fma(acc, real, zero_point)", "FBGEMM and XNNPACK where FMA exists"
            ),
        },
    ),
}
