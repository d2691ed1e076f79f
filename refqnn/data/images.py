"""Images and labels as arrays: a data set, and what is wrong with one's own."""

from typing import Any, NamedTuple

import numpy as np

from refqnn._types import Array, Int


class Dataset(NamedTuple):
    """Images to train on and images to judge by."""

    train_images: Array  # (N, C, H, W)
    train_labels: Int  # (N,)
    test_images: Array
    test_labels: Int

    def __repr__(self) -> str:
        """Say how many images of what shape there are, and of how many classes.

        >>> Dataset(np.zeros((2, 1, 4, 4)), np.arange(2), np.ones((1, 1, 4, 4)), [0])
        Dataset(2 images to train on, 1 to judge by: float64 (1, 4, 4), 2 classes)
        """
        train, labels, test, _ = self
        kind = f"{train.dtype} {train.shape[1:]}"
        counts = f"{len(train):,} images to train on, {len(test):,} to judge by"
        return f"Dataset({counts}: {kind}, {np.unique(labels).size} classes)"

    def first(self, train: int | None = None, test: int | None = None) -> "Dataset":
        """Return the first images to train on, and to judge by; None is all of them.

        >>> from refqnn.data import embedded
        >>> [len(part) for part in embedded().first(100, 20)]
        [100, 100, 20, 20]
        """
        ends = (train, train, test, test)
        return Dataset(*(part[:end] for part, end in zip(self, ends, strict=True)))


def dataset(
    train_images: Any,
    train_labels: Any,
    test_images: Any,
    test_labels: Any,
    *,
    classes: int | None = None,
) -> Dataset:
    """Make a data set of one's own arrays or lists; says what is wrong with them.

    images: (N, H, W) or (N, C, H, W), uint8 or floats; labels: (N,) in 0..classes - 1

    >>> dataset(np.zeros((2, 4, 4)), [0, 1], np.ones((1, 4, 4)), [1]).test_labels
    array([1])
    """
    parts = []
    for name, images, labels in (
        ("train", train_images, train_labels),
        ("test", test_images, test_labels),
    ):
        pixels = as_images(images, name=f"{name}_images")
        parts += [
            pixels,
            as_labels(labels, len(pixels), classes, name=f"{name}_labels"),
        ]
    train, _, test, _ = parts
    if train.shape[1:] != test.shape[1:] or train.dtype != test.dtype:
        raise ValueError(
            "train_images and test_images must have one shape and one dtype, got "
            f"{train.shape[1:]} {train.dtype} and {test.shape[1:]} {test.dtype}"
        )
    return Dataset(*parts)


def as_images(images: Any, *, name: str = "images") -> Array:
    """Give images as (N, C, H, W), uint8 or finite floats; ValueError for others.

    images: (N, C, H, W), or (N, H, W) of one channel

    >>> as_images(np.zeros((2, 8, 8), np.uint8)).shape
    (2, 1, 8, 8)
    """
    array = array_of(images, name)
    if array.ndim == 4 and array.shape[3] in {1, 3} and array.shape[1] not in {1, 3}:
        raise ValueError(
            f"{name} must be (N, C, H, W), got {array.shape}, channels last: "
            f"give {name}.transpose(0, 3, 1, 2)"
        )
    if array.ndim not in {3, 4} or 0 in array.shape:
        raise ValueError(
            f"{name} must be (N, C, H, W) or (N, H, W), none of them 0, "
            f"got {array.shape}"
        )
    if array.dtype != np.uint8 and array.dtype not in (np.float32, np.float64):
        pixels = array.dtype.kind in "iu" and 0 <= array.min() <= array.max() <= 255
        cure = f": give {name}.astype(numpy.uint8)" if pixels else ""
        raise ValueError(
            f"{name} must be uint8, float32 or float64, got dtype {array.dtype}{cure}"
        )
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, got NaN or infinity")
    return array[:, None] if array.ndim == 3 else array


def array_of(values: Any, name: str) -> Array:
    """Make an array; ValueError for lists of unequal lengths."""
    try:
        return np.asarray(values)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{name} must be an array or nested lists: {error}") from error


def as_labels(
    labels: Any, count: int, classes: int | None = None, *, name: str = "labels"
) -> Int:
    """Give one class an image as int64; says which call makes classes of other labels.

    labels: (N,), an array or a list  ->  (N,)

    >>> as_labels([0, 2], 2)
    array([0, 2])
    """
    array = array_of(labels, name)
    if array.dtype.kind in "US":
        raise ValueError(
            f"{name} must be integers, got strings: "
            f"give numpy.unique({name}, return_inverse=True)[1]"
        )
    if array.ndim == 2 and array.shape[0] == count:
        column = array.shape[1] == 1
        cure = f"give {name}[:, 0]" if column else f"one-hot? give {name}.argmax(1)"
        raise ValueError(f"{name} must be (N,), got {array.shape}: {cure}")
    if array.shape != (count,):
        raise ValueError(f"{name} must be {count}, one an image, got {array.shape}")
    if array.dtype.kind not in "iu":
        whole = array.dtype.kind == "f" and np.array_equal(array, np.rint(array))
        cure = f": give {name}.astype(int)" if whole else ""
        raise ValueError(f"{name} must be integers, got dtype {array.dtype}{cure}")
    most = int(array.max(initial=0)) + 1 if classes is None else classes
    return checked_labels(array, most, name=name)


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
