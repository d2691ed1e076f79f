"""Readers of image data sets, the embedded subset, synthetic textures, augmentation.

Images are ``(N, C, H, W)``, uint8 where they come from files; labels are int64. No
reader unpickles anything.
"""

import math
import os
from collections.abc import Iterator, Sequence
from hashlib import sha256
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import numpy as np

from refqnn._types import Array, Float, Int
from refqnn.files import StrPath, read_bytes, read_npz

#: type code of the IDX header -> big-endian dtype
IDX_DTYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
FASHION_MNIST_CLASSES = (
    "T-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)

#: half of the sha256 of the uncompressed files as published
FASHION_MNIST_SHA256 = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f8388776",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec29",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe0",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494",
}

#: what makes arrays of the pickles of CIFAR's "python version", where they are trusted
CONVERSION = (
    "convert it once, where it is trusted: d = pickle.load(open(path, 'rb'), "
    "encoding='bytes'); numpy.savez('batch.npz', images=d[b'data'].reshape(-1, 3, 32, "
    "32), labels=d[b'labels']); then refqnn.data.read_arrays('batch.npz')"
)


class Dataset(NamedTuple):
    """Images to train on and images to judge by."""

    train_images: Array  # (N, C, H, W)
    train_labels: Int  # (N,)
    test_images: Array
    test_labels: Int

    def first(self, train: int | None = None, test: int | None = None) -> "Dataset":
        """Return the first images to train on, and to judge by; None is all of them.

        >>> [len(part) for part in embedded().first(100, 20)]
        [100, 100, 20, 20]
        """
        ends = (train, train, test, test)
        return Dataset(*(part[:end] for part, end in zip(self, ends, strict=True)))


def read_idx(path: StrPath) -> Array:
    """Return the array of an IDX file, gzip or not, in the machine's byte order.

    Header: 0, 0, type code, number of dimensions, then each size as big-endian int32
    (yann.lecun.com, MNIST page). Raises ValueError for a wrong magic number or a length
    that differs from what the header announces.
    """
    content = read_bytes(path)
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in IDX_DTYPES:
        raise ValueError(
            f"{path} is not an IDX file: wrong magic number 0x{content[:4].hex()}"
        )
    dtype, ndim = np.dtype(IDX_DTYPES[content[2]]), content[3]
    start = 4 + 4 * ndim
    if len(content) < start:
        raise ValueError(f"{path} ends within its header of {start} bytes")
    shape = tuple(int(size) for size in np.frombuffer(content, ">u4", ndim, offset=4))
    expected = start + math.prod(shape) * dtype.itemsize
    if len(content) != expected:
        raise ValueError(
            f"{path} announces {shape} of {dtype.itemsize} bytes, {expected} bytes in "
            f"all, but holds {len(content)}"
        )
    values = np.frombuffer(content, dtype, offset=start).reshape(shape)
    return values.astype(dtype.newbyteorder("="))


def fashion_mnist(folder: StrPath) -> Dataset:
    """Read the four IDX files of Fashion-MNIST (or MNIST), with or without ``.gz``.

    train: 60 000, test: 10 000 images of (1, 28, 28), labels in 0..9
    """
    train, test = (
        labelled_idx(Path(folder), part, classes=10) for part in ("train", "t10k")
    )
    return Dataset(*train, *test)


def names_of_other_files(folder: StrPath) -> list[str]:
    """List the files of a folder whose digests are not those of Fashion-MNIST's."""
    return [
        name
        for name, start in FASHION_MNIST_SHA256.items()
        if sha256(read_bytes(idx_file(Path(folder), name))).hexdigest()[:32] != start
    ]


