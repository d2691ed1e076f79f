"""Fixed-point arithmetic in NumPy: the specification others are judged by.

Everything is exact. Whatever could overflow, saturate unseen or lose a bit raises a
ValueError that names the bound; README.md lists every rounding and requantization, who
uses it and the smallest input that gives it away. In the order of an inference:

    affine.py      q = clip(round(x / scale) + zero_point, q_min, q_max), and back
    conv.py        acc = b + sum (w - w_zero_point) (x - x_zero_point), bound and all
    linear.py      the same for matrices
    pool.py        mean, maximum and sum of codes
    requantize.py  q = clip(zero_point + round(acc * multiplier 2^(shift - 31)), ...),
                   and the residual addition with one rounding
    bits.py        sum x w = channels - 2 popcount(x xor w), 64 signs in a word
    rounding.py    the seven roundings, of floats and of exact quotients
    checks.py      dtypes, ranges, zero-points and scales that raise

``refqnn.fast.integer`` holds the compiled twins: equal bit for bit.
"""

from refqnn.integer.affine import dequantize as dequantize
from refqnn.integer.affine import quantize as quantize
from refqnn.integer.bits import pack_bits as pack_bits
from refqnn.integer.bits import unpack_bits as unpack_bits
from refqnn.integer.bits import xnor_conv2d as xnor_conv2d
from refqnn.integer.checks import code_dtype as code_dtype
from refqnn.integer.conv import accumulator_bound as accumulator_bound
from refqnn.integer.conv import conv2d as conv2d
from refqnn.integer.fully_connected import linear as linear
from refqnn.integer.pool import avg_pool2d as avg_pool2d
from refqnn.integer.pool import max_pool2d as max_pool2d
from refqnn.integer.pool import sum_pool2d as sum_pool2d
from refqnn.integer.rescale import quantize_multiplier as quantize_multiplier
from refqnn.integer.rescale import quantize_multipliers as quantize_multipliers
from refqnn.integer.rescale import requantize as requantize
from refqnn.integer.rescale import requantize_add as requantize_add
