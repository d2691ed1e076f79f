"""Functions of runs that other processes can import."""

import hashlib
import os
import signal
import time

import numba
import numpy as np
from threadpoolctl import threadpool_info

from refqnn import data, fast, networks
from refqnn.nn import PARETO_CIFAR, Training, fit


def killed_by_three(i):
    """Square, but for 3, whose process does not survive."""
    if i == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return i * i


def slowly(i):
    """Square, after a tenth of a second."""
    time.sleep(0.1)
    return i * i


def threads(i):
    """Return the threads of Numba and the most of any BLAS."""
    pools = [pool["num_threads"] for pool in threadpool_info()]
    return [i + numba.get_num_threads(), max(pools)]


def process(i):
    """Return the number of the process that ran it."""
    return os.getpid() + 0 * i


def trained(seed, bits=1, epochs=1):
    """Train a small network and return a digest of its weights, and its accuracy."""
    rng = np.random.default_rng(seed)
    dataset = data.textures(128, 64, rng=rng)
    network = networks.resnet(
        8,
        width=0.25,
        weight_bits=bits,
        activation_bits=4,
        image_scale=1.0,
        image_zero_point=0,
        rng=rng,
    )
    training = Training(
        network,
        PARETO_CIFAR.optimiser(network),
        PARETO_CIFAR.schedule(4, epochs=epochs),
        rng,
        batch=32,
        backend=fast,
    )
    records = fit(
        training,
        (dataset.train_images, dataset.train_labels),
        epochs=epochs,
        test=(dataset.test_images, dataset.test_labels),
        progress=False,
    )
    weights = b"".join(
        leaf.value.tobytes() for leaf in training.optimiser.params.values()
    )
    return {
        "digest": hashlib.sha256(weights).hexdigest(),
        "accuracy": records[-1]["test_accuracy"],
    }
