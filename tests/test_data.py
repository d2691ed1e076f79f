"""Readers refuse what is damaged; augmentation and textures are what they say."""

import gzip
import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest
from refusals import refuses

from refqnn import data

ROOT = Path(__file__).parents[1]
IDX_CODES = {"u1": 8, "i1": 9, "i2": 11, "i4": 12, "f4": 13, "f8": 14}


def idx(array):
    """Write an array as an IDX file's content."""
    header = struct.pack(
        f">HBB{array.ndim}I",
        0,
        IDX_CODES[array.dtype.str[1:]],
        array.ndim,
        *array.shape,
    )
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def write(path, content):
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("dtype", IDX_CODES)
@pytest.mark.parametrize("shape", [(6,), (2, 3), (2, 1, 3), (0, 4), ()])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_idx_round_trip(tmp_path, rng, dtype, shape, pack):
    array = rng.integers(0, 100, shape).astype(dtype) * (-1 if dtype != "u1" else 1)
    array = np.asarray(array, dtype)
    read = data.read_idx(write(tmp_path / "a", pack(idx(array))))
    np.testing.assert_array_equal(read, array)
    assert read.dtype == array.dtype
    assert read.dtype.isnative


CONTENT = idx(np.arange(6, dtype=np.int16).reshape(2, 3))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "magic"),
        (b"\0\0\x08", "magic"),
        (b"\0\1" + CONTENT[2:], "magic"),
        (b"\1\0" + CONTENT[2:], "magic"),
        (b"\0\0\x0a" + CONTENT[3:], "magic number 0x00000a02"),
        (CONTENT[:10], "within its header of 12 bytes"),
        (CONTENT[:-1], "24 bytes in all, but holds 23"),
        (CONTENT + b"\0", "24 bytes in all, but holds 25"),
        (gzip.compress(CONTENT, mtime=0)[:-9], "gzip"),
        (gzip.compress(CONTENT, mtime=0)[:12], "gzip"),
        (gzip.compress(CONTENT, mtime=0)[:12] + b"\xff" * 20, "gzip"),
    ],
)
def test_damaged_idx_is_refused(tmp_path, content, message):
    refuses(message, data.read_idx, write(tmp_path / "a", content))


def mnist_folder(folder, *, images=4, labels=4, largest=9, pack=bytes, suffix=""):
    for part in ("train", "t10k"):
        pixels = np.arange(images * 6, dtype=np.uint8).reshape(images, 2, 3)
        classes = np.full(labels, largest, np.uint8)
        write(folder / f"{part}-images-idx3-ubyte{suffix}", pack(idx(pixels)))
        write(folder / f"{part}-labels-idx1-ubyte{suffix}", pack(idx(classes)))
    return folder


@pytest.mark.parametrize(("pack", "suffix"), [(bytes, ""), (gzip.compress, ".gz")])
def test_fashion_mnist_folder(tmp_path, pack, suffix):
    read = data.fashion_mnist(mnist_folder(tmp_path, pack=pack, suffix=suffix))
    assert read.train_images.shape == read.test_images.shape == (4, 1, 2, 3)
    np.testing.assert_array_equal(read.train_images.ravel(), np.arange(24))
    np.testing.assert_array_equal(read.test_labels, [9, 9, 9, 9])
    assert read.train_labels.dtype == np.int64


def test_fashion_mnist_folder_refuses(tmp_path):
    with pytest.raises(FileNotFoundError, match="train-images-idx3-ubyte"):
        data.fashion_mnist(tmp_path)
    with pytest.raises(ValueError, match=r"disagree: images\(4, 2, 3\), labels\(5,\)"):
        data.fashion_mnist(mnist_folder(tmp_path, labels=5))
    with pytest.raises(ValueError, match=r"train labels must be in 0\.\.9, got 10"):
        data.fashion_mnist(mnist_folder(tmp_path, largest=10))
    write(tmp_path / "train-images-idx3-ubyte", idx(np.zeros((4, 6), np.uint8)))
    refuses("disagree", data.fashion_mnist, tmp_path)


def test_images_by_name(tmp_path):
    refuses("'embedded' or a folder, got '/nowhere'", data.source, "/nowhere")
    assert data.source("noise", "noise") == ("noise", None)
    refuses("'embedded', 'noise' or a folder, got 'hum'", data.source, "hum", "noise")
    with pytest.raises(FileNotFoundError, match="train-images-idx3-ubyte"):
        data.source(str(tmp_path))
    of, folder = data.source(str(mnist_folder(tmp_path)))
    assert (of, folder) == ("fashion_mnist", str(tmp_path))
    assert data.read_images(of, folder).test_images.shape == (4, 1, 2, 3)
    for name, message in (("mnist", "got 'mnist'"), (of, "need the folder")):
        refuses(message, data.read_images, name)


