"""Fixed-point arithmetic in NumPy: the specification others are judged by.

Everything is exact. Whatever could overflow, saturate unseen or lose a bit raises a
ValueError that names the bound; README.md lists every rounding and requantization, who
uses it and the smallest input that gives it away. In the order of an inference:

    affine.py      q = clip(round(x / scale) + zero_point, q_min, q_max), and back
    conv.py        acc = b + sum (w - w_zero_point) (x - x_zero_point), bound and all
    fully_connected.py  the same for matrices
    pool.py        mean, maximum and sum of codes
    rescale.py     q = clip(zero_point + round(acc * multiplier 2^(shift - 31)), ...),
                   and the residual addition with one rounding
    arithmetic.py  sums, differences and products of codes on different grids
    tables.py      functions of one code as tables; codes side by side
    mean_pool.py   the mean of a window on a grid of its own
    exponential.py softmax of codes
    arrange.py     codes moved, padded, and blended to another size
    transposed.py  transposed convolution; products.py: two arrays of codes
    bits.py        sum x w = channels - 2 popcount(x xor w), 64 signs in a word
    rounding.py    the seven roundings, of floats and of exact quotients
    checks.py      dtypes, ranges, zero-points and scales that raise

``refqnn.fast.integer`` holds the compiled twins: equal bit for bit.
"""

from refqnn.integer.affine import dequantize as dequantize
from refqnn.integer.affine import quantize as quantize
from refqnn.integer.arithmetic import add as add
from refqnn.integer.arithmetic import mul as mul
from refqnn.integer.arithmetic import sub as sub
from refqnn.integer.arrange import clip as clip
from refqnn.integer.arrange import flatten as flatten
from refqnn.integer.arrange import pad as pad
from refqnn.integer.arrange import reshape as reshape
from refqnn.integer.arrange import resize as resize
from refqnn.integer.arrange import resize_bilinear as resize_bilinear
from refqnn.integer.arrange import take as take
from refqnn.integer.arrange import transpose as transpose
from refqnn.integer.bits import pack_bits as pack_bits
from refqnn.integer.bits import pack_nibbles as pack_nibbles
from refqnn.integer.bits import unpack_bits as unpack_bits
from refqnn.integer.bits import unpack_nibbles as unpack_nibbles
from refqnn.integer.bits import xnor_conv2d as xnor_conv2d
from refqnn.integer.checks import code_dtype as code_dtype
from refqnn.integer.conv import accumulator_bound as accumulator_bound
from refqnn.integer.conv import conv2d as conv2d
from refqnn.integer.exponential import softmax as softmax
from refqnn.integer.fully_connected import linear as linear
from refqnn.integer.mean_pool import mean_pool2d as mean_pool2d
from refqnn.integer.pool import avg_pool2d as avg_pool2d
from refqnn.integer.pool import max_pool2d as max_pool2d
from refqnn.integer.pool import sum_pool2d as sum_pool2d
from refqnn.integer.products import matmul as matmul
from refqnn.integer.rescale import quantize_multiplier as quantize_multiplier
from refqnn.integer.rescale import quantize_multipliers as quantize_multipliers
from refqnn.integer.rescale import requantize as requantize
from refqnn.integer.rescale import requantize_add as requantize_add
from refqnn.integer.rescale import requantize_real as requantize_real
from refqnn.integer.tables import activation_table as activation_table
from refqnn.integer.tables import concat as concat
from refqnn.integer.tables import lookup as lookup
from refqnn.integer.transposed import conv_transpose2d as conv_transpose2d
