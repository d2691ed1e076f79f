"""One's own images: folders, named arrays, lists; what is wrong with them is said."""

import gzip
import io
import pathlib
import pickle

import numpy as np
import pytest
from refusals import refuses

from refqnn import data
from refqnn.core import Run, named_params
from refqnn.networks import resnet
from refqnn.nn import SGD, Training, accuracy, evaluate, fit
from refqnn.nn.training import cross_entropy

image = pytest.importorskip("PIL.Image", reason="needs the optional package pillow")


def write_folder(root, rng, *, shape=(5, 4), names=("cat", "dog"), count=2):
    every = []
    for name in names:
        (root / name).mkdir(parents=True)
        for i in range(count):
            pixels = rng.integers(0, 256, shape, dtype=np.uint8)
            image.fromarray(pixels).save(root / name / f"{i}.png")
            every.append(pixels)
    return every


def test_a_folder_of_gray_images(tmp_path, rng):
    want = write_folder(tmp_path, rng)
    (tmp_path / ".hidden").touch()
    (tmp_path / "cat" / ".DS_Store").touch()
    images, labels, classes = data.read_folder(tmp_path)
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(images, np.stack(want)[:, None])
    np.testing.assert_array_equal(labels, [0, 0, 1, 1])
    assert labels.dtype == np.int64
    assert classes == ("cat", "dog")


def test_a_folder_of_colour_images(tmp_path, rng):
    want = write_folder(tmp_path, rng, shape=(5, 4, 3))
    read = data.read_folder(tmp_path)
    np.testing.assert_array_equal(read.images, np.stack(want).transpose(0, 3, 1, 2))
    assert data.read_folder(tmp_path, mode="L").images.shape == (4, 1, 5, 4)
    order = data.read_folder(tmp_path, classes=("dog", "cat"))
    np.testing.assert_array_equal(order.images[:2], read.images[2:])


def test_palettes_and_bilevel_images_are_read_as_they_look(tmp_path, rng):
    write_folder(tmp_path, rng, shape=(5, 4, 3))
    for path in tmp_path.glob("*/*.png"):
        colours = image.open(path).convert("P", palette=image.Palette.ADAPTIVE)
        colours.save(path)
    assert data.read_folder(tmp_path).images.shape == (4, 3, 5, 4)
    bits = rng.integers(0, 2, (5, 4)).astype(bool)
    for path in tmp_path.glob("*/*.png"):
        image.fromarray(bits).save(path)
    np.testing.assert_array_equal(data.read_folder(tmp_path).images[0, 0], bits * 255)


def save(shape, dtype=np.uint8):
    """Bytes of an image of zeros."""
    stream = io.BytesIO()
    image.fromarray(np.zeros(shape, dtype)).save(stream, "png")
    return stream.getvalue()


#: what is written over a good folder, by the name of the case
SPOILT = {
    "loose": ("a.png", b""),
    "no image": ("cat/0.png", b"no image"),
    "cut": ("cat/1.png", save((5, 4))[:-30]),
    "text": ("cat/a.txt", b""),
    "size": ("dog/1.png", save((4, 4))),
    "colour": ("dog/1.png", save((5, 4, 3))),
    "16 bit": ("cat/0.png", save((5, 4), np.uint16)),
}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("loose", r"a\.png is in no folder of a class"),
        ("no image", r"0\.png is no whole image"),
        ("cut", r"1\.png is no whole image"),
        ("text", r"a\.txt must end in one of \.png"),
        ("size", r"1\.png is \(1, 4, 4\), the images before it are \(1, 5, 4\)"),
        ("colour", r"1\.png is \(3, 5, 4\), the images before it are \(1, 5, 4\)"),
        ("16 bit", r"0\.png must have 8 bits a channel, got mode 'I;16'"),
    ],
)
def test_what_is_wrong_with_a_folder(tmp_path, rng, name, message):
    write_folder(tmp_path, rng)
    path, content = SPOILT[name]
    (tmp_path / path).write_bytes(content)
    refuses(message, data.read_folder, tmp_path)