def labelled_idx(folder: Path, part: str, *, classes: int) -> tuple[Array, Int]:
    """Return the images, with a channel axis, and the labels of one part."""
    images = read_idx(idx_file(folder, f"{part}-images-idx3-ubyte"))
    labels = read_idx(idx_file(folder, f"{part}-labels-idx1-ubyte"))
    if images.ndim != 3 or labels.shape != images.shape[:1]:
        raise ValueError(
            f"{part} images (N, H, W) and labels (N,) disagree: "
            f"images{images.shape}, labels{labels.shape}"
        )
    return images[:, None], checked_labels(labels, classes, name=f"{part} labels")


def idx_file(folder: Path, name: str) -> Path:
    """Return the file, plain or ``.gz``; FileNotFoundError if neither is there."""
    for path in (folder / name, folder / f"{name}.gz"):
        if path.exists():
            return path
    raise FileNotFoundError(f"{folder} holds neither {name} nor {name}.gz")


def checked_labels(labels: Int, classes: int, *, name: str = "labels") -> Int:
    """Return the labels as int64; ValueError if one is not in 0..classes - 1.

    >>> checked_labels(np.array([0, 9], np.uint8), 10)
    array([0, 9])
    """
    if labels.size and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise ValueError(
            f"{name} must be in 0..{classes - 1}, got {labels.min()}..{labels.max()}"
        )
    return labels.astype(np.int64)


def read_cifar10(paths: StrPath | Sequence[StrPath]) -> tuple[Array, Int]:
    """Read binary batches of CIFAR-10: records of 1 label and 3072 pixels.

    Krizhevsky, cs.toronto.edu/~kriz/cifar.html, "binary version".

    ->  images: (N, 3, 32, 32) uint8, labels: (N,)
    """
    records = cifar_records(paths, label_bytes=1)
    return cifar_images(records), checked_labels(records[:, 0], 10)


def read_cifar100(
    paths: StrPath | Sequence[StrPath], *, coarse: bool = False
) -> tuple[Array, Int]:
    """Read binary files of CIFAR-100: records of 2 labels and 3072 pixels.

    The labels are the 100 fine classes, or the 20 coarse ones.

    ->  images: (N, 3, 32, 32) uint8, labels: (N,)
    """
    records = cifar_records(paths, label_bytes=2)
    coarse_labels = checked_labels(records[:, 0], 20, name="coarse labels")
    fine_labels = checked_labels(records[:, 1], 100, name="fine labels")
    return cifar_images(records), coarse_labels if coarse else fine_labels


def cifar_records(paths: StrPath | Sequence[StrPath], *, label_bytes: int) -> Array:
    """Return all records: (N, label_bytes + 3072); ValueError if one is cut."""
    every = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    size = label_bytes + 3072
    records = []
    for path in every:
        content = read_bytes(path)
        if content[:1] == b"\x80" and content[-1:] == b".":
            raise ValueError(f"{path} is a pickle, which is never read; {CONVERSION}")
        if not content or len(content) % size:
            raise ValueError(
                f"{path} must hold records of {size} bytes, but its {len(content)} "
                f"bytes are {len(content) / size:.3f} records"
            )
        records.append(np.frombuffer(content, np.uint8).reshape(-1, size))
    return np.concatenate(records)


def cifar_images(records: Array) -> Array:
    """Return the pixels, which end each record: (N, ...)  ->  (N, 3, 32, 32)"""
    return np.ascontiguousarray(records[:, -3072:]).reshape(-1, 3, 32, 32)


def embedded() -> Dataset:
    """Return the subset of Fashion-MNIST inside the package, the same in every process.

    train: 4 000, test: 1 000 images of (1, 28, 28) uint8; as many of each class

    >>> embedded().test_images.shape
    (1000, 1, 28, 28)
    """
    source = resources.files("refqnn") / "_embedded" / "fashion_mnist.npz"
    with resources.as_file(source) as path:
        return Dataset(**read_npz(path))


