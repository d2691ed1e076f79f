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
from refqnn.quantizers.affine_grid import Affine as Affine
from refqnn.quantizers.affine_grid import affine as affine
from refqnn.quantizers.affine_grid import affine_backward as affine_backward
from refqnn.quantizers.affine_grid import batch_range as batch_range
from refqnn.quantizers.balanced_quantization import Balanced as Balanced
from refqnn.quantizers.balanced_quantization import balanced as balanced
from refqnn.quantizers.balanced_quantization import (
    balanced_backward as balanced_backward,
)
from refqnn.quantizers.binary_weights import Binary as Binary
from refqnn.quantizers.binary_weights import binary as binary
from refqnn.quantizers.binary_weights import binary_backward as binary_backward
from refqnn.quantizers.checks import propagating as propagating
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
from refqnn.quantizers.fixed_point_weights import FixedPoint as FixedPoint
from refqnn.quantizers.fixed_point_weights import fixed_point as fixed_point
from refqnn.quantizers.fixed_point_weights import (
    fixed_point_backward as fixed_point_backward,
)
from refqnn.quantizers.fixed_point_weights import gaussian_clip as gaussian_clip
from refqnn.quantizers.fixed_point_weights import gaussian_mse as gaussian_mse
from refqnn.quantizers.haq import HAQLinear as HAQLinear
from refqnn.quantizers.haq import haq_linear as haq_linear
from refqnn.quantizers.haq import haq_linear_backward as haq_linear_backward
from refqnn.quantizers.haq import haq_threshold as haq_threshold
from refqnn.quantizers.haq_kmeans import KMeansWeight as KMeansWeight
from refqnn.quantizers.haq_kmeans import cluster_means as cluster_means
from refqnn.quantizers.haq_kmeans import kmeans as kmeans
from refqnn.quantizers.haq_kmeans import kmeans_weight as kmeans_weight
from refqnn.quantizers.haq_kmeans import (
    kmeans_weight_backward as kmeans_weight_backward,
)
from refqnn.quantizers.learned_offset import LSQPlus as LSQPlus
from refqnn.quantizers.learned_offset import lsq_plus as lsq_plus
from refqnn.quantizers.learned_offset import lsq_plus_backward as lsq_plus_backward
from refqnn.quantizers.learned_range import LearnedMinMax as LearnedMinMax
from refqnn.quantizers.learned_range import learned_min_max as learned_min_max
from refqnn.quantizers.learned_range import (
    learned_min_max_backward as learned_min_max_backward,
)
from refqnn.quantizers.learned_step_size import LSQ as LSQ
from refqnn.quantizers.learned_step_size import lsq as lsq
from refqnn.quantizers.learned_step_size import lsq_backward as lsq_backward
from refqnn.quantizers.lq_nets import LQActivation as LQActivation
from refqnn.quantizers.lq_nets import LQWeight as LQWeight
from refqnn.quantizers.lq_nets import lq as lq
from refqnn.quantizers.lq_nets import lq_backward as lq_backward
from refqnn.quantizers.lq_nets import qem as qem
from refqnn.quantizers.lq_nets import qem_step as qem_step
from refqnn.quantizers.min_max_grid import MinMax as MinMax
from refqnn.quantizers.min_max_grid import MinMaxGradient as MinMaxGradient
from refqnn.quantizers.min_max_grid import min_max as min_max
from refqnn.quantizers.min_max_grid import min_max_backward as min_max_backward
from refqnn.quantizers.min_max_grid import min_max_gradient as min_max_gradient
from refqnn.quantizers.min_max_grid import sample_range as sample_range
from refqnn.quantizers.min_max_grid import whole_range as whole_range
from refqnn.quantizers.parameterized_clipping import PACT as PACT
from refqnn.quantizers.parameterized_clipping import pact as pact
from refqnn.quantizers.parameterized_clipping import pact_backward as pact_backward
from refqnn.quantizers.qil import QILWeight as QILWeight
from refqnn.quantizers.qil import clipping_ratio as clipping_ratio
from refqnn.quantizers.qil import pruning_ratio as pruning_ratio
from refqnn.quantizers.qil import qil_thresholds as qil_thresholds
from refqnn.quantizers.qil import qil_weight as qil_weight
from refqnn.quantizers.qil import qil_weight_backward as qil_weight_backward
from refqnn.quantizers.qil_activations import QILActivation as QILActivation
from refqnn.quantizers.qil_activations import qil_activation as qil_activation
from refqnn.quantizers.qil_activations import (
    qil_activation_backward as qil_activation_backward,
)
from refqnn.quantizers.statistics_aware import SAWB as SAWB
from refqnn.quantizers.statistics_aware import SAWB_COEFFICIENTS as SAWB_COEFFICIENTS
from refqnn.quantizers.statistics_aware import sawb as sawb
from refqnn.quantizers.statistics_aware import sawb_backward as sawb_backward
from refqnn.quantizers.statistics_aware import sawb_clip as sawb_clip
from refqnn.quantizers.symmetric_quantization import SYQ as SYQ
from refqnn.quantizers.symmetric_quantization import syq as syq
from refqnn.quantizers.symmetric_quantization import syq_backward as syq_backward
from refqnn.quantizers.symmetric_quantization import syq_scale as syq_scale
from refqnn.quantizers.ternary_weight_networks import TWN as TWN
from refqnn.quantizers.ternary_weight_networks import twn as twn
from refqnn.quantizers.ternary_weight_networks import twn_backward as twn_backward
from refqnn.quantizers.ternary_weights import Ternary as Ternary
from refqnn.quantizers.ternary_weights import ternary as ternary
from refqnn.quantizers.ternary_weights import ternary_backward as ternary_backward
from refqnn.quantizers.trained_ternary import TTQ as TTQ
from refqnn.quantizers.trained_ternary import ttq as ttq
from refqnn.quantizers.trained_ternary import ttq_backward as ttq_backward
from refqnn.quantizers.tsq import TSQActivation as TSQActivation
from refqnn.quantizers.tsq import gaussian_delta as gaussian_delta
from refqnn.quantizers.tsq import tsq_activation as tsq_activation
from refqnn.quantizers.tsq import tsq_activation_backward as tsq_activation_backward
from refqnn.quantizers.tsq_weights import Transformation as Transformation
from refqnn.quantizers.tsq_weights import TSQWeight as TSQWeight
from refqnn.quantizers.tsq_weights import learn_transformation as learn_transformation
from refqnn.quantizers.tsq_weights import optimal_ternary as optimal_ternary
from refqnn.quantizers.tsq_weights import (
    optimal_ternary_backward as optimal_ternary_backward,
)
from refqnn.quantizers.tsq_weights import (
    transformation_objective as transformation_objective,
)
from refqnn.quantizers.tsq_weights import transformation_step as transformation_step
from refqnn.quantizers.weq import WEQWeight as WEQWeight
from refqnn.quantizers.weq import weq_boundaries as weq_boundaries
from refqnn.quantizers.weq import weq_entropy as weq_entropy
from refqnn.quantizers.weq import weq_weight as weq_weight
from refqnn.quantizers.weq import weq_weight_backward as weq_weight_backward
from refqnn.quantizers.weq_logarithm import WEQActivation as WEQActivation
from refqnn.quantizers.weq_logarithm import weq_activation as weq_activation
from refqnn.quantizers.weq_logarithm import (
    weq_activation_backward as weq_activation_backward,
)
from refqnn.quantizers.weq_logarithm import weq_log_search as weq_log_search
from refqnn.quantizers.xnor import XnorActivation as XnorActivation
from refqnn.quantizers.xnor import XnorWeight as XnorWeight
from refqnn.quantizers.xnor import scale_map as scale_map
from refqnn.quantizers.xnor import xnor_activation as xnor_activation
from refqnn.quantizers.xnor import xnor_activation_backward as xnor_activation_backward
from refqnn.quantizers.xnor import xnor_weight as xnor_weight
from refqnn.quantizers.xnor import xnor_weight_backward as xnor_weight_backward
