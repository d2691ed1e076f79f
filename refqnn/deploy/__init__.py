"""From a trained network to integers: deploy, calibrate, and check that they agree.

deploy              trained, quantized network -> IntegerNetwork
calibrate           trained float network -> quantized network, without training
compare_layers      integer against fake-quantized codes, layer by layer
compare_float64     integer against the same multipliers and biases in float64
compare_backends    definition against Numba twins
compare_decisions   what float and integer network decide
"""

from refqnn.deploy.agreement import LayerAgreement as LayerAgreement
from refqnn.deploy.agreement import compare_layers as compare_layers
from refqnn.deploy.calibration import calibrate as calibrate
from refqnn.deploy.comparison import Comparison as Comparison
from refqnn.deploy.comparison import Decisions as Decisions
from refqnn.deploy.comparison import compare_backends as compare_backends
from refqnn.deploy.comparison import compare_decisions as compare_decisions
from refqnn.deploy.comparison import compare_float64 as compare_float64
from refqnn.deploy.comparison import fake_quantized as fake_quantized
from refqnn.deploy.convert import deploy as deploy
from refqnn.deploy.network import IntegerNetwork as IntegerNetwork
