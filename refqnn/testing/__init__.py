"""The laws of this package for quantizers, ops, twins and networks of one's own.

check_gradients         a backward against finite differences, and the mistake that fits
check_quantizer         which of the ten laws hold: a row of the property matrix
check_op                every law of a forward and its backward
check_twin              every law of a fast version beside its definition
check_network           record, replay, difference; company; save, load, resume
check_deployment        integer against fake-quantized codes, layer by layer
parametrize_with_laws   a pytest test a law
strategies              what Hypothesis draws: weights, ties, codebooks, networks

All raise AssertionError where a law is broken and ValueError for a wrong question.
"""

from refqnn.testing import strategies as strategies
from refqnn.testing.comparison import Comparison as Comparison
from refqnn.testing.gradients import check_gradients as check_gradients
from refqnn.testing.modules import compare_module as compare_module
from refqnn.testing.networks import check_deployment as check_deployment
from refqnn.testing.networks import check_network as check_network
from refqnn.testing.pairs import check_op as check_op
from refqnn.testing.parametrize import parametrize_with_laws as parametrize_with_laws
from refqnn.testing.quantizers import Report as Report
from refqnn.testing.quantizers import check_quantizer as check_quantizer
from refqnn.testing.twins import check_twin as check_twin
