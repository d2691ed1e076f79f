"""Data sets as they are published: IDX (MNIST), CIFAR binary, the embedded subset."""

import math
import os
from collections.abc import Mapping, Sequence
from hashlib import sha256
from importlib import resources
from pathlib import Path
from types import MappingProxyType

import numpy as np

from refqnn._types import Array, Int
from refqnn.data.drawing import balanced_subset
from refqnn.data.images import Dataset, checked_labels
from refqnn.files import Absent, StrPath, read_bytes, read_npz

#: type code of the IDX header -> big-endian dtype
IDX_DTYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
#: published data set -> a file that its folder holds
SIGNS: Mapping[str, str] = MappingProxyType(
    {
        "cifar100": "train.bin",
        "cifar10": "test_batch.bin",
        "fashion_mnist": "train-images-idx3-ubyte*",
    }
)
#: images -> options of a network for them, where not one channel and ten classes
IMAGE_OPTIONS: Mapping[str, Mapping[str, int]] = MappingProxyType(
    {
        "cifar10": {"in_channels": 3, "classes": 10},
        "cifar100": {"in_channels": 3, "classes": 100},
    }
)
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
    "convert it once, where it is trusted: d = pickle.loads("
    "pathlib.Path(path).read_bytes(), encoding='bytes'); numpy.savez('batch.npz', "
    "images=d[b'data'].reshape(-1, 3, 32, 32), labels=d[b'labels']); "
    "then refqnn.data.read_arrays('batch.npz')"
)


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
    raise Absent(f"{folder} holds neither {name} nor {name}.gz")


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
    if not every:
        raise ValueError("paths must name at least one file of records, got none")
    size = label_bytes + 3072
    records = []
    for path in every:
        content = read_bytes(path)
        # no label is as large as the first byte of a pickle
        if content[:1] in {b"\x80", b"}", b"("} and content[-1:] == b".":
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


def source(name: str, *others: str, cifar: bool = False) -> tuple[str, str | None]:
    """Return which images a name means, and the folder of their files.

    "embedded", one of ``others`` that the caller knows, or the folder of Fashion-MNIST,
    with ``cifar`` also that of the binary files of CIFAR-10 or CIFAR-100. Raises
    ValueError where there is no such folder, and FileNotFoundError where it does not
    hold them.

    >>> source("embedded")
    ('embedded', None)
    """
    names = ("embedded", *others)
    if name in names:
        return name, None
    if not Path(name).is_dir():
        known = ", ".join(map(repr, names))
        raise ValueError(f"images must be {known} or a folder, got {name!r}")
    of = published_in(Path(name))
    if of in IMAGE_OPTIONS and cifar:
        return of, name
    idx_file(Path(name), "train-images-idx3-ubyte")
    return "fashion_mnist", name


def published_in(folder: Path) -> str:
    """Say which published data set a folder holds, by one of its files; "" for none.

    >>> published_in(Path("nowhere"))
    ''
    """
    for of, name in SIGNS.items():
        if any(folder.glob(name)):
            return of
    return ""


def read_images(of: str, folder: StrPath | None = None) -> Dataset:
    """Read the data set that ``source`` names; ValueError where its folder is missing.

    >>> read_images("embedded").train_labels.shape
    (4000,)
    """
    if of == "embedded":
        return embedded()
    if of not in SIGNS:
        names = ", ".join(map(repr, SIGNS))
        raise ValueError(f"images must be of 'embedded', {names}, got {of!r}")
    if folder is None:
        raise ValueError(f"images of {of!r} need the folder of its files")
    if of == "fashion_mnist":
        return fashion_mnist(folder)
    root = Path(folder)
    if of == "cifar100":
        fine = [read_cifar100(root / name) for name in ("train.bin", "test.bin")]
        return Dataset(*fine[0], *fine[1])
    batches = sorted(root.glob("data_batch_*.bin"))
    if not batches:
        raise ValueError(f"{root} holds test_batch.bin and no data_batch_*.bin")
    return Dataset(*read_cifar10(batches), *read_cifar10(root / "test_batch.bin"))


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
