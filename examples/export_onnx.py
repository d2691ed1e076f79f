"""Export a quantized network to ONNX, run it in onnxruntime, and count what differs.

A network is deployed twice: as refqnn does by default, with ties up and biases of
fractional steps, and as onnxruntime's QLinearConv rounds, in float32 with whole biases.
Each is written in three forms. The exact form computes in any runtime what refqnn does;
of the others it is said beforehand which layers may differ, and counted here.
"""

import importlib.util
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from refqnn import data, fast
from refqnn.conformance import bisect, trace
from refqnn.deploy import deploy, inexact, onnx_trace, save_model, to_onnx
from refqnn.deploy.formats.onnx_export import FORMS
from refqnn.networks import resnet
from refqnn.nn import PARETO_CIFAR, fit

pictures = data.embedded().first(400, 50)
rng = np.random.default_rng(0)
network = resnet(8, width=0.25, weight_bits=4, activation_bits=4, shortcut="B", rng=rng)
preset = replace(PARETO_CIFAR, lr=0.1, warmup_epochs=0.5, epochs=2, batch=40)
training = preset.training(network, 400, rng=rng, backend=fast)
fit(training, pictures[:2], epochs=2)

PROFILES = {
    "refqnn": deploy(network),
    "onnxruntime": deploy(network, requantize="float32_half_even", finer_bias=False),
}
for profile, integers in PROFILES.items():
    print(f"\ndeployed for {profile}: codes that onnxruntime gives differently")
    reference = trace(integers, pictures.test_images, fast)
    for form in FORMS:
        model = to_onnx(integers, form=form)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{profile}.{form}.onnx"
            save_model(path, model)
            size = path.stat().st_size
        doubts = len(inexact(integers, form))
        line = f"{form:<12}{size:>8} bytes, {doubts:>2} layers may differ"
        if importlib.util.find_spec("onnxruntime") is None:
            print(f"{line}; onnxruntime is not installed: written, not run")
            continue
        names = [step.name for step in integers.steps]
        compared = bisect(
            reference, onnx_trace(model, pictures.test_images, names)
        ).compared
        different = sum(layer.different for layer in compared)
        elements = sum(layer.elements for layer in compared)
        print(f"{line}: {different} of {elements} codes do")