@pytest.mark.parametrize("label", [-1, 3])
def test_labels_out_of_range(label):
    refuses(r"labels must be in 0\.\.2", data.checked_labels, np.array([0, label]), 3)


def cifar(labels, rng):
    pixels = rng.integers(0, 256, (len(labels), 3, 32, 32), dtype=np.uint8)
    records = [bytes(ls) + p.tobytes() for ls, p in zip(labels, pixels, strict=True)]
    return b"".join(records), pixels


def test_cifar10(tmp_path, rng):
    first, a = cifar([[3], [9]], rng)
    second, b = cifar([[0]], rng)
    paths = [write(tmp_path / "1.bin", first), write(tmp_path / "2.bin", second)]
    images, labels = data.read_cifar10(paths)
    np.testing.assert_array_equal(images, np.concatenate([a, b]))
    np.testing.assert_array_equal(labels, [3, 9, 0])
    np.testing.assert_array_equal(data.read_cifar10(paths[0])[1], [3, 9])


def test_cifar100(tmp_path, rng):
    content, pixels = cifar([[19, 99], [0, 7]], rng)
    path = write(tmp_path / "train.bin", content)
    images, fine = data.read_cifar100(path)
    np.testing.assert_array_equal(images, pixels)
    np.testing.assert_array_equal(fine, [99, 7])
    np.testing.assert_array_equal(data.read_cifar100(path, coarse=True)[1], [19, 0])


@pytest.mark.parametrize(
    ("read", "labels", "cut", "message"),
    [
        (data.read_cifar10, [[1], [2]], 1, "records of 3073 bytes.* 6145 bytes"),
        (data.read_cifar10, [[1]], 3073, "records of 3073 bytes"),
        (data.read_cifar10, [[10]], 0, r"labels must be in 0\.\.9, got 10\.\.10"),
        (data.read_cifar100, [[1, 2]], 1, "records of 3074 bytes"),
        (data.read_cifar100, [[20, 2]], 0, r"coarse labels must be in 0\.\.19"),
        (data.read_cifar100, [[1, 100]], 0, r"fine labels must be in 0\.\.99"),
    ],
)
def test_damaged_cifar_is_refused(tmp_path, rng, read, labels, cut, message):
    content, _ = cifar(labels, rng)
    path = write(tmp_path / "a.bin", content[: len(content) - cut])
    refuses(message, read, path)


def test_embedded_is_balanced_and_whole():
    subset = data.embedded()
    assert subset.train_images.shape == (4000, 1, 28, 28)
    assert subset.train_images.dtype == subset.test_images.dtype == np.uint8
    np.testing.assert_array_equal(np.bincount(subset.train_labels), [400] * 10)
    np.testing.assert_array_equal(np.bincount(subset.test_labels), [100] * 10)
    assert len(data.FASHION_MNIST_CLASSES) == 10
    assert len(np.unique(subset.train_images, axis=0)) > 3990


EMBEDDED = {
    "train_images": "3354ecca8a10d0c89ff55258c2d34716b1981042dd959c6a55b01659013c3f2e",
    "train_labels": "389b12a7863a425b9c4c18544b7d08284a16b571d43f4a114a028854f829abe9",
    "test_images": "d8e9bacea4ee7b1be0bcd33bedb41e370e1bca9a96f2171a27448cd7efe3b741",
    "test_labels": "f122fe01a95c663920715432f0da058297f880bff8dc1abf547ff976d9dff22b",
}


@pytest.mark.parametrize("name", EMBEDDED)
def test_embedded_has_the_bytes_that_its_readme_lists(name):
    array = getattr(data.embedded(), name)
    found = hashlib.sha256(np.ascontiguousarray(array)).hexdigest()
    assert found == EMBEDDED[name]
    assert found in (ROOT / "refqnn/_embedded/README.md").read_text(encoding="utf-8")


def test_the_recipe_refuses_other_sources(tmp_path):
    folder, output = mnist_folder(tmp_path), tmp_path / "out.npz"
    refuses(r"train-images.* is not that", data.write_subset, folder, output)
    assert not output.exists()


