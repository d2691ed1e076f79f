"""Axes of convolutions, products and pools."""

from refqnn.conformance.choices.axes.arithmetic import ROUNDING_ROWS
from refqnn.conformance.choices.axes.axis import Axis, Value, default_first

#: no known kernel rounds means away from 0, or their ties towards it
UNPOOLED = ("away", "half_to_zero")
POOLED = {name: row for name, row in ROUNDING_ROWS.items() if name not in UNPOOLED}
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
            "int16_saturate": Value(
                "the sum clipped to 16 bits", "SIMD additions that saturate (vqadd)"
            ),
            "int24_wrap": Value("the sum modulo 2^24", "FPGA and DSP accumulators"),
            "int24_saturate": Value(
                "the sum clipped to 24 bits", "DSP accumulators that saturate"
            ),
            "int32_wrap": Value(
                "the sum modulo 2^32",
                "16-bit activations in a 32-bit register; tensorflow/tflite-micro#3598",
            ),
        },
    ),
    "w_zero_point_use": Axis(
        "is the zero-point of w subtracted?",
        {
            "subtracted": Value("(w - w_zero_point) x", "everyone, by specification"),
            "ignored": Value(
                "w x", "kernels for symmetric weights; iree-org/iree#24583"
            ),
            "added": Value(
                "(w + w_zero_point) x", "offsets negated once; ARM ComputeLibrary#1033"
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
        "how is the mean of a window rounded?", default_first(POOLED, "half_away")
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