def source(name: str, *others: str) -> tuple[str, str | None]:
    """Return which images a name means, and the folder of their files.

    "embedded", one of ``others`` that the caller knows, or the folder of Fashion-MNIST.
    Raises ValueError where there is no such folder, and FileNotFoundError where it does
    not hold them.

    >>> source("embedded")
    ('embedded', None)
    """
    names = ("embedded", *others)
    if name in names:
        return name, None
    if not Path(name).is_dir():
        known = ", ".join(map(repr, names))
        raise ValueError(f"images must be {known} or a folder, got {name!r}")
    idx_file(Path(name), "train-images-idx3-ubyte")
    return "fashion_mnist", name


def read_images(of: str, folder: StrPath | None = None) -> Dataset:
    """Read the data set that ``source`` names; ValueError where its folder is missing.

    >>> read_images("embedded").train_labels.shape
    (4000,)
    """
    if of == "embedded":
        return embedded()
    if of != "fashion_mnist":
        raise ValueError(f"images must be of 'embedded' or 'fashion_mnist', got {of!r}")
    if folder is None:
        raise ValueError("images of 'fashion_mnist' need the folder of its files")
    return fashion_mnist(folder)


def write_subset(folder: StrPath, output: StrPath) -> None:
    """Write 400 training and 100 test images of each class: what ``embedded`` reads.

    Raises ValueError for a folder whose files are not Fashion-MNIST as published.
    """
    if others := names_of_other_files(folder):
        raise ValueError(f"{others[0]} in {folder} is not that of Fashion-MNIST")
    whole, rng = fashion_mnist(folder), np.random.default_rng(2017)
    train = balanced_subset(whole.train_labels, 400, rng=rng)
    test = balanced_subset(whole.test_labels, 100, rng=rng)
    parts = zip(whole, (train, train, test, test), strict=True)
    chosen = Dataset(*(part[index] for part, index in parts))
    np.savez_compressed(output, allow_pickle=False, **chosen._asdict())


def balanced_subset(labels: Int, per_class: int, *, rng: np.random.Generator) -> Int:
    """Choose ``per_class`` indices of every class, in random order.

    labels: (N,)  ->  (classes * per_class,)

    >>> balanced_subset(np.array([0, 1, 0, 1]), 2, rng=np.random.default_rng(0)).size
    4
    """
    counts = np.bincount(labels)
    if counts.min() < per_class:
        raise ValueError(
            f"class {counts.argmin()} has {counts.min()} images, fewer than {per_class}"
        )
    chosen = [
        rng.choice(np.flatnonzero(labels == k), per_class, replace=False)
        for k in range(len(counts))
    ]
    return rng.permutation(np.concatenate(chosen))


def batches(
    images: Array, labels: Int, *, size: int, rng: np.random.Generator | None = None
) -> Iterator[tuple[Array, Int]]:
    """Yield batches of ``size`` images (the last may be smaller), shuffled by ``rng``.

    images: (N, ...), labels: (N,)  ->  (B, ...), (B,)

    >>> [y.tolist() for _, y in batches(np.zeros((3, 1)), np.arange(3), size=2)]
    [[0, 1], [2]]
    """
    if size < 1:
        raise ValueError(f"size must be at least 1, got {size}")
    n = len(images)
    order = np.arange(n) if rng is None else rng.permutation(n)
    for i in range(0, n, size):
        chosen = order[i : i + size]
        yield images[chosen], labels[chosen]