def test_no_folder_and_one_class(tmp_path, rng):
    with pytest.raises(ValueError, match="is not a folder of one folder a class"):
        data.read_folder(tmp_path / "nowhere")
    write_folder(tmp_path, rng, names=("cat",))
    refuses(r"at least two, got \['cat'\]", data.read_folder, tmp_path)
    (tmp_path / "dog").mkdir()
    refuses("dog holds no image", data.read_folder, tmp_path)
    with pytest.raises(ValueError, match=r"\['cat', 'cow'\], got \['cat', 'dog'\]"):
        data.read_folder(tmp_path, classes=("cat", "cow"))


def test_without_pillow_the_extra_is_named(tmp_path, monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr("importlib.import_module", missing)
    with pytest.raises(ImportError, match=r"refqnn\[images\]"):
        data.read_folder(tmp_path)


def test_named_arrays(tmp_path, rng):
    path = tmp_path / "a.npz"
    x, y = rng.random((3, 4, 4)), np.array([2, 0, 1], np.int16)
    np.savez(path, images=x, labels=y, other=x)
    images, labels = data.read_arrays(path)
    np.testing.assert_array_equal(images, x[:, None])
    np.testing.assert_array_equal(labels, [2, 0, 1])
    assert labels.dtype == np.int64
    assert data.read_arrays(path, images="other")[0].shape == (3, 1, 4, 4)
    with pytest.raises(ValueError, match=r"no array 'x', but \['images', 'labels', 'o"):
        data.read_arrays(path, images="x")


def test_whole_data_sets(tmp_path, rng):
    x, y = rng.integers(0, 256, (6, 3, 4, 4), np.uint8), np.arange(6) % 3
    for i, names in enumerate(
        [data.Dataset._fields, ("x_train", "y_train", "x_test", "y_test")]
    ):
        path = tmp_path / f"{i}.npz"
        np.savez(path, **dict(zip(names, (x[:4], y[:4], x[4:], y[4:]), strict=True)))
        read = data.read_dataset(path)
        np.testing.assert_array_equal(read.train_images, x[:4])
        np.testing.assert_array_equal(read.test_labels, y[4:])
    np.savez(tmp_path / "2.npz", x=x)
    with pytest.raises(ValueError, match=r"must hold .*train_images.*: \['x'\]"):
        data.read_dataset(tmp_path / "2.npz")
    write_folder(tmp_path / "own" / "train", rng)
    write_folder(tmp_path / "own" / "test", rng, count=1)
    read = data.read_dataset(tmp_path / "own")
    assert [len(part) for part in read] == [4, 4, 2, 2]
    records = np.zeros((2, 3073), np.uint8)
    records[:, 0] = [3, 9]
    (tmp_path / "cifar").mkdir()
    for name in ("data_batch_1", "data_batch_2", "test_batch"):
        (tmp_path / "cifar" / f"{name}.bin").write_bytes(records.tobytes())
    read = data.read_dataset(tmp_path / "cifar")
    assert read.train_labels.tolist() == [3, 9, 3, 9]
    assert read.test_images.shape == (2, 3, 32, 32)
    refuses("must be an npz, or a folder that holds", data.read_dataset, tmp_path)


@pytest.mark.parametrize("protocol", [1, 2, 4])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_pickle_of_cifar_is_to_be_converted(tmp_path, protocol, pack):
    batch = {b"data": np.zeros((2, 3072), np.uint8), b"labels": [0, 3]}
    path = tmp_path / "data_batch_1"
    path.write_bytes(pack(pickle.dumps(batch, protocol=protocol)))
    with pytest.raises(
        ValueError, match=r"data_batch_1 is a pickle.*numpy\.savez"
    ) as e:
        data.read_cifar10(path)
    call = str(e.value).partition("trusted: ")[2].partition("; then")[0]
    if pack is bytes:  # what is said works as it stands
        place = str(tmp_path / "batch.npz")
        call = call.replace("'batch.npz'", repr(place))
        names = {"pickle": pickle, "numpy": np, "pathlib": pathlib, "path": path}
        exec(call, names)  # noqa: S102 - the sentence is under test
        images, labels = data.read_arrays(place)
        assert images.shape == (2, 3, 32, 32)
        assert labels.tolist() == [0, 3]


def test_records_that_begin_and_end_as_a_pickle_are_images(tmp_path):
    records = np.full((2, 3074), ord("."), np.uint8)
    records[:, :2] = 0
    path = tmp_path / "train.bin"
    path.write_bytes(records.tobytes())
    assert data.read_cifar100(path)[0].shape == (2, 3, 32, 32)


GOOD = np.zeros((2, 1, 4, 4), np.uint8)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros((2, 4, 4, 3)), [0, 1], r"train_images\.transpose\(0, 3, 1, 2\)"),
        (np.zeros((2, 16)), [0, 1], r"must be \(N, C, H, W\) or \(N, H, W\), none"),
        (np.zeros((0, 1, 4, 4)), [], r"got \(0, 1, 4, 4\)"),
        (GOOD.astype(int), [0, 1], r"got dtype int64: give .*astype\(numpy.uint8\)"),
        (GOOD.astype(int) - 1, [0, 1], "uint8, float32 or float64, got dtype int64$"),
        ([GOOD[0], GOOD[1][:, :3]], [0, 1], "must be an array or nested lists"),
        (GOOD[:0], [], "none of them 0"),
        (GOOD + np.nan, [0, 1], "must be finite"),
        (GOOD, ["cat", "dog"], r"numpy\.unique\(train_labels, return_inverse=True\)"),
        (GOOD, [[0, 1], [1, 0]], r"train_labels\.argmax\(1\)"),
        (GOOD, [0, 1, 2], r"must be 2, one an image, got \(3,\)"),
        (GOOD, [[0], [1]], r"got \(2, 1\): give train_labels\[:, 0\]"),
        (GOOD, [0.0, 1.0], r"got dtype float64: give train_labels.astype\(int\)"),
        (GOOD, [0.5, 1.0], "must be integers, got dtype float64$"),
        (GOOD, [True, False], "must be integers, got dtype bool"),
        (GOOD, [0, -1], r"train_labels must be in 0\.\.0, got -1\.\.0"),
        (GOOD.astype(np.float32), [0, 1], "one shape and one dtype"),
        (np.zeros((2, 1, 4, 5), np.uint8), [0, 1], "one shape and one dtype"),
    ],
)
def test_what_is_wrong_with_arrays(images, labels, message):
    refuses(message, data.dataset, images, labels, GOOD, [0, 1])