def test_the_recipe_writes_what_embedded_reads(tmp_path, monkeypatch, rng):
    images = np.arange(500 * 10, dtype=np.int64)[:, None]
    labels = rng.permutation(np.arange(500 * 10) % 10)
    whole = data.Dataset(images, labels, images, labels)
    monkeypatch.setattr(data.published, "names_of_other_files", lambda _: [])
    monkeypatch.setattr(data.published, "fashion_mnist", lambda _: whole)
    data.write_subset(tmp_path, tmp_path / "out.npz")
    chosen = data.Dataset(**data.read_npz(tmp_path / "out.npz"))
    np.testing.assert_array_equal(np.bincount(chosen.train_labels), [400] * 10)
    np.testing.assert_array_equal(np.bincount(chosen.test_labels), [100] * 10)
    for part, of in (chosen[:2], chosen[2:]):
        assert len(np.unique(part)) == len(part)
        np.testing.assert_array_equal(labels[part[:, 0]], of)


def test_balanced_subset(rng):
    labels = rng.permutation(np.arange(30) % 3)
    chosen = data.balanced_subset(labels, 4, rng=rng)
    assert len(set(chosen.tolist())) == 12
    np.testing.assert_array_equal(np.bincount(labels[chosen]), [4, 4, 4])
    assert np.any(np.diff(labels[chosen]) < 0)  # classes are mixed
    with pytest.raises(ValueError, match="class 1 has 1 images, fewer than 2"):
        data.balanced_subset(np.array([0, 1, 0]), 2, rng=rng)


def test_batches_cover_everything_once():
    images, labels = np.arange(7)[:, None], np.arange(7) * 10
    for seed in (None, 3):
        source = None if seed is None else np.random.default_rng(seed)
        parts = list(data.batches(images, labels, size=3, rng=source))
        assert [len(y) for _, y in parts] == [3, 3, 1]
        x, y = (np.concatenate(side) for side in zip(*parts, strict=True))
        np.testing.assert_array_equal(x[:, 0] * 10, y)
        np.testing.assert_array_equal(np.sort(y), labels)
    want = np.random.default_rng(3).permutation(7) * 10
    np.testing.assert_array_equal(y, want)
    assert len(list(data.batches(images, labels, size=1))) == 7
    with pytest.raises(ValueError, match="size must be at least 1, got 0"):
        next(data.batches(images, labels, size=0))


def test_halved(rng):
    images = rng.integers(0, 256, (3, 2, 6, 4), dtype=np.uint8)
    got = data.halve(images)
    assert (got.shape, got.dtype) == ((3, 2, 3, 2), np.uint8)
    for i, j in np.ndindex(3, 2):
        square = images[:, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].astype(int)
        want = [round(total / 4) for total in square.sum((2, 3)).ravel().tolist()]
        np.testing.assert_array_equal(got[:, :, i, j].ravel(), want)
    for shape in ((1, 1, 3, 4), (1, 1, 4, 3)):
        refuses("H and W must be even", data.halve, np.zeros(shape, np.uint8))


def test_crop_and_flip_against_a_loop(rng):
    images = rng.integers(1, 200, (20, 2, 5, 4), dtype=np.uint8)
    got = data.crop_and_flip(images, np.random.default_rng(5), padding=2, value=7)
    draws = np.random.default_rng(5)
    top, left = draws.integers(0, 5, (20, 1)), draws.integers(0, 5, (20, 1))
    mirrored = draws.random((20, 1)) < 0.5
    for n in range(20):
        padded = np.full((2, 9, 8), 7, np.uint8)
        padded[:, 2:7, 2:6] = images[n]
        t, s = int(top[n, 0]), int(left[n, 0])
        want = padded[:, t : t + 5, s : s + 4]
        want = want[:, :, ::-1] if mirrored[n, 0] else want
        np.testing.assert_array_equal(got[n], want)
    assert got.dtype == np.uint8
    assert 0 < mirrored.sum() < 20
    assert {0, 4} <= set(top.ravel().tolist())


def test_crop_without_flip_or_padding_is_the_image(rng):
    images = rng.random((3, 1, 4, 4))
    before = images.copy()
    got = data.crop_and_flip(images, rng, padding=0, flip=False)
    np.testing.assert_array_equal(got, images)
    assert not np.shares_memory(got, images)
    np.testing.assert_array_equal(images, before)


def test_crop_and_flip_pads_4_zeros_and_flips_unless_told(rng):
    images = rng.integers(1, 200, (40, 1, 6, 6), dtype=np.uint8)
    plain, told = (
        data.crop_and_flip(images, np.random.default_rng(2), **options)
        for options in ({}, {"padding": 4, "value": 0, "flip": True})
    )
    np.testing.assert_array_equal(plain, told)


