"""Subsets, batches, augmentation and synthetic textures, drawn from a generator."""

from collections.abc import Iterator, Sequence

import numpy as np

from refqnn._types import Array, Float, Int
from refqnn.data.images import Dataset


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
    """Crop smooth random textures, some for each class, with random gain and noise.

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
    """Blur white noise by a Gaussian of ``smoothness`` pixels; unit variance.

    ->  (count, size, size)
    """
    frequency = np.fft.fftfreq(size)
    squared = frequency[:, None] ** 2 + frequency**2
    blur = np.exp(-2 * (np.pi * smoothness) ** 2 * squared)
    white = rng.standard_normal((count, size, size))
    planes = np.fft.ifft2(np.fft.fft2(white) * blur).real
    planes -= planes.mean(axis=(1, 2), keepdims=True)
    return planes / planes.std(axis=(1, 2), keepdims=True)
