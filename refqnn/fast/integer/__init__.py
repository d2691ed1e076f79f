"""Numba twins of ``refqnn.integer``, equal bit for bit; the rest is the definition."""

from refqnn.fast.integer.affine import dequantize as dequantize
from refqnn.fast.integer.affine import quantize as quantize
from refqnn.fast.integer.bits import pack_bits as pack_bits
from refqnn.fast.integer.bits import xnor_conv2d as xnor_conv2d
from refqnn.fast.integer.conv import conv2d as conv2d
from refqnn.fast.integer.fully_connected import linear as linear
from refqnn.fast.integer.pool import avg_pool2d as avg_pool2d
from refqnn.fast.integer.pool import max_pool2d as max_pool2d
from refqnn.fast.integer.pool import sum_pool2d as sum_pool2d
from refqnn.fast.integer.rescale import requantize as requantize
from refqnn.fast.integer.rescale import requantize_add as requantize_add
from refqnn.integer.bits import unpack_bits as unpack_bits
from refqnn.integer.checks import code_dtype as code_dtype
from refqnn.integer.conv import accumulator_bound as accumulator_bound
from refqnn.integer.rescale import quantize_multiplier as quantize_multiplier
from refqnn.integer.rescale import quantize_multipliers as quantize_multipliers
