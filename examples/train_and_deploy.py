"""Train a small 4-bit network, turn it into integers, and follow one image through it.

From the first pixel to the last logit the deployed network computes with integers only.
Its listing names every step: shapes, scales, multipliers, shifts. Then one test image
goes through, and each step says what it stores.
"""

from dataclasses import replace

import numpy as np

from refqnn import data, fast
from refqnn.deploy import deploy
from refqnn.networks import resnet
from refqnn.nn import PARETO_CIFAR, fit

SHADES = " .:-=+*#%@"
pictures = data.embedded().first(2000)
rng = np.random.default_rng(0)

# ResNet-8 at a quarter of its width, weights and activations of 4 bits, two epochs
network = resnet(8, width=0.25, weight_bits=4, activation_bits=4, rng=rng)
preset = replace(PARETO_CIFAR, lr=0.1, warmup_epochs=0.5, epochs=2, batch=40)
training = preset.training(network, len(pictures.train_images), rng=rng, backend=fast)
records = fit(training, pictures[:2], epochs=2, test=pictures[2:])
print(f"fake-quantized, in floating point: {100 * records[-1]['test_accuracy']:.1f} %")

integers = deploy(network)
right = integers.predict(pictures.test_images, backend=fast) == pictures.test_labels
print(f"integers:                          {100 * right.mean():.1f} %\n")
print(integers)

# one image, every second row drawn
image, label = pictures.test_images[0], pictures.test_labels[0]
for row in image[0, ::2].astype(int) * len(SHADES) // 256:
    print("".join(SHADES[level] for level in row))

# what every step stores for it
values = integers.trace(image[None])
for step in integers.steps:
    q = values[step.name]
    shape = "x".join(map(str, q.shape[1:]))
    zero = np.mean(q == step.grid.zero_point)
    print(
        f"{step.name:<28}{shape:<10}{q.dtype.name:<7}{q.min():>7} .. {q.max():<7}"
        f"{zero:>5.0%} zero"
    )

names = data.FASHION_MNIST_CLASSES
said = int(integers.predict(image[None])[0])
print(f"\nintegers say {names[said]}; it is labelled {names[label]}")
