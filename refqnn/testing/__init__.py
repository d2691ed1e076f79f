"""The laws of this package for quantizers, ops, twins and networks of one's own."""

from refqnn.testing.gradients import check_gradients as check_gradients
from refqnn.testing.modules import Comparison as Comparison
from refqnn.testing.modules import compare_module as compare_module
from refqnn.testing.networks import check_deployment as check_deployment
from refqnn.testing.networks import check_network as check_network
from refqnn.testing.quantizers import Report as Report
from refqnn.testing.quantizers import check_quantizer as check_quantizer
