"""The mixed-precision competitor, "Flexible": a policy of HAQ, then widths.

Chin, Chuang, Chandra, Marculescu. arXiv:2008.09916, section 6, table 3: a reinforcement
learner (HAQ, arXiv:1811.08886) searches bits for each layer of the network at width 1
that are as accurate as 8 bits; width multipliers then make it any size.

    paper                                   code
    iso-accurate with the 8-bit network     a loss of at most ``tolerance`` points
                                            against 8 bits in every inner layer
    the policy                              ``policy`` of ``policy_run``
    networks of different sizes             ``aligned_network(..., policy=policy)``

Its policies are not published. Chosen here: layers share their weights by k-means while
HAQ searches, as in its released code, and are trained with this paper's quantizers
afterwards; first and last layer have 8 bits, as everywhere in this paper; the smallest
of some average bits that meets the tolerance is taken, or the largest.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from refqnn import fast
from refqnn.core import named_modules
from refqnn.networks.from_config import build
from refqnn.nn import Conv2d, evaluate, fit
from refqnn.papers.haq import Problem, Settings, layer_table, proxy, search
from refqnn.papers.pareto.single_training import INPUTS, PRESET, images_of_run

B_MIN, B_MAX = 1, 8


def policy_run(
    *,
    network: dict[str, Any],
    images: dict[str, Any],
    epochs: int,
    seed: int,
    averages: Sequence[float] = (2.0, 3.0, 4.0, 5.0),
    tolerance: float = 1.0,
    episodes: int = 60,
    folder: str | None = None,
) -> dict[str, Any]:
    """Train a float network, search bits for its inner layers; as JSON holds it.

    A quarter of the training images is kept from training, to judge policies by.
    ``averages`` are bits a weight, ascending.
    """
    pictures = images_of_run(**images, seed=seed, folder=folder)
    kept = len(pictures.train_images) // 4
    shown, labels, *_ = pictures
    train, held_out = (shown[kept:], labels[kept:]), (shown[:kept], labels[:kept])
    floats = train_in_floats(network | dict(INPUTS[images["of"]]), train, epochs, seed)
    names = inner_layers(floats)
    table = layer_table(floats, pictures.train_images.shape[1:])
    layers = tuple(layer for layer in table if layer.name in names)
    worth = proxy(floats, layers, train, held_out, seed=seed, backend=fast)
    whole = 100 * evaluate(floats, *held_out, backend=fast).accuracy
    eight = worth(np.full(len(layers), B_MAX))
    tried = []
    for average in averages:
        problem = Problem(layers, average / 32, whole, b_min=B_MIN, b_max=B_MAX)
        settings = Settings(warm_up=max(1, episodes // 4))
        record = search(problem, worth, episodes=episodes, seed=seed, settings=settings)
        bits = record.policies[record.best].tolist()
        loss = eight - record.accuracies[record.best]
        tried.append({"average": average, "bits": bits, "loss": loss})
        if loss <= tolerance:
            break
    short = [layer.name.removeprefix("layers.") for layer in layers]
    return {
        "policy": dict(zip(short, tried[-1]["bits"], strict=True)),
        "tried": tried,
        "float": whole,
        "eight": eight,
    }


def train_in_floats(config: dict[str, Any], train: Any, epochs: int, seed: int) -> Any:
    """Train the network without quantizers."""
    rng = np.random.default_rng([seed, 1])
    no_bits = {name: None for name in config if name.endswith("_bits")}
    network = build(config | no_bits, rng=rng)
    count = len(train[0])
    training = PRESET.training(network, count, rng=rng, epochs=epochs, backend=fast)
    fit(training, train, epochs=epochs, progress=False)
    return network


def inner_layers(network: Any) -> list[str]:
    """Return the dotted names of all convolutions but the first.

    >>> inner_layers(build({"network": "separable"}))[:2]
    ['layers.pointwise1', 'layers.depthwise1']
    """
    modules = named_modules(network)
    return [name for name, module in modules if isinstance(module, Conv2d)][1:]
