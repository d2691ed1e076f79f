"""Numba twins of ``refqnn.ops``; a name without a twin is the definition."""

from refqnn.ops import *  # noqa: F403, I001 - every name, before the twins
from refqnn.fast.ops.activation import relu as relu
from refqnn.fast.ops.activation import relu6 as relu6
from refqnn.fast.ops.activation import relu6_backward as relu6_backward
from refqnn.fast.ops.activation import relu_backward as relu_backward
from refqnn.fast.ops.conv import conv2d as conv2d
from refqnn.fast.ops.conv import conv2d_backward as conv2d_backward
from refqnn.fast.ops.conv import conv2d_input_grad as conv2d_input_grad
from refqnn.fast.ops.conv import conv2d_weight_grad as conv2d_weight_grad
from refqnn.fast.ops.norm import batch_norm as batch_norm
from refqnn.fast.ops.norm import batch_norm_backward as batch_norm_backward
from refqnn.fast.ops.norm import batch_norm_inference as batch_norm_inference
from refqnn.fast.ops.norm import (
    batch_norm_inference_backward as batch_norm_inference_backward,
)
from refqnn.fast.ops.pool import avg_pool2d as avg_pool2d
from refqnn.fast.ops.pool import avg_pool2d_backward as avg_pool2d_backward
from refqnn.fast.ops.pool import global_avg_pool2d as global_avg_pool2d
from refqnn.fast.ops.pool import (
    global_avg_pool2d_backward as global_avg_pool2d_backward,
)
from refqnn.fast.ops.pool import max_pool2d as max_pool2d
from refqnn.fast.ops.pool import max_pool2d_backward as max_pool2d_backward
