"""Full Fashion-MNIST: ResNet-20 with 4-bit weights and activations against float.

Both networks are trained the same way, for a few epochs on 60 000 images, with each
seed; the mean over the seeds is printed. Every run is checkpointed and resumes where it
was cut off.

    python examples/train_fashion_mnist.py FOLDER [--epochs 5] [--seeds 0 1] [--json]

FOLDER holds the four IDX files (Debian's package dataset-fashion-mnist installs them).
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from refqnn import data, fast
from refqnn._types import Array
from refqnn.networks import resnet
from refqnn.nn import Preset, Training, fit, steps_per_epoch

#: settings for few epochs: a higher rate than the papers' long schedules
SHORT = Preset(
    lr=0.1,
    warmup_epochs=0.5,
    epochs=5,
    batch=128,
    momentum=0.9,
    nesterov=True,
    weight_decay=5e-4,
)
#: sha256 of the pixels and labels as they were published
PUBLISHED = {
    "train_images": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "test_images": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
}


def augment(images: Array, rng: np.random.Generator) -> Array:
    """Crop from 2 pixels of padding and flip."""
    return data.crop_and_flip(images, rng, padding=2)


def load(folder: Path) -> data.Dataset:
    """Return Fashion-MNIST; say so where the files are not the published ones."""
    for name, part in (("train_images", "train"), ("test_images", "t10k")):
        content = data.read_bytes(data.idx_file(folder, f"{part}-images-idx3-ubyte"))
        if hashlib.sha256(content).hexdigest() != PUBLISHED[name]:
            note = f"note: the {part} images are not those of Fashion-MNIST"
            print(note, file=sys.stderr)
    return data.fashion_mnist(folder)


def train(
    dataset: data.Dataset,
    *,
    bits: int | None,
    seed: int,
    epochs: int,
    depth: int,
    runs: Path,
) -> list[dict[str, Any]]:
    """Train one network and return the records of its epochs."""
    rng = np.random.default_rng(seed)
    network = resnet(depth, weight_bits=bits, activation_bits=bits, rng=rng)
    steps = steps_per_epoch(len(dataset.train_images), SHORT.batch)
    training = Training(
        network,
        SHORT.optimiser(network),
        SHORT.schedule(steps, epochs=epochs),
        rng,
        batch=SHORT.batch,
        augment=augment,
        backend=fast,
    )
    name = f"resnet{depth}_{'float' if bits is None else f'{bits}bit'}_{epochs}_{seed}"
    runs.mkdir(parents=True, exist_ok=True)
    return fit(
        training,
        (dataset.train_images, dataset.train_labels),
        epochs=epochs,
        test=(dataset.test_images, dataset.test_labels),
        checkpoint=runs / f"{name}.npz",
        checkpoint_every=100,
        metrics=runs / f"{name}.jsonl",
    )


def main(argv: Sequence[str] | None = None) -> dict[str, list[float]]:
    """Train float and 4-bit networks and print their accuracies."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--depth", type=int, default=20)
    parser.add_argument("--images", type=int, help="train on the first ones only")
    parser.add_argument("--runs", type=Path, default=Path("runs/fashion_mnist"))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    dataset = load(options.folder)
    dataset = dataset._replace(
        train_images=dataset.train_images[: options.images],
        train_labels=dataset.train_labels[: options.images],
    )
    found = {}
    for name, bits in (("float", None), ("4-bit", 4)):
        found[name] = [
            train(
                dataset,
                bits=bits,
                seed=seed,
                epochs=options.epochs,
                depth=options.depth,
                runs=options.runs,
            )[-1]["test_accuracy"]
            for seed in options.seeds
        ]
    if options.json:
        print(json.dumps(found))
    else:
        for name, scores in found.items():
            seen = ", ".join(f"{100 * score:.2f}" for score in scores)
            print(f"{name:6s} {100 * np.mean(scores):.2f} % (seeds: {seen})")
        drop = 100 * (np.mean(found["float"]) - np.mean(found["4-bit"]))
        print(f"4 bits lose {drop:.2f} points")
    return found


if __name__ == "__main__":
    main()
