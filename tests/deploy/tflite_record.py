"""Record what LiteRT and TensorFlow Lite Micro compute: digests of their codes.

    python -m deploy.tflite_record    (from tests/, with ai-edge-litert, tflite-micro)

Every digest is one of the runtime's own answers, never of refqnn's.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
from deploy.tflite_cases import CASES, FACTORS, case
from deploy.tflite_models import MODELS

from refqnn.deploy.formats.tflite_import import KERNELS
from refqnn.deploy.formats.tflite_read import parse_model
from refqnn.deploy.formats.tflite_run import tflite_trace

GOLDENS = Path(__file__).with_name("tflite_goldens.json")
#: images of a case that a digest covers, and of a whole model
FEW, SEVERAL = 2_000, 4


def few(images):
    """Keep the first images of a case, about ``FEW`` codes of them."""
    return images[: max(1, len(images) * FEW // 20_000)]


def model_images(model):
    """Draw the inputs of a whole model."""
    graph = parse_model(model)
    t = graph.tensors[graph.inputs[0]]
    _, *shape = t.shape
    shape = (shape[2], *shape[:2]) if len(shape) == 3 else tuple(shape)
    rng = np.random.default_rng(9)
    ends, size = FACTORS[t.dtype], (SEVERAL, *shape)
    return rng.integers(*ends, size, dtype=t.dtype, endpoint=True)


def digest(tensors):
    """Return 12 hexadecimal digits of codes, whatever their dtype."""
    content = b"".join(np.ascontiguousarray(v, "<i4").tobytes() for v in tensors)
    return hashlib.sha256(content).hexdigest()[:12]


def answer(model, x, kernels):
    """Return the digest of every tensor."""
    try:
        _, *tensors = tflite_trace(model, x, kernels).values()
    except RuntimeError:
        return ""  # the runtime has no kernel for it
    return digest(tensors)


def main():
    goldens = {}
    for name in CASES:
        pairs = [case(name, ties=ties) for ties in (False, True)]
        goldens[name] = {
            kernels: [answer(model, few(x), kernels) for model, x in pairs]
            for kernels in KERNELS
        }
    for name, build in MODELS.items():
        model = build()
        x = model_images(model)
        goldens[name] = {kernels: [answer(model, x, kernels)] for kernels in KERNELS}
    rows = [f"{json.dumps(name)}: {json.dumps(row)}" for name, row in goldens.items()]
    GOLDENS.write_text("{\n" + ",\n".join(rows) + "\n}\n", "utf-8")


if __name__ == "__main__":
    main()
