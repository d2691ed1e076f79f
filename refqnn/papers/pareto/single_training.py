"""Train one network of the paper's comparisons, at our scale: one run of a study.

Chin, Chuang, Chandra, Marculescu. arXiv:2008.09916, sections 3 to 6 and appendix A.

    paper                                       code
    a network N(b, s)                           a configuration of ``networks.build``
    SGD, rate 0.05, cosine, Nesterov 0.9,       ``PARETO_CIFAR``, with batches of 64 and
    weight decay 5e-4 (appendix A)              fewer epochs
    validation accuracy                         on the test images, in per cent
    a mixed-precision network, "Flexible"       ``policy``, bits for each layer

The images are those one has: textures drawn anew for every seed (the smallest task on
which the effect shows; 700 batches in one epoch are images never seen twice), the
embedded subset of Fashion-MNIST, or all of it.

    images          size of a side                    to train on      to judge by
    textures        any                               any number       2 000
    embedded        14 (halved), 28, 32 (padded)      4 000 at most    1 000
    fashion_mnist   the same                          60 000 at most   10 000
    cifar10, -100   32, in colour                     50 000 at most   10 000
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from types import MappingProxyType
from typing import Any

import numpy as np

from refqnn import data, fast
from refqnn._types import Array
from refqnn.core import named_modules
from refqnn.cost import cost
from refqnn.networks.from_config import build
from refqnn.networks.methods import method_of, weight_quantizer
from refqnn.nn import PARETO_CIFAR, Conv2d, Sequential, fit
from refqnn.papers.pareto.figure4 import MeanAbsVariance

PRESET = replace(PARETO_CIFAR, batch=64)
#: what a network must know of its images: how pixels become numbers near 0, channels
INPUTS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "textures": {"image_scale": 1.0, "image_zero_point": 0},
        "embedded": {},
        "fashion_mnist": {},
        **data.IMAGE_OPTIONS,
    }
)
#: textures to judge by, and how many places a side their crops begin at, if not said: 5
#: and more make the task harder for every precision, and the effect smaller; at all 40
#: places a side 10 to 15 % are right, whatever the bits
TO_JUDGE_BY, SHIFTS = 2000, 3
#: epochs of all there are: 700, 496 and 937 steps
EPOCHS: Mapping[str, int] = MappingProxyType(
    {"textures": 1, "embedded": 8, "fashion_mnist": 1}
    | dict.fromkeys(data.IMAGE_OPTIONS, 1)
)


def pareto_run(
    *,
    network: dict[str, Any],
    images: dict[str, Any],
    epochs: int,
    seed: int,
    policy: dict[str, int] | None = None,
    follow: bool = False,
    folder: str | None = None,
) -> dict[str, Any]:
    """Train a network and return its accuracy and its cost, as JSON holds them.

    ``images`` are {"of": a name above, "size": pixels a side, "train": how many}, for
    textures "shifts" and to choose by others than the test images "held_out" if need
    be; ``folder`` holds the files of Fashion-MNIST. With
    ``follow`` the variances of figure 4 are returned, too, for depth-wise layers.
    Raises ValueError for unknown names.
    """
    pictures = images_of_run(**images, seed=seed, folder=folder)
    rng = np.random.default_rng([seed, 1])
    made = build({**network, **INPUTS[images["of"]]}, rng=rng)
    if policy is not None:
        with_policy(made, policy)
    count = len(pictures.train_images)
    training = PRESET.training(made, count, rng=rng, epochs=epochs, backend=fast)
    recorder = MeanAbsVariance(only=depthwise_names(made))
    records = fit(
        training,
        pictures[:2],
        epochs=epochs,
        test=pictures[2:],
        progress=False,
        after_step=recorder.after_step if follow else None,
    )
    result = costs(made, pictures.train_images.shape[1:])
    result["accuracy"] = 100 * records[-1]["test_accuracy"]
    if follow:
        layers = recorder.variations().items()
        result["variations"] = {name: layer._asdict() for name, layer in layers}
    return result


@cache
def images_of_run(
    *,
    of: str,
    size: int,
    train: int,
    seed: int,
    folder: str | None,
    shifts: int = SHIFTS,
    held_out: bool = False,
) -> data.Dataset:
    """Give the images of a run; ``seed`` draws textures and nothing else.

    With ``held_out`` the last quarter of the training images is kept from training and
    stands in place of the test images.
    """
    if of not in INPUTS:
        raise ValueError(f"images must be of {sorted(INPUTS)}, got {of!r}")
    if held_out:
        shown = {"of": of, "size": size, "train": train, "shifts": shifts}
        images, labels, *_ = images_of_run(**shown, seed=seed, folder=folder)
        end = train - train // 4
        return data.Dataset(images[:end], labels[:end], images[end:], labels[end:])
    if of == "textures":
        rng = np.random.default_rng([seed, 0])
        return data.textures(train, TO_JUDGE_BY, size=size, shifts=shifts, rng=rng)
    whole = data.read_images(of, folder)
    available = len(whole.train_images)
    if not 1 <= train <= available:
        raise ValueError(f"train must be in [1, {available}] for {of}, got {train}")
    return data.Dataset(
        at_size(whole.train_images[:train], size),
        whole.train_labels[:train],
        at_size(whole.test_images, size),
        whole.test_labels,
    )


def named_images(name: str, *, size: int = 14) -> tuple[dict[str, Any], str | None]:
    """Return the ``images`` and the ``folder`` of a run on all training images.

    "textures" (10 pixels a side, as many as 700 batches), "embedded", or the folder of
    Fashion-MNIST, CIFAR-10 or CIFAR-100 (always 32 pixels a side). Raises ValueError
    where there is no such folder, and FileNotFoundError where it does not hold them.

    >>> named_images("embedded")
    ({'of': 'embedded', 'size': 14, 'train': 4000}, None)
    """
    of, folder = data.source(name, "textures", cifar=True)
    if of == "textures":
        return {"of": of, "size": 10, "train": 700 * PRESET.batch}, None
    if of in data.IMAGE_OPTIONS:
        return {"of": of, "size": 32, "train": 50_000}, folder
    train = 4000 if of == "embedded" else 60_000
    return {"of": of, "size": size, "train": train}, folder


def made_for(of: str) -> dict[str, Any]:
    """Give the channels and classes of networks for a data set, where not 1 and 10.

    >>> made_for("embedded"), made_for("cifar100")
    ({}, {'in_channels': 3, 'classes': 100})
    """
    return dict(data.IMAGE_OPTIONS.get(of, {}))


def at_size(images: Array, size: int) -> Array:
    """Return images of 28 pixels a side halved, as they are, or padded with zeros.

    images: (N, C, 28, 28)  ->  (N, C, size, size)

    >>> at_size(np.zeros((2, 1, 28, 28), np.uint8), 14).shape
    (2, 1, 14, 14)
    """
    side = images.shape[2]
    if size == side // 2:
        return data.halve(images)
    if size < side or (size - side) % 2:
        raise ValueError(f"size must be 14, 28 or an even number above, got {size}")
    border = (size - side) // 2
    return np.pad(images, ((0, 0), (0, 0), (border, border), (border, border)))


def depthwise_names(network: Sequential) -> tuple[str, ...]:
    """Return the names of the depth-wise layers, whatever their fan-in."""
    return tuple(
        name
        for name, layer in network.layers.items()
        if name.startswith("depthwise") and isinstance(layer, Conv2d)
    )


def with_policy(network: Sequential, policy: Mapping[str, int]) -> Sequential:
    """Quantize the layers that ``policy`` names to its bits; return the network.

    >>> network = build({"network": "separable", "weight_bits": 8})
    >>> with_policy(network, {"pointwise1": 2}).layers["pointwise1"].weight_quant.bits
    2
    """
    pareto, modules = method_of("pareto"), dict(named_modules(network))
    for name, bits in policy.items():
        layer = modules.get(f"layers.{name}")
        if layer is None or not hasattr(layer, "weight_quant"):
            raise ValueError(f"policy names {name!r}, which is no layer with weights")
        layer.weight_quant = weight_quantizer(pareto, bits, layer.w.value.shape)
    return network


def costs(network: Sequential, shape: tuple[int, ...]) -> dict[str, Any]:
    """Return size, work and memory for an image of ``shape`` (C, H, W)."""
    counted = cost(network, shape).as_dict()  # type: ignore[arg-type]
    return {k: counted[k] for k in counted if k not in {"bit_operations", "layers"}}
