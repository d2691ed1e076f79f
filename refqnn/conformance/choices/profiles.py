"""Profiles: what installed runtimes were found to do, with how that was found.

Each row was identified by asking the operator (``runtimes.py``), then held on 100 000
random inputs without one mismatch. ``tests/conformance/test_profiles.py`` repeats both
for every runtime that is installed. CMSIS-NN is not asked: its rows are what the layers
of its unit tests decide, their number beside them.

>>> profiles["onnxruntime"].semantics("requantize").requantize
'float32_half_even'
"""

from typing import Any

from refqnn.conformance.choices.families import FAMILIES
from refqnn.conformance.choices.profile import VERIFIED, Profile, Row, profile

ONNXRUNTIME = profile(
    "onnxruntime",
    "1.32.0",
    """
    QuantizeLinear | quantize | nan = q_min (open) | 8
    DequantizeLinear | dequantize | as refqnn | 3
    QLinearConv | requantize | requantize = float32_half_even | 7
    QLinearAdd | add | sum_rescaling = onnxruntime | 4 | x86
    QLinearMul | mul | product_rescaling = onnxruntime | 4
    QLinearSigmoid | sigmoid | activation = rational | 7 | x86 with FMA
    QLinearLeakyRelu | leaky_relu | as refqnn | 7
    QLinearConcat | concat | concat_rescaling = onnxruntime | 3
    QLinearAveragePool | mean_pool2d | mean_rescaling = onnxruntime,
            pool_count = exclude_pad | 1 | a window that is the plane: as below
    QLinearGlobalAveragePool | mean_pool2d | mean_rescaling = float32 | 4 | x86
    QLinearSoftmax | softmax | softmax = onnxruntime | 4 | x86
    Resize, nearest | resize_nearest | as refqnn | 3
    Resize, linear | resize_bilinear | resize_ratio = divided,
            resize_blend = float32_trunc | 2
    ConvInteger | conv2d | as refqnn | 2
    MatMulInteger | linear | accumulator = int16_saturating_pairs, or as refqnn | 2 |
            x86 without VNNI; with it int32
    MatMulInteger of two arrays | matmul | accumulator = int16_saturating_pairs,
            or as refqnn | 2 | x86 without VNNI; with it int32
    LSTM | lstm_cell | gate_order = i o f g | 1
    BatchNormalization | batch_norm | running_variance = biased,
            running_momentum = old | 1
    """,
)
ONNX = profile(
    "onnx",
    "1.23.2",
    """
    QuantizeLinear | quantize | overflow = cast_then_clip, nan = cast (open) | 7
    DequantizeLinear | dequantize | as refqnn | 3
    QLinearConv | requantize | zero_point_when = before_rounding,
            requantize = mixed_half_even | 7 | the reference evaluator under NumPy 2
    ConvInteger | conv2d | accumulator = int32_wrap | 3
    MatMulInteger | linear | accumulator = int32_wrap | 3
    MatMulInteger of two arrays | matmul | accumulator = int32_wrap | 2
    Resize, nearest | resize_nearest | as refqnn | 3
    LSTM | lstm_cell | gate_order = i o f g | 1
    BatchNormalization | batch_norm | running_variance = biased,
            running_momentum = old | 1
    """,
)
LITERT = (
    profile(
        "litert-reference",
        "2.3.0",
        """
        ADD | add | sum_rescaling = tflite | 4
        SUB | sub | sum_rescaling = tflite | 4
        MUL | mul | product_rescaling = tflite | 4
        LOGISTIC | sigmoid | activation = float32, rounding = half_away | 4
        TANH | tanh | rounding = half_away, scaling = reciprocal | 6 |
                where tanhf of the C library is rounded to the nearest
        HARD_SWISH | hard_swish | activation = fixed_point | 2
        LEAKY_RELU | leaky_relu | activation = multipliers | 4
        SOFTMAX | softmax | softmax = tflite | 3
        CONCATENATION | concat | concat_rescaling = tflite | 3 | uint8
        MEAN | mean_pool2d | mean_rescaling = folded | 4
        MEAN of 16 channels | mean_pool2d | mean_rescaling = folded | 4
        RESIZE_BILINEAR | resize_bilinear | resize_blend = tflite | 1 | int8
        RESIZE_NEAREST_NEIGHBOR | resize_nearest | resize_ratio = multiplied,
                nearest_rounding = half_up | 2
        AVERAGE_POOL_2D | avg_pool2d | pool_count = exclude_pad, pool_centre = codes | 1
        CONV_2D | requantize | requantize = two_stage_half_away | 8
        TRANSPOSE_CONV | requantize | requantize = two_stage_half_away | 8
        FULLY_CONNECTED | requantize | requantize = float64_half_away | 7
        QUANTIZE | quantize | rounding = half_away, overflow = cast_then_clip,
                nan = cast | 7
        DEQUANTIZE | dequantize | as refqnn | 3
        """,
    ),
    profile(
        "litert-optimized",
        "2.3.0",
        """
        ADD | add | sum_rescaling = tflite | 4 | x86
        SUB | sub | sum_rescaling = tflite | 4 | x86
        MUL | mul | product_rescaling = tflite | 4 | x86
        LOGISTIC | sigmoid | activation = float32, rounding = half_away | 4
        TANH | tanh | rounding = half_away, scaling = reciprocal | 6 |
                where tanhf of the C library is rounded to the nearest
        HARD_SWISH | hard_swish | activation = fixed_point | 2
        LEAKY_RELU | leaky_relu | activation = multipliers | 4
        SOFTMAX | softmax | softmax = table | 4
        CONCATENATION | concat | concat_rescaling = tflite | 3 | uint8
        MEAN | mean_pool2d | mean_rescaling = offset | 4
        MEAN of 16 channels | mean_pool2d | mean_rescaling = offset_half_up | 4 | x86
        RESIZE_BILINEAR | resize_bilinear | resize_blend = tflite | 1 | int8
        RESIZE_NEAREST_NEIGHBOR | resize_nearest | resize_ratio = multiplied,
                nearest_rounding = half_up | 2
        AVERAGE_POOL_2D | avg_pool2d | pool_count = exclude_pad, pool_centre = codes | 1
        CONV_2D | requantize | requantize = two_stage_half_up | 7 | x86
        FULLY_CONNECTED | requantize | requantize = two_stage_half_up,
                multiplier_bits = 24 | 7 | x86
        """,
    ),
    profile(
        "litert-xnnpack",
        "2.3.0",
        """
        ADD | add | sum_rescaling = xnnpack | 4 | x86
        SUB | sub | sum_rescaling = xnnpack | 3 | x86
        MUL | mul | product_rescaling = float32 | 4 | x86
        LOGISTIC | sigmoid | scaling = reciprocal, zero_point_when = before_rounding | 7
        TANH | tanh | scaling = reciprocal, zero_point_when = before_rounding | 5 |
                where tanhf of the C library is rounded to the nearest
        HARD_SWISH | hard_swish | activation = fixed_point | 2 |
                left to the optimized kernel
        LEAKY_RELU | leaky_relu | activation = multipliers_8_bits | 4 |
                slopes below 2^-8 are left to the optimized kernel
        SOFTMAX | softmax | softmax = table | 4 | left to the optimized kernel
        CONCATENATION | concat | concat_rescaling = tflite | 3 |
                uint8, left to the optimized kernel
        MEAN | mean_pool2d | mean_rescaling = xnnpack | 4
        MEAN of 16 channels | mean_pool2d | mean_rescaling = xnnpack | 4
        RESIZE_BILINEAR | resize_bilinear | resize_blend = xnnpack | 1 | int8
        RESIZE_NEAREST_NEIGHBOR | resize_nearest | resize_ratio = multiplied,
                nearest_rounding = half_up | 2
        AVERAGE_POOL_2D | avg_pool2d | pool_count = exclude_pad, pool_centre = codes | 1
        CONV_2D | requantize | requantize = float32_half_even | 7 | x86
        TRANSPOSE_CONV | requantize | requantize = float32_half_even | 7 | x86
        FULLY_CONNECTED | requantize | requantize = float32_half_even | 7 | x86
        QUANTIZE | quantize | scaling = reciprocal, nan = q_max | 7 | x86
        DEQUANTIZE | dequantize | as refqnn | 3 | x86
        """,
    ),
)
TFLITE_MICRO = profile(
    "tflite-micro",
    "0.dev20261023182759",
    """
    ADD | add | sum_rescaling = tflite | 4
    SUB | sub | sum_rescaling = tflite | 4
    MUL | mul | product_rescaling = tflite_float64 | 4
    LOGISTIC | sigmoid | activation = float32, rounding = half_away | 4 |
            scale 1/256 from -128 alone; fixed point, other ties of scales 2^-k
    TANH | tanh | as refqnn | 1 | scale 1/128 around 0, whatever the file states;
            fixed point, other ties of scales 2^-k
    HARD_SWISH | hard_swish | activation = fixed_point | 2
    LEAKY_RELU | leaky_relu | activation = multipliers_float64 | 3
    SOFTMAX | softmax | softmax = tflite | 3
    MEAN | mean_pool2d | mean_rescaling = folded | 4
    MEAN of 16 channels | mean_pool2d | mean_rescaling = folded | 4
    RESIZE_BILINEAR | resize_bilinear | resize_blend = tflite | 1 | int8
    RESIZE_NEAREST_NEIGHBOR | resize_nearest | resize_ratio = multiplied,
            nearest_rounding = half_up | 2
    AVERAGE_POOL_2D | avg_pool2d | pool_count = exclude_pad, pool_centre = codes | 1
    CONV_2D | requantize | requantize = two_stage_half_away | 8
    TRANSPOSE_CONV | requantize | requantize = two_stage_half_away | 8
    FULLY_CONNECTED | requantize | requantize = two_stage_half_away | 8
    QUANTIZE | quantize | rounding = half_away, overflow = cast_then_clip,
            nan = cast | 7 | int8
    DEQUANTIZE | dequantize | as refqnn | 3
    """,
)
CMSIS_NN = profile(
    "cmsis-nn",
    "7.0.0",
    """
    layers to int8 | requantize | requantize = two_stage_half_away | 93 |
            its unit tests, 4312 of 4318 variants excluded
    layers to int16 with biases of int64 | requantize | multiplier_bits = 15 | 22 |
            its unit tests, 4224 of 4316 variants excluded
    layers to int16 with biases of int32 | requantize |
            requantize = two_stage_half_away | 4 |
            its unit tests, 4296 of 4318 variants excluded
    average pooling of int8 | avg_pool2d | pool_count = exclude_pad | 4 |
            its unit tests, 60 of 63 variants excluded
    average pooling of int16 | avg_pool2d | pool_count = exclude_pad | 4 |
            its unit tests, 60 of 63 variants excluded
    maximum pooling of int8 | max_pool2d | as refqnn | 7 | its unit tests
    """,
)
OPENVINO = profile(
    "openvino",
    "2026.4.1",
    """
    DequantizeLinear | dequantize | as refqnn | 3
    ConvInteger | conv2d | as refqnn | 2 |
            sums in float32; asked where none reaches 2^24
    MatMulInteger | linear | as refqnn | 2 |
            sums in float32; asked where none reaches 2^24
    MatMulInteger of two arrays | matmul | as refqnn | 2 |
            sums in float32; asked where none reaches 2^24
    LSTM | lstm_cell | gate_order = i o f g | 1
    """,
)
JAX = Profile("jax", "0.10.2", (), VERIFIED)
BREVITAS = profile(
    "brevitas",
    "0.13.4",
    """
    IntQuant.to_int | quantize | zero_point_when = before_rounding, nan = kept | 8
    IntQuant | fake_quantize | zero_point_when = before_rounding,
            straight_through = rounded_inclusive | 8
    """,
)
EXECUTORCH = profile(
    "executorch",
    "1.5.1",
    """
    quantize_per_tensor | quantize | scaling = reciprocal, nan = q_min | 8 |
            portable kernels
    dequantize_per_tensor | dequantize | as refqnn | 3 | portable kernels
    """,
)
TVM = profile(
    "tvm",
    "0.27.0.post1",
    """
    relax.quantize | quantize | nan = q_max | 8 | LLVM, x86
    relax.dequantize | dequantize | as refqnn | 3 | LLVM, x86
    """,
)
TORCH = profile(
    "torch",
    "2.13.0",
    """
    quantize_per_tensor | quantize | scaling = reciprocal_fma,
            zero_point_when = before_rounding, nan = q_max | 9 | x86 with FMA
    fake_quantize_per_tensor_affine | fake_quantize | scaling = reciprocal,
            straight_through = rounded_inclusive, scale_gradient = none | 8
    quantized.cat | concat | concat_rescaling = torch | 2 | x86 with FMA
    quantized.mul | mul | product_rescaling = reciprocal | 4
    max_pool2d | max_pool2d | as refqnn | 1
    quantized avg_pool2d | avg_pool2d | pool_rounding = half_even,
            pool_centre = codes | 2
    interpolate, nearest | resize_nearest | resize_place = asymmetric,
            resize_ratio = multiplied, nearest_rounding = floor | 2 | uint8
    interpolate, nearest-exact | resize_nearest | resize_ratio = multiplied,
            nearest_rounding = half_up | 2 | uint8
    lstm_cell | lstm_cell | as refqnn | 1
    batch_norm | batch_norm | as refqnn | 1
    cross_entropy | softmax_cross_entropy | as refqnn | 1
    optim.SGD | sgd | dampening = with_momentum | 2
    """,
)
NUMPY = profile("numpy", "2.4.6", "rint and clip | quantize | nan = kept | 8")
QONNX = profile(
    "qonnx",
    "1.0.0",
    """
    Quant | quantize | zero_point_when = before_rounding, nan = kept | 8 |
            rounding_mode ROUND; clipped before it is rounded
    """,
)
#: refqnn itself, which needs no asking
REFQNN = Profile("refqnn", "", tuple(Row(f, f, {}, 0) for f in FAMILIES), VERIFIED)

