"""Make the subset of Fashion-MNIST that the package carries.

    python examples/embed_fashion_mnist.py FOLDER OUTPUT.npz

FOLDER holds the four IDX files; Debian's package ``dataset-fashion-mnist`` installs
them (``dpkg -L dataset-fashion-mnist`` names the folder).
"""

import argparse
import hashlib
from pathlib import Path

import numpy as np

from refqnn import data

SEED = 2017
#: sha256 of the uncompressed files
SHA256 = {
    "train-images-idx3-ubyte": (
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"
    ),
    "train-labels-idx1-ubyte": (
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"
    ),
    "t10k-images-idx3-ubyte": (
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"
    ),
    "t10k-labels-idx1-ubyte": (
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"
    ),
}


def check_sources(folder: Path) -> None:
    """Raise a ValueError for a source file that is not the published one."""
    for name, expected in SHA256.items():
        content = data.read_bytes(data.idx_file(folder, name))
        found = hashlib.sha256(content).hexdigest()
        if found != expected:
            raise ValueError(f"{name} has sha256 {found}, expected {expected}")


def subset(
    full: data.Dataset, *, train_per_class: int, test_per_class: int, seed: int
) -> data.Dataset:
    """Choose images of every class from each part, seeded."""
    rng = np.random.default_rng(seed)
    train = data.balanced_subset(full.train_labels, train_per_class, rng=rng)
    test = data.balanced_subset(full.test_labels, test_per_class, rng=rng)
    return data.Dataset(
        full.train_images[train],
        full.train_labels[train],
        full.test_images[test],
        full.test_labels[test],
    )


def main(folder: Path, output: Path) -> None:
    """Check the sources, choose 400 + 100 images of each class, write them."""
    check_sources(folder)
    chosen = subset(
        data.fashion_mnist(folder), train_per_class=400, test_per_class=100, seed=SEED
    )
    np.savez_compressed(output, **chosen._asdict())
    print(f"{output}: {output.stat().st_size:,} bytes")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    main(arguments.folder, arguments.output)