def test_classes_bound_labels():
    with pytest.raises(ValueError, match=r"test_labels must be in 0\.\.1, got 0\.\.2"):
        data.dataset(GOOD, [0, 1], GOOD, [0, 2], classes=2)


def test_lists_train_and_are_judged(rng):
    """Labels as lists, images as floats: the same bits as arrays."""
    x, y = rng.random((8, 1, 8, 8)), [0, 1, 2, 3, 0, 1, 2, 3]

    def trained(images, labels):
        network = resnet(8, width=0.25, classes=4, rng=np.random.default_rng(0))
        training = Training(
            network,
            SGD(named_params(network)),
            lambda _: 0.1,
            np.random.default_rng(1),
            batch=4,
        )
        records = fit(training, (images, labels), epochs=1, test=(images, labels))
        return records[0], evaluate(network, images, labels), network

    record, score, network = trained(list(x), y)
    other, same, _ = trained(x, np.array(y))
    assert score == same
    assert record["test_loss"] == other["test_loss"]
    logits, _ = network.forward(x, Run())
    assert accuracy(logits, y) == score.accuracy
    assert np.isfinite(cross_entropy(network, x, y, Run(training=True))[0])


def test_folders_of_cifar_without_what_is_needed(tmp_path):
    (tmp_path / "test_batch.bin").write_bytes(bytes(3073))
    refuses(r"no data_batch_\*\.bin", data.read_dataset, tmp_path)
    refuses("at least one file", data.read_cifar10, [])
    refuses("at least one file", data.read_cifar10, iter([]))
    (tmp_path / "data_batch_1").write_bytes(pickle.dumps({b"data": 0}))
    refuses("is a pickle, which is never read; convert", data.read_dataset, tmp_path)
