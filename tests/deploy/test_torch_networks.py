"""Networks that people bring: imported, equal in every step, and about as fast."""

import time

import numpy as np
import pytest
from deploy.matrix import KINDS, compare, input_codes
from numba import get_num_threads, set_num_threads

import refqnn.fast
from refqnn.deploy import import_onnx

pytest.importorskip("torch", reason="needs the optional package torch")
pytest.importorskip("onnxscript", reason="needs the package onnxscript")
from deploy.torch_networks import (
    NETWORKS,
    SIZE,
    exported,
    static,
)

#: evaluation of integers in one thread, in times of onnxruntime; 1.8 to 2.9 measured
MOST = 3.0


def model(rng, folder, name, how):
    if how == "exported":
        return exported(folder, name)
    return static(rng, folder, name, form="QDQ", **KINDS["u8s8"])


def seconds(call, runs=3):
    """Return the time of this thread for a call, the least of some."""
    call()
    times = []
    for _ in range(runs):
        begin = time.thread_time()
        call()
        times.append(time.thread_time() - begin)
    return min(times)


@pytest.mark.slow
@pytest.mark.compiled
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("how", ["static", "exported"])
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_torch(rng, tmp_path, name, how):
    """Optimised, onnxruntime gives the codes of every step."""
    onnxruntime = pytest.importorskip("onnxruntime")
    made = model(rng, tmp_path, name, how)
    network = import_onnx(made)
    x = rng.normal(0, 1, (120, 1, *SIZE)).astype(np.float32)
    _, different = compare(made, network, x[:2])
    assert not any(different["shown"].values())
    assert not any(different["fused"].values())
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(made.SerializeToString(), options)
    codes, threads = input_codes(network, x[:, 0]), get_num_threads()
    set_num_threads(1)
    try:
        ours = seconds(lambda: network.predict(codes, backend=refqnn.fast))
    finally:
        set_num_threads(threads)
    theirs = seconds(lambda: [session.run(None, {"x": image}) for image in x])
    assert ours < MOST * theirs
