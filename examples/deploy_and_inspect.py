"""Train a small 4-bit network, turn it into integers, look inside.

    python examples/deploy_and_inspect.py [--epochs 3] [--image 0]

Prints the listing of the integer network, then what every step of it stores for one
test image, then the decision: computed with integers from the first pixel to the last
logit.
"""

import argparse
from collections.abc import Sequence

import numpy as np

from refqnn import data, fast
from refqnn._types import Array
from refqnn.deploy import IntegerNetwork, deploy
from refqnn.networks import resnet
from refqnn.nn import Preset, Sequential, Training, fit, steps_per_epoch

SETTINGS = Preset(
    lr=0.1,
    warmup_epochs=0.5,
    epochs=3,
    batch=40,
    momentum=0.9,
    nesterov=True,
    weight_decay=1e-3,
)
SHADES = " .:-=+*#%@"


def train(dataset: data.Dataset, *, epochs: int, width: float) -> Sequential:
    """Return a ResNet-8 with 4-bit weights and activations after a few epochs."""
    rng = np.random.default_rng(0)
    network = resnet(8, width=width, weight_bits=4, activation_bits=4, rng=rng)
    steps = steps_per_epoch(len(dataset.train_images), SETTINGS.batch)
    training = Training(
        network,
        SETTINGS.optimiser(network),
        SETTINGS.schedule(steps, epochs=epochs),
        rng,
        batch=SETTINGS.batch,
        backend=fast,
    )
    fit(training, (dataset.train_images, dataset.train_labels), epochs=epochs)
    return network


def picture(pixels: Array) -> str:
    """Draw an image with characters, every second row and all columns.

    pixels: (H, W) uint8
    """
    rows = pixels[::2].astype(int) * len(SHADES) // 256
    return "\n".join("".join(SHADES[level] for level in row) for row in rows)


def inside(integer: IntegerNetwork, image: Array) -> str:
    """Say what every step stores for one image.

    image: (C, H, W) uint8
    """
    values = integer.trace(image[None])
    lines = []
    for step in integer.steps:
        q = values[step.name]
        shape = "x".join(map(str, q.shape[1:]))
        zero = np.mean(q == step.grid.zero_point)
        lines.append(
            f"{step.name:<28}{shape:<10}{q.dtype.name:<7}"
            f"{q.min():>7} .. {q.max():<7}{zero:>5.0%} zero"
        )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> IntegerNetwork:
    """Train, deploy, print the listing and the inside of one image."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--images", type=int, help="train on the first ones only")
    parser.add_argument("--image", type=int, default=0, help="which test image")
    options = parser.parse_args(argv)
    dataset = data.embedded()
    part = dataset._replace(
        train_images=dataset.train_images[: options.images],
        train_labels=dataset.train_labels[: options.images],
    )
    integer = deploy(train(part, epochs=options.epochs, width=options.width))
    image, label = (
        dataset.test_images[options.image],
        dataset.test_labels[options.image],
    )
    chosen = int(integer.predict(image[None])[0])
    names = data.FASHION_MNIST_CLASSES
    print(integer)
    print(f"\n{picture(image[0])}\n\n{inside(integer, image)}")
    print(f"\nintegers say {names[chosen]}; it is labelled {names[label]}")
    return integer


if __name__ == "__main__":
    main()
