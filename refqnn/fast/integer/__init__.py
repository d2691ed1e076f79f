"""Numba twins of ``refqnn.integer``, equal bit for bit; the rest is the definition."""

from refqnn.integer import *  # noqa: F403, I001 - every name, before the twins
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