profiles: dict[str, Profile] = {
    profile.runtime: profile
    for profile in (
        *(REFQNN, ONNX, ONNXRUNTIME, *LITERT, TFLITE_MICRO, CMSIS_NN, OPENVINO),
        *(TORCH, EXECUTORCH, TVM, JAX, BREVITAS, QONNX, NUMPY),
    )
}
#: asked and explained by no variant on random inputs: said, not hidden
UNEXPLAINED = {
    ("torch", "_fake_quantize_learnable_per_tensor_affine"): (
        "forward as fake_quantize_per_tensor_affine; the backward pass rounds "
        "fma(x, 1 / scale, zero_point) again, and moves zero-points below 0"
    ),
    ("torch", "quantized.add"): (
        "vectors as sum_rescaling = torch (x86 with FMA); a lone element adds the "
        "zero-point before it rounds: -0.5 + 1 gives 0, not 1"
    ),
    ("openvino", "QuantizeLinear"): (
        "beside ties: x = 0.09657204 is half of scale 0.19314408 and gives 1, not 0; "
        "nearest is rint(x / scale + zero_point), 92 of 2527 outputs differ"
    ),
    ("openvino", "QLinearConv"): (
        "beside ties: accumulator 196609, multiplier 1073741825, shift -16, zero-point "
        "1 gives 2, not 3; nearest is float32_half_even, 9 of 2999 outputs differ"
    ),
    ("jax", "jit of round and clip"): (
        "one element is divided by the scale, vectors are multiplied by 1 / scale; "
        "NaN becomes 0"
    ),
    ("litert-optimized", "TRANSPOSE_CONV"): (
        "on x86 vectors of channels round as two_stage_half_up, one element alone as "
        "two_stage_half_away"
    ),
    ("litert-optimized", "QUANTIZE"): (
        "on x86 vectors of eight round ties to even, what is left over away from 0"
    ),
    ("litert-optimized", "DEQUANTIZE"): (
        "on x86 vectors compute scale q - scale zero_point, one element alone "
        "scale (q - zero_point)"
    ),
}