@pytest.mark.parametrize(("shifts", "starts"), [(None, 20), (3, 3)])
def test_textures_against_a_loop(shifts, starts):
    settings = {"classes": 4, "per_class": 2, "gains": (0.5, 1.0, 2.0), "noise": 0.25}
    draws = np.random.default_rng(9)
    made = data.textures(
        30, 8, rng=np.random.default_rng(9), size=5, shifts=shifts, **settings
    )
    planes = data.smooth_planes(8, 20, 1.5, draws)
    for images, labels in (made[:2], made[2:]):
        n = len(labels)
        np.testing.assert_array_equal(labels, draws.integers(0, 4, n))
        plane = planes[2 * labels + draws.integers(0, 2, n)]
        top, left = draws.integers(0, starts, (2, n))
        gain, noise = draws.choice([0.5, 1.0, 2.0], n), draws.standard_normal((n, 5, 5))
        for i in range(n):
            crop = np.roll(plane[i], (-top[i], -left[i]), (0, 1))[:5, :5]
            want = gain[i] * crop + 0.25 * noise[i]
            np.testing.assert_array_equal(images[i, 0], want.astype(np.float32))


@pytest.mark.parametrize("shifts", [0, 41])
def test_crops_begin_on_the_plane(shifts, rng):
    with pytest.raises(ValueError, match=rf"in \[1, plane = 40\], got {shifts}"):
        data.textures(1, 1, rng=rng, shifts=shifts)


def test_textures(rng):
    made = data.textures(600, 20, rng=rng, noise=0.0, gains=(2.0,), per_class=2)
    assert made.train_images.shape == (600, 1, 10, 10)
    assert made.test_images.shape == (20, 1, 10, 10)
    assert made.train_images.dtype == np.float32
    assert set(made.train_labels.tolist()) == set(range(10))
    np.testing.assert_allclose(made.train_images.std(), 2.0, rtol=0.05)


def test_textures_are_seeded_and_noise_has_its_size():
    plain, noisy, again = (
        data.textures(200, 10, rng=np.random.default_rng(1), noise=noise)
        for noise in (0.0, 1.1, 1.1)
    )
    np.testing.assert_array_equal(noisy.train_images, again.train_images)
    np.testing.assert_array_equal(plain.train_labels, noisy.train_labels)
    added = noisy.train_images - plain.train_images
    np.testing.assert_allclose(added.std(), 1.1, rtol=0.03)
    np.testing.assert_allclose(added.mean(), 0.0, atol=0.03)


def test_textures_start_from_the_published_settings():
    settings = {
        "classes": 10,
        "per_class": 3,
        "size": 10,
        "smoothness": 1.5,
        "gains": (0.7, 1.0, 1.3),
        "noise": 1.1,
    }
    plain, told = (
        data.textures(30, 10, rng=np.random.default_rng(6), **options)
        for options in ({}, settings)
    )
    for one, other in zip(plain, told, strict=True):
        np.testing.assert_array_equal(one, other)


def test_small_planes_come_round_again(rng):
    made = data.textures(1, 1, rng=rng, size=8, plane=8, noise=0.0)
    shift = data.textures(1, 1, rng=np.random.default_rng(0), size=8, plane=8)
    assert made.train_images.shape == shift.train_images.shape == (1, 1, 8, 8)
    total = made.train_images.sum()  # a whole period of a plane of mean 0
    np.testing.assert_allclose(total, 0.0, atol=1e-4)
    with pytest.raises(ValueError, match="plane must be at least size = 8, got 7"):
        data.textures(1, 1, rng=rng, size=8, plane=7)


def test_textures_of_a_class_are_alike(rng):
    settings = {"classes": 4, "per_class": 1, "noise": 0.0, "gains": (1.0,)}
    made = data.textures(3000, 100, rng=rng, **settings)
    train, test = made.train_images[:, 0], made.test_images[:, 0]
    far = ((train[None] - test[:, None]) ** 2).sum(axis=(2, 3))
    nearest = made.train_labels[far.argmin(axis=1)]
    assert np.mean(nearest == made.test_labels) > 0.85


def test_planes_are_smooth(rng):
    planes = data.smooth_planes(8, 32, 1.5, rng)
    np.testing.assert_allclose(planes.std(axis=(1, 2)), 1.0)
    np.testing.assert_allclose(planes.mean(axis=(1, 2)), 0.0, atol=1e-12)
    # white noise blurred by exp(-r^2 / (2 s^2)) correlates as exp(-r^2 / (4 s^2))
    neighbours = np.mean(planes * np.roll(planes, 3, axis=2))
    np.testing.assert_allclose(neighbours, np.exp(-9 / (4 * 1.5**2)), atol=0.05)
