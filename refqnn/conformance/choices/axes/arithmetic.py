"""Axes of integer code: quantization and its gradients, requantization, products."""

from refqnn.conformance.choices.axes.axis import Axis, default_first, read_table
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
#: no known kernel rounds means away from 0, or their ties towards it
UNPOOLED = ("away", "half_to_zero")
POOLED = {name: row for name, row in ROUNDING_ROWS.items() if name not in UNPOOLED}

AFFINE = {
    "rounding": Axis(
        "how is x / scale rounded?", default_first(ROUNDING_ROWS, "half_even")
    ),
} | read_table("""
scaling: is x divided by the scale, or multiplied by its rounded reciprocal?
    divide | u = x / scale | ONNX QuantizeLinear, refqnn
    reciprocal | u = x * (1 / scale), 1 / scale rounded first |
        PyTorch fake_quantize, FBGEMM without FMA
    reciprocal_fma | u + zero_point = fma(x, 1 / scale, zero_point): one rounding |
        PyTorch quantize_per_tensor on x86
    range | u + zero_point - q_min = x a + b, a = (q_max - q_min) / (hi - lo), b = -lo
        a, lo and hi the ends of the grid | OpenVINO FakeQuantize and Quantize
    range_fma | the same, x a + b rounded once | OpenVINO where the compiler fuses
half: is a tie told exactly, or is one half added in floating point?
    exact | the fraction compared with 1/2 | rint, refqnn
    float | floor(t + 0.5f), trunc(t + copysign(0.5f, t)): the sum rounds |
        C written by hand; qonnx HALF_UP
code_range: is the range of codes used as given?
    as_given | [q_min, q_max] | everyone, by specification
    symmetric | [max(q_min, -q_max), q_max] |
        TFLite and TensorRT weights, -127 to 127; PaddlePaddle/Paddle#42695
precision: in which floating point is x / scale computed?
    input | u in the dtype of x | ONNX, PyTorch, C in float
    float64 | u in float64, from float32 operands | Python scalars, C in double
zero_point_when: is the zero-point added after or before the rounding?
    after_rounding | round(u) + zero_point | ONNX, PyTorch, TFLite
    before_rounding | round(u + zero_point) |
        TensorFlow fake quantization, onnxruntime's float kernels
zero_point_use: is the zero-point added to the code?
    added | q + zero_point | everyone, by specification
    ignored | q | a zero-point that was never passed on
    subtracted | q - zero_point | layers that store negated offsets
overflow: what becomes of a code that does not fit?
    saturate | clip(q, q_min, q_max) | everyone, by specification
    wrap | q modulo 2^b | a cast without a clip; onnx/onnx#6169, #7835
    cast16_then_clip | clip(int16(q), q_min, q_max) |
        kernels that narrow to 16 bits first
    cast_then_clip | clip(int32(t), q_min, q_max), int32(t) = -2^31 for |t| >= 2^31 |
        x86 casts before a clip: large values become q_min
nan: which code stands for NaN?
    raise | an error | refqnn
    q_min | q_min | x86 casts of NaN before a clip
    q_max | q_max | clips written as min(max(NaN, lo), hi) by order
    zero | zero_point, real 0 | Arm casts: NaN becomes 0
    raw_zero | the code 0 | PyTorch PT2E, quantize_per_channel
    kept | NaN, where codes are floats | NumPy, fake quantization
    cast | clip(int32(-2^31 + zero_point)): q_max where that wraps |
            the evaluator of onnx; LiteRT's reference kernels
dequantize_order: is the zero-point subtracted from codes or from products?
    subtract_first | scale * (q - zero_point) | ONNX, PyTorch
    multiply_first | scale * q - scale * zero_point, each rounded |
        kernels that fold scale * zero_point into a bias
    fma | fma(scale, q, -(scale * zero_point)): the product not rounded |
        the same under a compiler that fuses; LiteRT and XNNPACK with FMA
code_difference: in which width is q - zero_point computed?
    exact | q - zero_point in int32 | everyone, by specification
    wraps | q - zero_point modulo 2^8, signed |
        arrays subtracted as int8; pytorch/executorch#20655
    wraps_in_type | q - zero_point in the type of q | arrays of codes subtracted as such
zero_point_sign: is the zero-point subtracted or added?
    subtract | q - zero_point | ONNX, TFLite
    add | q + zero_point | layers that store the negated offset
""")
GRADIENT = read_table("""
straight_through: through which inputs does the gradient pass?
    input_inclusive | dx = dy where lo <= x <= hi, lo and hi the ends of the grid |
        TensorFlow fake quantization, refqnn.quantizers.affine
    none | dx = dy everywhere | Bengio et al., arXiv:1308.3432
    input_open | dx = dy where lo < x < hi | LSQ, arXiv:1902.08153
    input_half_open | dx = dy where lo <= x < hi | PACT, arXiv:1805.06085
    input_half_open_below | dx = dy where lo < x <= hi |
        a clip that passes ties on one side
    rounded_inclusive | dx = dy where q_min <= round(u) + zero_point <= q_max |
        PyTorch fake_quantize_per_tensor_affine
backward_rounding: which code does the backward pass compute again?
    as_forward | the code of the forward pass | refqnn, TensorFlow
    zero_point_inside | round(u + zero_point), whatever the forward pass did |
        PyTorch's learnable fake quantization
scale_gradient: which factor multiplies the gradient of the scale?
    1 | ds = sum dy r | PyTorch's learnable fake quantization
    1/sqrt(N*q_p) | ds = sum dy r / sqrt(N q_max), N all values |
        LSQ for weights, section 2.2
    1/sqrt(F*q_p) | ds = sum dy r / sqrt(F q_max), F the values of one example |
        LSQ for activations; zhutmost/lsq-net#23
    1/sqrt(N) | ds = sum dy r / sqrt(N) | LSQ without the levels
    none | ds = 0 | fixed scales
    1/N | ds = sum dy r / N | a mean where the sum was meant
    negated | ds = -sum dy r | a sign lost
scale_mask: where is r of the gradient of the scale the residual q - zero_point - u?
    as_input | where the gradient of x passes | refqnn, TensorFlow
    input_inclusive | where lo <= x <= hi | torch.clamp, a mask each
    input_open | where lo < x < hi | LSQ equation (3)
    none | everywhere | a clip that was detached
""")
REQUANTIZE = {
    "requantize": Axis(
        "how does an int32 accumulator become a code?",
        default_first(REQUANTIZE_ROWS, "half_up"),
    ),
} | read_table("""
multiplier_bits: how many bits has the multiplier?
    31 | multiplier as given | TFLite, TOSA RESCALE, gemmlowp
    15 | min(round(multiplier / 2^16), 2^15 - 1) 2^16 | TOSA scale16, CMSIS-NN for int16
    15_truncated | floor(multiplier / 2^16) 2^16 | the upper half of the register
    24 | float32(multiplier) | LiteRT FULLY_CONNECTED, optimized kernels
float_sum: is the product rounded before the zero-point is added in float?
    rounded | float(acc real) + zero_point | code without FMA
    fused | fma(acc, real, zero_point) | FBGEMM and XNNPACK where FMA exists
""")
SUMS = read_table("""
sum_rescaling: how is a sum of codes on two grids brought to a third?
    exact | z + round((s_x (x - z_x) + s_y (y - z_y)) / s), one exact rounding | refqnn
    onnxruntime | round((c + r_y y) + r_x x), r = s_i / s, the zero-points in c |
        onnxruntime QLinearAdd on x86
    tflite | shifted left by 20 (15), three requantizations of two roundings |
        TensorFlow Lite ADD and SUB, reference kernels; CMSIS-NN
    xnnpack | z + floor((m_x (x - z_x) + m_y (y - z_y)) / 2^k + 1/2), 21 bits |
        XNNPACK qs8-vadd
    dequantized | z + rint((s_x (x - z_x) + s_y (y - z_y)) / s) in float32 |
        DequantizeLinear, Add, QuantizeLinear left as they are
    torch | z + rint((fma(s_x, x, -s_x z_x) + fma(s_y, y, -s_y z_y)) (1 / s)) |
        PyTorch quantized.add on x86
    separate | z + M(s_x / s, x - z_x) + M(s_y / s, y - z_y), each rounded |
        kernels that bring both operands to the grid of the sum first
    half_away | as exact, but ties go away from 0 | kernels in C that call round
product_rescaling: how is a product of codes brought to its grid?
    exact | z + round(s_x s_y / s (x - z_x) (y - z_y)), one exact rounding | refqnn
    onnxruntime | round(r (x - z_x) (y - z_y) + z), r = s_x s_y / s |
        onnxruntime QLinearMul
    tflite | z + M(r, (x - z_x) (y - z_y)), two roundings |
        TensorFlow Lite MUL, reference kernels; CMSIS-NN
    tflite_float64 | the same, r in float64 | TensorFlow Lite Micro MUL
    float32 | z + rint(r (x - z_x) (y - z_y)) in float32 | XNNPACK qs8-vmul
    reciprocal | the same, r = s_x s_y (1 / s) | PyTorch quantized.mul
    half_away | z + round(r (x - z_x) (y - z_y)) in float32, ties away from 0 |
        kernels in C that call roundf
    dequantized | z + rint(s_x (x - z_x) s_y (y - z_y) / s) in float32 |
        DequantizeLinear, Mul, QuantizeLinear left as they are
""")
ACTIVATION = read_table("""
activation: how is a function of a code computed?
    rounded | f(s_x (x - z_x)) in float64, rounded to float32 | refqnn; XNNPACK
    float32 | 1 / (1 + exp(-v)), 1 - 2 / (1 + exp(2 v)), v clip(v + 3, 0, 6) / 6,
        operation by operation | kernels in C; LiteRT LOGISTIC
    rational | 1/2 + v p(v^2) / q(v^2), fused, |v| at most 18 |
        onnxruntime QLinearSigmoid on x86 with FMA
    fixed_point | v clip(v + 3, 0, 6) / 6 in products of 16 bits |
        TensorFlow Lite HARD_SWISH
    multipliers | z + M(s_x / s, x - z_x), M(alpha s_x / s, .) below 0, two roundings |
        TensorFlow Lite LEAKY_RELU
    multipliers_float64 | the same, ratios in float64 |
        TensorFlow Lite Micro LEAKY_RELU
    multipliers_8_bits | z + floor((m (x - z_x) + 128) / 256), m = round(256 s_x / s) |
        XNNPACK qs8-vlrelu
""")
LOOKUP = read_table("""
table_index: which entry of a table of 256 is that of an 8-bit code?
    from_lowest | table[x - min of its type] | refqnn
    by_byte | table[x modulo 2^8]: signed codes below 0 in the upper half |
        tables indexed by uint8_t: onnxruntime and TensorFlow Lite inside
table_between: what lies between two entries for the 7 low bits j of a 16-bit code?
    rounded | t_i + ((t_(i+1) - t_i) j + 64) >> 7 | TensorFlow Lite lut_lookup
    floor | t_i + ((t_(i+1) - t_i) j) >> 7 | a rounding that was left out
    trunc | t_i + (t_(i+1) - t_i) j / 2^7 towards 0 | a division in C
    nearest | t_i below j = 64, else t_(i+1) | tables without interpolation
""")
SOFTMAX = read_table("""
softmax: how do codes become exp(s_x x_i) / sum exp(s_x x_j), as codes?
    exact | z + round(p_i / s), p_i in float64 | refqnn
    onnxruntime | z + rint(floor(1 / s) t_i / sum t), t and sum in float32 |
        onnxruntime QLinearSoftmax
    tflite | exp and reciprocal in fixed point, s = 1 / 256, q_min for 0 |
        TensorFlow Lite SOFTMAX, reference kernels; CMSIS-NN
    table | z + round(t_i (1 / (s sum t))), t = exp(s_x (x - max x)), ties away from 0 |
        TensorFlow Lite SOFTMAX, optimized kernels
    dequantized | z + rint(e_i / sum e / s), all in float32 |
        DequantizeLinear, Softmax, QuantizeLinear left as they are
softmax_axis: over what do the codes of a softmax sum to 1?
    last | the last axis | ONNX from opset 13, TFLite, PyTorch with dim = -1
    flattened | all axes but the first | ONNX before opset 13, axis = 1
""")
CONCAT = read_table("""
concat_rescaling: how is an input of a concatenation brought to the common grid?
    exact | z + round(s_i / s (x - z_i)), a rational number | refqnn
    onnxruntime | z + rint(s_i (x - z_i) / s) in float32 |
        onnxruntime QLinearConcat; DequantizeLinear, QuantizeLinear left as they are
    tflite | z + round(x r - z_i r), r = s_i (1 / s), in float32, ties away from 0 |
        TensorFlow Lite CONCATENATION of uint8
    multiplier | z + M(s_i / s, x - z_i), two roundings |
        kernels that requantize each input first
    reciprocal | z + rint(s_i (x - z_i) (1 / s)) in float32 |
        kernels with 1 / s ready
    torch | rint(fma(s_i (x - z_i), 1 / s, z)) in float32 |
        PyTorch quantized.cat on x86 with FMA
""")
PRODUCT = read_table("""
padding_value: which code surrounds the plane?
    zero_point | x_zero_point, real 0 | ONNX, TFLite, PyTorch
    raw_zero | the code 0 | im2col with memset; NVIDIA/cutlass#817
padding_side: on which side is uneven padding?
    as_given | (top, bottom), (left, right) | explicit padding
    swapped | (bottom, top), (right, left) | SAME_LOWER taken for SAME_UPPER
kernel: which way does the kernel lie?
    correlation | w[i, j] meets x[p + i, q + j] | deep learning
    convolution | w[Kh - 1 - i, Kw - 1 - j] meets x[p + i, q + j] |
        signal processing, scipy.signal.convolve2d
    transposed | w[j, i] meets x[p + i, q + j], for square kernels | column-major memory
weight_layout: in which order are the weights read from memory?
    OIHW | w as given | PyTorch, ONNX
    OHWI | w read as (O, Kh, Kw, C // G) | TFLite, CMSIS-NN
    HWIO | w read as (Kh, Kw, C // G, O) | TensorFlow, Keras
transposed_layout: in which order are the weights of a transposed convolution read?
    IOHW | w as given, (C, O // G, Kh, Kw) | PyTorch, ONNX
    OIHW | w read as (O // G, C, Kh, Kw) | weights of a convolution taken over
    OHWI | w read as (O // G, Kh, Kw, C) | TFLite TRANSPOSE_CONV
    HWOI | w read as (Kh, Kw, O // G, C) | TensorFlow, Keras
gap_value: which code stands between and around those that a stride spreads?
    zero_point | none, or real 0 | everyone, by specification
    raw_zero | the code 0 | gaps filled by memset, then a plain convolution
weight_order: in which order is the matrix read from memory?
    OI | w as given | PyTorch, ONNX Gemm with transB = 1, TFLite
    IO | w read as (I, O) | Keras, ONNX MatMul, Fortran order
y_order: in which order is the second matrix of a product read from memory?
    as_given | y[k, j] | ONNX MatMul, NumPy
    transposed | y read as (J, K) | kernels for transposed matrices; BATCH_MATMUL, adj_y
group_assignment: which channels form a group?
    contiguous | channel c in group c // (C / G) | PyTorch, ONNX
    interleaved | channel c in group c % G | channel-last kernels
accumulator: in what are products summed?
    int32 | every partial sum exact | everyone, by specification
    int16_saturating_pairs | sat16(x[2k] w[2k] + x[2k+1] w[2k+1]), then int32, x uint8 |
        AVX2 vpmaddubsw; microsoft/onnxruntime#6004
    int16_wrap | the sum modulo 2^16 | accumulators that are too narrow
    int16_saturate | the sum clipped to 16 bits | SIMD additions that saturate (vqadd)
    int24_wrap | the sum modulo 2^24 | FPGA and DSP accumulators
    int24_saturate | the sum clipped to 24 bits | DSP accumulators that saturate
    int32_wrap | the sum modulo 2^32 |
        16-bit activations in a 32-bit register; tensorflow/tflite-micro#3598
w_zero_point_use: is the zero-point of w subtracted?
    subtracted | (w - w_zero_point) x | everyone, by specification
    ignored | w x | kernels for symmetric weights; iree-org/iree#24583
    added | (w + w_zero_point) x | offsets negated once; ARM ComputeLibrary#1033
x_zero_point_use: is the zero-point of x subtracted?
    subtracted | (x - x_zero_point) w | everyone, by specification
    ignored | x w | kernels for symmetric quantization
    added | (x + x_zero_point) w |
        CMSIS-NN's input_offset = -zero_point, passed with the wrong sign
bias: is the bias added?
    added | b + sum | everyone, by specification
    ignored | sum | a bias that was never loaded
""")
POOL = {
    "pool_rounding": Axis(
        "how is the mean of a window rounded?", default_first(POOLED, "half_away")
    ),
} | read_table("""
pool_count: by what is the sum of a window divided?
    include_pad | Kh Kw | PyTorch by default
    exclude_pad | positions inside the plane | ONNX, TFLite, Keras
pool_centre: is the real mean rounded, or the mean of codes?
    real | z + round(sum (x - z) / n) | refqnn, QDQ models
    codes | round(sum x / n) | TFLite, CMSIS-NN
pool_division: is the sum divided, or multiplied by a reciprocal?
    exact | sum / n | integer kernels
    float32_reciprocal | float32(sum) * float32(1 / n) | float kernels with 1 / n ready
max_pool_padding: may padding win a maximum?
    never | max over the plane | PyTorch, ONNX
    raw_zero | max(0, plane) at the border | planes padded by memset
mean_rescaling: how is the mean of a window brought to a grid of its own?
    exact | z + round(s_x / (s n) S), a rational number | refqnn
    onnxruntime | rint((v_1 + v_2 + ...) / n / s + z), v = s_x (x - z_x), in float32 |
        onnxruntime QLinearAveragePool
    dequantized | z + rint((v_1 + v_2 + ...) / n / s) in float32 |
        DequantizeLinear, AveragePool, QuantizeLinear left as they are
    float32 | z + rint(S (s_x / (s n))) in float32 |
        onnxruntime QLinearGlobalAveragePool on x86
    folded | z + M(s_x / s, S), two roundings, the multiplier of M divided by n |
        TensorFlow Lite MEAN, reference kernels
    offset | z - round(z_x s_x / s) + M(s_x / (n s), sum x), ties of M away from 0 |
        TensorFlow Lite MEAN, optimized kernels
    offset_half_up | the same, ties of M up |
        TensorFlow Lite MEAN, optimized kernels on x86, vectors of 16 channels
    xnnpack | rint(r sum x + (z - n r z_x)), r = 1 / n (s_x / s), in float32 |
        XNNPACK means of qs8
""")
RESIZE = read_table("""
resize_place: where among n codes does code i of m lie?
    half_pixel | (i + 1/2) n / m - 1/2 | ONNX Resize, TFLite with half_pixel_centers
    asymmetric | i n / m | TFLite with neither option; ONNX asymmetric; torch nearest
    align_corners | i (n - 1) / (m - 1) | TFLite and ONNX align_corners
resize_ratio: in which arithmetic is a place computed?
    exact | a quotient of integers | refqnn
    multiplied | i times n / m in float32 | TFLite, XNNPACK, PyTorch
    divided | i divided by m / n in float32 | onnxruntime Resize
nearest_rounding: which of two codes is the nearest?
    half_down | the nearest, the lower of two | ONNX round_prefer_floor
    half_up | the nearest, the upper of two | ONNX round_prefer_ceil; TFLite
    floor | the lower | ONNX floor; TFLite; torch nearest
    ceil | the upper | ONNX ceil
resize_blend: how is a blend of four codes rounded?
    half_even | the exact blend, ties to even | refqnn
    half_away | the exact blend, ties away from 0 | models in C that call round
    half_up | the exact blend, ties up | shifts with a half added
    trunc | the exact blend, towards 0 | a division in C
    tflite | shares of 10 bits, ties away from 0 | TFLite RESIZE_BILINEAR
    xnnpack | shares of 11 bits, ties up | XNNPACK s8-ibilinear
    float32_trunc | four products in float32, towards 0 | onnxruntime Resize of codes
    float32_half_even | four products in float32, ties to even | floats, quantized again
""")