def profile_of(name: str) -> Profile:
    """Return a profile by name; raise ValueError that lists the names.

    >>> profile_of("torch").row("sgd").operator
    'optim.SGD'
    """
    if name not in profiles:
        raise ValueError(f"profile must be one of {list(profiles)}, got {name!r}")
    return profiles[name]


def matrix() -> str:
    """Return "who rounds how" as a Markdown table, one row an operator."""
    lines = ["| runtime | operator | family | differs from refqnn | inputs | note |"]
    lines.append("| --- | --- | --- | --- | --- | --- |")
    for known in list(profiles.values())[1:]:
        for row in known.rows:
            deviations = ", ".join(f"{a} = `{v}`" for a, v in row.deviations.items())
            cells = (
                f"{known.runtime} {known.version}",
                row.operator,
                row.family,
                deviations or "-",
                str(row.probes),
                row.note or "-",
            )
            lines.append(f"| {' | '.join(cells)} |")
    for (runtime, operator), why in UNEXPLAINED.items():
        shown = f"{runtime} {profiles[runtime].version}"
        lines.append(f"| {shown} | {operator} | - | none of the variants | - | {why} |")
    return "\n".join(lines) + "\n"


def as_dict(profile: Profile) -> dict[str, Any]:
    """Return plain values for JSON."""
    return profile._asdict() | {"rows": [row._asdict() for row in profile.rows]}