def halve(images: Array) -> Array:
    """Average 2 x 2 pixels, ties to even: half the height and half the width.

    images: (N, C, H, W) uint8, H and W even  ->  (N, C, H / 2, W / 2) uint8

    >>> halve(np.array([[[[0, 2], [4, 4]]]], np.uint8))
    array([[[[2]]]], dtype=uint8)
    """
    n, c, h, w = images.shape
    if h % 2 or w % 2:
        raise ValueError(f"H and W must be even: images{images.shape}")
    means = images.reshape(n, c, h // 2, 2, w // 2, 2).mean((3, 5))
    return np.rint(means).astype(np.uint8)


def crop_and_flip(
    images: Array,
    rng: np.random.Generator,
    *,
    padding: int = 4,
    flip: bool = True,
    value: float = 0,
) -> Array:
    """Pad with ``value``, crop at random to the old size, mirror every second image.

    images: (N, C, H, W)  ->  (N, C, H, W)

    >>> x = np.ones((1, 1, 2, 2), np.uint8)
    >>> crop_and_flip(x, np.random.default_rng(0), padding=0)[0, 0]
    array([[1, 1],
           [1, 1]], dtype=uint8)
    """
    n, _, h, w = images.shape
    sides = ((0, 0), (0, 0), (padding, padding), (padding, padding))
    padded = np.pad(images, sides, constant_values=value)
    top = rng.integers(0, 2 * padding + 1, (n, 1))
    left = rng.integers(0, 2 * padding + 1, (n, 1))
    rows = top + np.arange(h)  # (N, H)
    cols = left + np.arange(w)  # (N, W)
    if flip:
        cols = np.where(rng.random((n, 1)) < 0.5, cols[:, ::-1], cols)
    every = np.arange(n)[:, None, None]
    picked = padded[every, :, rows[:, :, None], cols[:, None]]  # (N, H, W, C)
    return np.ascontiguousarray(picked.transpose(0, 3, 1, 2))


def textures(
    train: int,
    test: int,
    *,
    rng: np.random.Generator,
    classes: int = 10,
    per_class: int = 3,
    size: int = 10,
    plane: int | None = None,
    shifts: int | None = None,
    smoothness: float = 1.5,
    gains: Sequence[float] = (0.7, 1.0, 1.3),
    noise: float = 1.1,
) -> Dataset:
    """Crops of smooth random textures, some for each class, with random gain and noise.

    image = gain * (a crop of a periodic plane of unit variance) + noise * N(0, 1)

    A plane has ``plane`` pixels a side, 4 ``size`` by default, and a crop begins at one
    of the first ``shifts`` pixels along each side, all by default: the more crops, the
    more there is to learn. Raises ValueError for planes smaller than a crop, and shifts
    that are not in [1, plane].

    train, test: numbers of images  ->  images: (N, 1, size, size) float32, labels: (N,)
    """
    side = 4 * size if plane is None else plane
    if side < size:
        raise ValueError(f"plane must be at least size = {size}, got {plane}")
    starts = side if shifts is None else shifts
    if not 1 <= starts <= side:
        raise ValueError(f"shifts must be in [1, plane = {side}], got {shifts}")
    planes = smooth_planes(classes * per_class, side, smoothness, rng)

    def draw(count: int) -> tuple[Float, Int]:
        labels = rng.integers(0, classes, count)
        plane = labels * per_class + rng.integers(0, per_class, count)
        top, left = rng.integers(0, starts, (2, count))
        rows = (top[:, None] + np.arange(size)) % side
        cols = (left[:, None] + np.arange(size)) % side
        crops = planes[plane[:, None, None], rows[:, :, None], cols[:, None]]
        gain = rng.choice(np.asarray(gains), count)[:, None, None]
        images = gain * crops + noise * rng.standard_normal(crops.shape)
        return images[:, None].astype(np.float32), labels

    return Dataset(*draw(train), *draw(test))


def smooth_planes(
    count: int, size: int, smoothness: float, rng: np.random.Generator
) -> Float:
    """White noise blurred by a Gaussian of ``smoothness`` pixels; unit variance.

    ->  (count, size, size)
    """
    frequency = np.fft.fftfreq(size)
    squared = frequency[:, None] ** 2 + frequency**2
    blur = np.exp(-2 * (np.pi * smoothness) ** 2 * squared)
    white = rng.standard_normal((count, size, size))
    planes = np.fft.ifft2(np.fft.fft2(white) * blur).real
    planes -= planes.mean(axis=(1, 2), keepdims=True)
    return planes / planes.std(axis=(1, 2), keepdims=True)
