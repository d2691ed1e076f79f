"""Forward and backward pairs in NumPy: the definition of each layer's mathematics.

``y, cache = op(arrays..., options)`` and ``grads = op_backward(dy, cache)``. Arrays
are float32 or float64; results have the dtype of x, gradients that of dy. Nothing is
mutated and no output shares memory with an argument. Every backward is derived in
DERIVATIONS.md.
"""

from refqnn.ops.activation import ReLUCache as ReLUCache
from refqnn.ops.activation import SigmoidCache as SigmoidCache
from refqnn.ops.activation import TanhCache as TanhCache
from refqnn.ops.activation import relu as relu
from refqnn.ops.activation import relu6 as relu6
from refqnn.ops.activation import relu6_backward as relu6_backward
from refqnn.ops.activation import relu_backward as relu_backward
from refqnn.ops.activation import sigmoid as sigmoid
from refqnn.ops.activation import sigmoid_backward as sigmoid_backward
from refqnn.ops.activation import tanh as tanh
from refqnn.ops.activation import tanh_backward as tanh_backward
from refqnn.ops.broadcast import add as add
from refqnn.ops.broadcast import add_backward as add_backward
from refqnn.ops.broadcast import sum_to as sum_to
from refqnn.ops.conv import Conv2dCache as Conv2dCache
from refqnn.ops.conv import Conv2dGrads as Conv2dGrads
from refqnn.ops.conv import conv2d as conv2d
from refqnn.ops.conv import conv2d_backward as conv2d_backward
from refqnn.ops.conv import conv2d_input_grad as conv2d_input_grad
from refqnn.ops.conv import conv2d_weight_grad as conv2d_weight_grad
from refqnn.ops.exponential import SoftmaxCache as SoftmaxCache
from refqnn.ops.exponential import log_softmax as log_softmax
from refqnn.ops.exponential import softmax as softmax
from refqnn.ops.exponential import softmax_backward as softmax_backward
from refqnn.ops.fully_connected import LinearCache as LinearCache
from refqnn.ops.fully_connected import LinearGrads as LinearGrads
from refqnn.ops.fully_connected import linear as linear
from refqnn.ops.fully_connected import linear_backward as linear_backward
from refqnn.ops.loss import SoftmaxCrossEntropyCache as SoftmaxCrossEntropyCache
from refqnn.ops.loss import softmax_cross_entropy as softmax_cross_entropy
from refqnn.ops.loss import (
    softmax_cross_entropy_backward as softmax_cross_entropy_backward,
)
from refqnn.ops.norm import BatchNormCache as BatchNormCache
from refqnn.ops.norm import BatchNormGrads as BatchNormGrads
from refqnn.ops.norm import BatchNormInferenceGrads as BatchNormInferenceGrads
from refqnn.ops.norm import RangeBatchNormCache as RangeBatchNormCache
from refqnn.ops.norm import batch_norm as batch_norm
from refqnn.ops.norm import batch_norm_backward as batch_norm_backward
from refqnn.ops.norm import batch_norm_inference as batch_norm_inference
from refqnn.ops.norm import (
    batch_norm_inference_backward as batch_norm_inference_backward,
)
from refqnn.ops.norm import range_batch_norm as range_batch_norm
from refqnn.ops.norm import range_batch_norm_backward as range_batch_norm_backward
from refqnn.ops.pool import AvgPoolCache as AvgPoolCache
from refqnn.ops.pool import GlobalAvgPoolCache as GlobalAvgPoolCache
from refqnn.ops.pool import MaxPoolCache as MaxPoolCache
from refqnn.ops.pool import avg_pool2d as avg_pool2d
from refqnn.ops.pool import avg_pool2d_backward as avg_pool2d_backward
from refqnn.ops.pool import global_avg_pool2d as global_avg_pool2d
from refqnn.ops.pool import global_avg_pool2d_backward as global_avg_pool2d_backward
from refqnn.ops.pool import max_pool2d as max_pool2d
from refqnn.ops.pool import max_pool2d_backward as max_pool2d_backward
from refqnn.ops.recurrent import LSTMCache as LSTMCache
from refqnn.ops.recurrent import LSTMGrads as LSTMGrads
from refqnn.ops.recurrent import lstm_cell as lstm_cell
from refqnn.ops.recurrent import lstm_cell_backward as lstm_cell_backward
from refqnn.ops.straight_through import StraightThroughCache as StraightThroughCache
from refqnn.ops.straight_through import residual as residual
from refqnn.ops.straight_through import straight_through_clip as straight_through_clip
from refqnn.ops.straight_through import (
    straight_through_clip_backward as straight_through_clip_backward,
)
from refqnn.ops.straight_through import straight_through_round as straight_through_round
from refqnn.ops.straight_through import (
    straight_through_round_backward as straight_through_round_backward,
)
from refqnn.ops.straight_through import straight_through_sign as straight_through_sign
from refqnn.ops.straight_through import (
    straight_through_sign_backward as straight_through_sign_backward,
)
