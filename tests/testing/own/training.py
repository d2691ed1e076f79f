"""What the three scripts do alike: name planted mistakes; train, store and restore."""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from refqnn import cost, data, fast, networks, testing
from refqnn.nn import PARETO_CIFAR, checkpoint, evaluate, fit

PRESET = replace(PARETO_CIFAR, lr=0.05, warmup_epochs=0, epochs=4, batch=50)

#: what a diagnosis says -> what the wrong backward makes of (dv, dy, v)
MISTAKES = {
    "the sign is turned": lambda dv, dy, v: -dv,
    "a factor of 2": lambda dv, dy, v: 2 * dv,
    "mask is opened": lambda dv, dy, v: np.where((v > 0) & (dv == 0), dy, dv),
    "mask is closed": lambda dv, dy, v: np.where(v > 0, 0, dv),
    "computed with |dy|": lambda dv, dy, v: np.abs(dy) * (dv != 0),
    "dy is not used": lambda dv, dy, v: 1.0 * (dv != 0),
}


def refusal_of(forward, backward, args):
    """Give what the checker says of a wrong backward; raise where it says nothing."""
    try:
        testing.check_gradients(
            forward, backward, args, wrt=range(len(args)), frozen=True
        )
    except AssertionError as refusal:
        return str(refusal)
    raise SystemExit(f"a wrong gradient was believed: {backward}")


def name_mistakes(forward, backward, args):
    """Prove the backward; plant each mistake and hold its diagnosis to its name."""
    wrt = range(len(args))
    error = testing.check_gradients(forward, backward, args, wrt=wrt, frozen=True)
    print(f"the gradients are right: largest relative error {error:.1e}")
    for words, mistake in MISTAKES.items():

        def wrong(dy, cache, mistake=mistake):
            grads = backward(dy, cache)
            dv, *others = grads if isinstance(grads, tuple) else (grads,)
            return mistake(dv, dy, args[0]), *others

        refusal = refusal_of(forward, wrong, args)
        assert words in refusal, (words, refusal)
        print(f"  refused: {refusal}")


def train_beside_lsq(name, weights, ends=None):
    """Train a ResNet-8 of LSQ and of one's own; store and restore the latter."""
    method = networks.Method(weights, networks.METHODS["lsq"].activations, ends=ends)
    networks.register_method(name, method)
    pictures = data.embedded().first(1000)
    for called in ("lsq", name):
        rng = np.random.default_rng(0)
        network = networks.resnet(
            8, width=0.5, method=called, weight_bits=4, activation_bits=4, rng=rng
        )
        training = PRESET.training(network, 1000, rng=rng, backend=fast)
        record = fit(training, pictures[:2], epochs=4, test=pictures[2:])[-1]
        size = cost.cost(network, (1, 28, 28)).c_size_bits
        right = record["test_accuracy"]
        print(f"{called:14} {right:.1%} of the test images, {size} bits of weights")
        assert right > 0.3, "ten classes: chance is a tenth"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.npz"
        checkpoint.save(path, checkpoint.of_network(network))
        stored = checkpoint.load(path)
    restored = networks.build(stored.config)
    checkpoint.restore(restored, stored)
    some = pictures.test_images[:100], pictures.test_labels[:100]
    assert evaluate(restored, *some) == evaluate(network, *some)
    return network, some[0]
