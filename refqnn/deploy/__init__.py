"""From a trained network to integers: deploy, calibrate, and check that they agree.

deploy              trained, quantized network -> IntegerNetwork
calibrate           trained float network -> quantized network, without training
compare_layers      integer against fake-quantized codes, layer by layer
compare_float64     integer against the same multipliers and biases in float64
compare_backends    definition against Numba twins
to_onnx             integer network -> ONNX model: exact, QOperator or QDQ form
inexact             where a form of ONNX cannot state a network as it is
import_onnx         ONNX quantized model -> IntegerNetwork (from_onnx: its former name)
import_tflite       TFLite quantized model -> IntegerNetwork, by a runtime's kernels
onnx_trace          the tensors of an ONNX model, computed by onnxruntime
to_tflite           integer network -> TFLite model, nearly: inexact_in_tflite
to_qonnx            trained, quantized network -> QONNX model
"""

from refqnn.deploy.agreement import LayerAgreement as LayerAgreement
from refqnn.deploy.agreement import compare_layers as compare_layers
from refqnn.deploy.calibration import calibrate as calibrate
from refqnn.deploy.comparison import Comparison as Comparison
from refqnn.deploy.comparison import compare_backends as compare_backends
from refqnn.deploy.comparison import compare_float64 as compare_float64
from refqnn.deploy.comparison import fake_quantized as fake_quantized
from refqnn.deploy.convert import deploy as deploy
from refqnn.deploy.formats.onnx_export import inexact as inexact
from refqnn.deploy.formats.onnx_export import to_onnx as to_onnx
from refqnn.deploy.formats.onnx_graph import save_model as save_model
from refqnn.deploy.formats.onnx_import import from_onnx as from_onnx
from refqnn.deploy.formats.onnx_import import import_onnx as import_onnx
from refqnn.deploy.formats.onnx_run import onnx_trace as onnx_trace
from refqnn.deploy.formats.qonnx_export import to_qonnx as to_qonnx
from refqnn.deploy.formats.tflite_export import inexact_in_tflite as inexact_in_tflite
from refqnn.deploy.formats.tflite_export import to_tflite as to_tflite
from refqnn.deploy.formats.tflite_import import import_tflite as import_tflite
from refqnn.deploy.network import IntegerNetwork as IntegerNetwork
