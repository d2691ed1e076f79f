"""One's own images: a folder of classes, an archive of named arrays.

read_folder(folder)           folder/CLASS/*.png; read by Pillow (extra ``images``)
read_arrays(path)             images and labels of an npz
read_dataset(path)            a whole data set: an npz of four arrays; a folder of
                              train/CLASS and test/CLASS, of MNIST's IDX files, or of
                              the binary files of CIFAR
"""

import importlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from refqnn._types import Array, Int
from refqnn.data.images import Dataset, as_images, as_labels, dataset
from refqnn.data.published import published_in, read_cifar10, read_images
from refqnn.files import StrPath, Unreadable, read_npz

#: what Pillow reads without loss, and JPEG, whose pixels depend on the decoder
SUFFIXES = (".png", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".jpg", ".jpeg")
#: four arrays of an npz: as ``Dataset`` names them, and as Keras does
PARTS = (Dataset._fields, ("x_train", "y_train", "x_test", "y_test"))


class Folder(NamedTuple):
    """The images of a folder, and the names of its classes in the order of labels."""

    images: Array  # (N, C, H, W) uint8
    labels: Int  # (N,)
    classes: tuple[str, ...]

    def __repr__(self) -> str:
        kind = f"{self.images.dtype} {self.images.shape}"
        return f"Folder({kind}, {len(self.classes)} classes: {', '.join(self.classes)})"


def read_folder(
    folder: StrPath, *, mode: str | None = None, classes: tuple[str, ...] | None = None
) -> Folder:
    """Read ``folder/CLASS/*.png``: the classes are the sorted names of its folders.

    ``mode`` "L" makes gray images, "RGB" colour ones; by default they are as stored,
    palettes as colours. ``classes`` fixes the order, that of another folder. Names that
    begin with a dot are passed over.

    Raises ValueError, with the file, for what is no image, for images of several sizes
    or modes, for a class without images and for an image outside of the classes;
    ImportError where Pillow is missing.
    """
    reader = pillow()
    root = Path(folder)
    if not root.is_dir():
        raise ValueError(f"{root} is not a folder of one folder a class")
    entries = sorted(p for p in root.iterdir() if not p.name.startswith("."))
    if loose := [p for p in entries if not p.is_dir()]:
        raise ValueError(f"{loose[0]} is in no folder of a class")
    names = tuple(p.name for p in entries) if classes is None else classes
    if len(names) < 2 or {p.name for p in entries} != set(names):
        want = "at least two" if classes is None else list(classes)
        have = [p.name for p in entries]
        raise ValueError(f"{root} must have one folder a class, {want}, got {have}")
    images: list[Array] = []
    labels: list[int] = []
    for label, name in enumerate(names):
        files = sorted(p for p in (root / name).iterdir() if p.name[0] != ".")
        if not files:
            raise ValueError(f"{root / name} holds no image")
        for path in files:
            pixels = read_image(reader, path, mode)
            if images and pixels.shape != images[0].shape:
                raise ValueError(
                    f"{path} is {pixels.shape}, the images before it are "
                    f"{images[0].shape} (C, H, W)"
                )
            images.append(pixels)
            labels.append(label)
    return Folder(np.stack(images), np.array(labels, np.int64), names)


def pillow() -> Any:
    """Import Pillow's Image; ImportError says how to install it."""
    try:
        return importlib.import_module("PIL.Image")
    except ImportError as error:
        raise ImportError(
            "folders of images need Pillow: pip install 'refqnn[images]'"
        ) from error


def read_image(reader: Any, path: Path, mode: str | None) -> Array:
    """Read one file: (C, H, W) uint8; ValueError for what has no 8-bit channels."""
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"{path} must end in one of {', '.join(SUFFIXES)}")
    try:
        with reader.open(path) as image:
            whole = image if mode is None else image.convert(mode)
            if whole.mode in {"P", "1"}:
                whole = whole.convert("RGB" if whole.mode == "P" else "L")
            pixels = np.array(whole)
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"{path} is no whole image: {error}") from error
    if pixels.dtype != np.uint8 or pixels.ndim not in {2, 3}:
        raise ValueError(f"{path} must have 8 bits a channel, got mode {whole.mode!r}")
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def read_arrays(
    path: StrPath, *, images: str = "images", labels: str = "labels"
) -> tuple[Array, Int]:
    """Read images and labels of an npz, by the names of its arrays.

    ->  images: (N, C, H, W) uint8 or floats, labels: (N,)
    """
    arrays = read_npz(path)
    for name in (images, labels):
        if name not in arrays:
            raise ValueError(f"{path} holds no array {name!r}, but {sorted(arrays)}")
    pixels = as_images(arrays[images], name=images)
    return pixels, as_labels(arrays[labels], len(pixels), name=labels)


def read_dataset(path: StrPath) -> Dataset:
    """Read images to train on and to judge by: npz, class folders, CIFAR or IDX.

    An npz has train_images, train_labels, test_images, test_labels or x_train, y_train,
    x_test, y_test. Raises Unreadable for anything else, with what was looked for.
    """
    root = Path(path)
    if root.is_file():
        arrays = read_npz(root)
        for names in PARTS:
            if set(names) <= arrays.keys():
                return dataset(*(arrays[name] for name in names))
        raise ValueError(f"{root} must hold {PARTS[0]} or {PARTS[1]}: {sorted(arrays)}")
    if (root / "train").is_dir() and (root / "test").is_dir():
        train = read_folder(root / "train")
        test = read_folder(root / "test", classes=train.classes)
        return dataset(train.images, train.labels, test.images, test.labels)
    if (root / "data_batch_1").is_file():
        read_cifar10(root / "data_batch_1")  # a pickle: it says how to convert it
    if of := published_in(root):
        return read_images(of, root)
    raise Unreadable(
        f"{root} must be an npz, or a folder that holds train/CLASS and test/CLASS, "
        "data_batch_*.bin and test_batch.bin, train.bin and test.bin, or "
        "train-images-idx3-ubyte"
    )
