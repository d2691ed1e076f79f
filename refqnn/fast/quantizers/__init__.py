"""Numba twins of ``refqnn.quantizers``; a name without a twin is the definition."""

from refqnn.fast.quantizers.affine import affine as affine
from refqnn.fast.quantizers.affine import affine_backward as affine_backward
from refqnn.fast.quantizers.affine import batch_range as batch_range
from refqnn.fast.quantizers.binary import binary as binary
from refqnn.fast.quantizers.fixed_point import fixed_point as fixed_point
from refqnn.fast.quantizers.fixed_point import (
    fixed_point_backward as fixed_point_backward,
)
from refqnn.fast.quantizers.lsq import lsq as lsq
from refqnn.fast.quantizers.lsq import lsq_backward as lsq_backward
from refqnn.fast.quantizers.ternary import ternary as ternary
from refqnn.quantizers import LSQ as LSQ
from refqnn.quantizers import PACT as PACT
from refqnn.quantizers import SAWB as SAWB
from refqnn.quantizers import SAWB_COEFFICIENTS as SAWB_COEFFICIENTS
from refqnn.quantizers import Affine as Affine
from refqnn.quantizers import Binary as Binary
from refqnn.quantizers import DoReFaActivation as DoReFaActivation
from refqnn.quantizers import DoReFaGradient as DoReFaGradient
from refqnn.quantizers import DoReFaWeight as DoReFaWeight
from refqnn.quantizers import FixedPoint as FixedPoint
from refqnn.quantizers import HAQLinear as HAQLinear
from refqnn.quantizers import KMeansWeight as KMeansWeight
from refqnn.quantizers import QILActivation as QILActivation
from refqnn.quantizers import QILWeight as QILWeight
from refqnn.quantizers import Ternary as Ternary
from refqnn.quantizers import binary_backward as binary_backward
from refqnn.quantizers import clipping_ratio as clipping_ratio
from refqnn.quantizers import cluster_means as cluster_means
from refqnn.quantizers import dorefa_activation as dorefa_activation
from refqnn.quantizers import dorefa_activation_backward as dorefa_activation_backward
from refqnn.quantizers import dorefa_gradient as dorefa_gradient
from refqnn.quantizers import dorefa_weight as dorefa_weight
from refqnn.quantizers import dorefa_weight_backward as dorefa_weight_backward
from refqnn.quantizers import gaussian_clip as gaussian_clip
from refqnn.quantizers import gaussian_mse as gaussian_mse
from refqnn.quantizers import haq_linear as haq_linear
from refqnn.quantizers import haq_linear_backward as haq_linear_backward
from refqnn.quantizers import haq_threshold as haq_threshold
from refqnn.quantizers import kmeans as kmeans
from refqnn.quantizers import kmeans_weight as kmeans_weight
from refqnn.quantizers import kmeans_weight_backward as kmeans_weight_backward
from refqnn.quantizers import pact as pact
from refqnn.quantizers import pact_backward as pact_backward
from refqnn.quantizers import pruning_ratio as pruning_ratio
from refqnn.quantizers import qil_activation as qil_activation
from refqnn.quantizers import qil_activation_backward as qil_activation_backward
from refqnn.quantizers import qil_thresholds as qil_thresholds
from refqnn.quantizers import qil_weight as qil_weight
from refqnn.quantizers import qil_weight_backward as qil_weight_backward
from refqnn.quantizers import sawb as sawb
from refqnn.quantizers import sawb_backward as sawb_backward
from refqnn.quantizers import sawb_clip as sawb_clip
from refqnn.quantizers import ternary_backward as ternary_backward
