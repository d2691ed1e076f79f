"""Other people's test vectors: read, and scored by what they cannot see.

suite.py               what a suite is, and its score
onnx_directories.py    model.onnx beside test_data_set_*/input_*.pb, output_*.pb
tosa_descriptors.py    desc.json of RESCALE beside its .npy files
cmsis_layers.py        layers of CMSIS-NN: config_data.h beside arrays in C
c_source.py            arrays, constants and aliases of C headers
"""

from refqnn.conformance.reach.goldens.golden import Golden as Golden
from refqnn.conformance.reach.goldens.suite import Score as Score
from refqnn.conformance.reach.goldens.suite import Suite as Suite
from refqnn.conformance.reach.goldens.suite import as_packs as as_packs
from refqnn.conformance.reach.goldens.suite import read as read
from refqnn.conformance.reach.goldens.suite import score as score
