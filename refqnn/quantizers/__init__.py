"""One published quantizer a file; README.md tables them.

Functions ``name(v, ...) -> (y, cache)`` with ``name_backward(dy, cache)``, and one
module class a method.
"""

from refqnn.quantizers.abc_net import ABCActivation as ABCActivation
from refqnn.quantizers.abc_net import ABCWeight as ABCWeight
from refqnn.quantizers.abc_net import abc_activation as abc_activation
from refqnn.quantizers.abc_net import abc_activation_backward as abc_activation_backward
from refqnn.quantizers.abc_net import abc_alpha as abc_alpha
from refqnn.quantizers.abc_net import abc_weight as abc_weight
from refqnn.quantizers.abc_net import abc_weight_backward as abc_weight_backward
from refqnn.quantizers.affine import Affine as Affine
from refqnn.quantizers.affine import affine as affine
from refqnn.quantizers.affine import affine_backward as affine_backward
from refqnn.quantizers.affine import batch_range as batch_range
from refqnn.quantizers.balanced import Balanced as Balanced
from refqnn.quantizers.balanced import balanced as balanced
from refqnn.quantizers.balanced import balanced_backward as balanced_backward
from refqnn.quantizers.binary import Binary as Binary
from refqnn.quantizers.binary import binary as binary
from refqnn.quantizers.binary import binary_backward as binary_backward
from refqnn.quantizers.dorefa import DoReFaActivation as DoReFaActivation
from refqnn.quantizers.dorefa import DoReFaGradient as DoReFaGradient
from refqnn.quantizers.dorefa import DoReFaWeight as DoReFaWeight
from refqnn.quantizers.dorefa import dorefa_activation as dorefa_activation
from refqnn.quantizers.dorefa import (
    dorefa_activation_backward as dorefa_activation_backward,
)
from refqnn.quantizers.dorefa import dorefa_gradient as dorefa_gradient
from refqnn.quantizers.dorefa import dorefa_weight as dorefa_weight
from refqnn.quantizers.dorefa import dorefa_weight_backward as dorefa_weight_backward
from refqnn.quantizers.fixed_point import FixedPoint as FixedPoint
from refqnn.quantizers.fixed_point import fixed_point as fixed_point
from refqnn.quantizers.fixed_point import fixed_point_backward as fixed_point_backward
from refqnn.quantizers.fixed_point import gaussian_clip as gaussian_clip
from refqnn.quantizers.fixed_point import gaussian_mse as gaussian_mse
from refqnn.quantizers.haq import HAQLinear as HAQLinear
from refqnn.quantizers.haq import KMeansWeight as KMeansWeight
from refqnn.quantizers.haq import cluster_means as cluster_means
from refqnn.quantizers.haq import haq_linear as haq_linear
from refqnn.quantizers.haq import haq_linear_backward as haq_linear_backward
from refqnn.quantizers.haq import haq_threshold as haq_threshold
from refqnn.quantizers.haq import kmeans as kmeans
from refqnn.quantizers.haq import kmeans_weight as kmeans_weight
from refqnn.quantizers.haq import kmeans_weight_backward as kmeans_weight_backward
from refqnn.quantizers.lq import LQActivation as LQActivation
from refqnn.quantizers.lq import LQWeight as LQWeight
from refqnn.quantizers.lq import lq as lq
from refqnn.quantizers.lq import lq_backward as lq_backward
from refqnn.quantizers.lq import qem as qem
from refqnn.quantizers.lq import qem_step as qem_step
from refqnn.quantizers.lsq import LSQ as LSQ
from refqnn.quantizers.lsq import lsq as lsq
from refqnn.quantizers.lsq import lsq_backward as lsq_backward
from refqnn.quantizers.pact import PACT as PACT
from refqnn.quantizers.pact import pact as pact
from refqnn.quantizers.pact import pact_backward as pact_backward
from refqnn.quantizers.qil import QILActivation as QILActivation
from refqnn.quantizers.qil import QILWeight as QILWeight
from refqnn.quantizers.qil import clipping_ratio as clipping_ratio
from refqnn.quantizers.qil import pruning_ratio as pruning_ratio
from refqnn.quantizers.qil import qil_activation as qil_activation
from refqnn.quantizers.qil import qil_activation_backward as qil_activation_backward
from refqnn.quantizers.qil import qil_thresholds as qil_thresholds
from refqnn.quantizers.qil import qil_weight as qil_weight
from refqnn.quantizers.qil import qil_weight_backward as qil_weight_backward
from refqnn.quantizers.sawb import SAWB as SAWB
from refqnn.quantizers.sawb import SAWB_COEFFICIENTS as SAWB_COEFFICIENTS
from refqnn.quantizers.sawb import sawb as sawb
from refqnn.quantizers.sawb import sawb_backward as sawb_backward
from refqnn.quantizers.sawb import sawb_clip as sawb_clip
from refqnn.quantizers.min_max import MinMax as MinMax
from refqnn.quantizers.min_max import MinMaxGradient as MinMaxGradient
from refqnn.quantizers.min_max import min_max as min_max
from refqnn.quantizers.min_max import min_max_backward as min_max_backward
from refqnn.quantizers.min_max import min_max_gradient as min_max_gradient
from refqnn.quantizers.min_max import sample_range as sample_range
from refqnn.quantizers.min_max import whole_range as whole_range
from refqnn.quantizers.ternary import Ternary as Ternary
from refqnn.quantizers.ternary import ternary as ternary
from refqnn.quantizers.ternary import ternary_backward as ternary_backward
from refqnn.quantizers.ttq import TTQ as TTQ
from refqnn.quantizers.ttq import ttq as ttq
from refqnn.quantizers.ttq import ttq_backward as ttq_backward
from refqnn.quantizers.twn import TWN as TWN
from refqnn.quantizers.twn import twn as twn
from refqnn.quantizers.twn import twn_backward as twn_backward
from refqnn.quantizers.xnor import XnorActivation as XnorActivation
from refqnn.quantizers.xnor import XnorWeight as XnorWeight
from refqnn.quantizers.xnor import scale_map as scale_map
from refqnn.quantizers.xnor import xnor_activation as xnor_activation
from refqnn.quantizers.xnor import xnor_activation_backward as xnor_activation_backward
from refqnn.quantizers.xnor import xnor_weight as xnor_weight
from refqnn.quantizers.xnor import xnor_weight_backward as xnor_weight_backward
