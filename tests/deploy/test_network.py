"""Integer networks: one layer in plain integers, their files, what they say."""

import dataclasses
import json
import pickle
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
from refusals import refuses

import refqnn
from refqnn.core import Run
from refqnn.cost import cost
from refqnn.deploy import IntegerNetwork, deploy
from refqnn.deploy.fold import Grid
from refqnn.deploy.formats.store import FORMAT, digest
from refqnn.deploy.operations import OperationStep
from refqnn.deploy.steps import ImageStep, LayerStep, PoolStep, ResidualStep
from refqnn.files import read_npz, write_npz

SIZE = (8, 8)


def rounded(step, channel, *branches):
    """clip(zero_point + floor(sum acc m 2^(shift - 31) + 1/2)), in exact fractions."""
    total = sum(int(acc) * int(m[channel]) for acc, m in branches)
    shift = int(step.shift[channel])
    t = Fraction(total) * Fraction(2) ** (shift - 31) + Fraction(1, 2)
    code = step.grid.zero_point + t.__floor__()
    return min(max(code, step.grid.q_min), step.grid.q_max)


def accumulator(total, x, n, o, p, q):
    """2^f sum w (x - zero_point) + bias at one output pixel, as a Python int."""
    z, (sh, sw), ((top, _), (left, _)) = total.x_zero_point, total.stride, total.padding
    _, c, kh, kw = total.w.shape
    acc = 0
    for k, i, j in np.ndindex(c, kh, kw):
        h, w = p * sh + i - top, q * sw + j - left
        if 0 <= h < x.shape[2] and 0 <= w < x.shape[3]:
            acc += int(total.w[o, k, i, j]) * (int(x[n, k, h, w]) - z)
    return 2 ** int(total.fraction_bits[o]) * acc + int(total.bias[o])


@pytest.mark.parametrize("shortcut", "AB")
def test_every_step_in_plain_integers(make, rng, images, shortcut):
    network = make(shortcut=shortcut, signs=(-1.0, 0.0, 1.0), image_zero_point=100)
    integer = deploy(network, image_size=SIZE)
    values = integer.trace(images)
    for step in integer.steps[1:]:
        codes = values[step.name]
        assert codes.shape == (len(images), *step.shape)
        for _ in range(8):
            at = tuple(rng.integers(size) for size in codes.shape)
            assert codes[at] == plain(step, values, at), (step.name, at)


@pytest.mark.parametrize("shortcut", "AB")
def test_multiply_adds_are_those_of_the_trained_network(make, images, shortcut):
    network = make(shortcut=shortcut)
    integer = deploy(network, image_size=SIZE)
    spent = integer.multiply_adds(integer.trace(images))
    macs = {layer.name: layer.macs for layer in cost(network, (1, *SIZE)).layers}
    assert spent == {name: len(images) * n for name, n in macs.items()}


def test_multiply_adds_of_operations(rng):
    """Codes that spread a kernel of 2 x 2 over 3 channels; rows by columns of 4."""
    grid = Grid(1.0, 0, 0, 255)
    to_codes = {
        "multiplier": 2**30,
        "shift": 0,
        "zero_point": 0,
        "q_min": 0,
        "q_max": 9,
    }
    w = rng.integers(0, 9, (2, 3, 2, 2)).astype(np.int8)
    rows = {"shape": (2, 4)}
    spread = {"w": w, "stride": 2, "requantize": to_codes}
    b = rng.integers(0, 9, (4, 5)).astype(np.uint8)
    product = {"b": b, "requantize": to_codes}
    steps = (
        ImageStep("x", (2, 2, 2), grid),
        OperationStep("t", ("x",), ("x",), (3, 4, 4), "conv_transpose2d", spread, grid),
        OperationStep("r", ("x",), ("x",), (2, 4), "reshape", rows, grid),
        OperationStep("y", ("r",), ("a",), (2, 5), "matmul", product, grid),
    )
    network = IntegerNetwork(steps)
    codes = rng.integers(0, 9, (6, 2, 2, 2)).astype(np.uint8)
    spent = network.multiply_adds(network.trace(codes))
    assert spent == {"t": 6 * 8 * 12, "y": 6 * 10 * 4}


def plain(step, values, at):
    x = values[step.source]
    n, o, *_ = at
    if isinstance(step, PoolStep):
        acc = sum(int(v) - step.x_zero_point for v in x[n, o].ravel())
        return rounded(step, 0, (acc, step.multiplier))
    if step.sum.w.ndim == 2:
        acc = sum(
            int(w) * (int(v) - step.sum.x_zero_point)
            for w, v in zip(step.sum.w[o], x[n], strict=True)
        )
        acc = 2 ** int(step.sum.fraction_bits[o]) * acc + int(step.sum.bias[o])
        return rounded(step, o, (acc, step.multiplier))
    acc = accumulator(step.sum, x, *at)
    if isinstance(step, LayerStep):
        return rounded(step, o, (acc, step.multiplier))
    assert isinstance(step, ResidualStep)
    skipped = values[step.skip_source]
    if hasattr(step.skip, "w"):
        skip = accumulator(step.skip, skipped, *at)
    else:
        new = (step.skip.channels - skipped.shape[1]) // 2
        k, h, w = o - new, at[2] * step.skip.stride, at[3] * step.skip.stride
        inside = 0 <= k < skipped.shape[1]
        skip = int(skipped[n, k, h, w]) - step.skip.x_zero_point if inside else 0
    return rounded(step, o, (acc, step.multiplier), (skip, step.skip_multiplier))


def test_accumulators_keep_their_stated_width(make, images):
    integer = deploy(make(signs=(-1.0, 1.0), weight_bits=8), image_size=SIZE)
    values = integer.trace(images)
    for step in integer.steps[1:]:
        acc = values[f"{step.name}.accumulator"]
        total = step if isinstance(step, PoolStep) else step.sum
        assert acc.dtype == np.int32
        assert np.abs(acc.astype(np.int64)).max() < 2 ** (total.accumulator_bits - 1)


def test_reals_stand_beside_the_integers(make):
    """Scale times multiplier is the step of the codes, for every branch."""
    integer = deploy(make(shortcut="B"), image_size=SIZE)
    for step in integer.steps[1:]:
        scale = step.scale if isinstance(step, PoolStep) else step.sum.scale
        real = np.ldexp(step.multiplier.astype(float), step.shift - 31)
        np.testing.assert_allclose(real * step.grid.scale, scale, rtol=1e-7)
        if isinstance(step, ResidualStep):
            real = np.ldexp(step.skip_multiplier.astype(float), step.shift - 31)
            scale = step.skip.scale
            np.testing.assert_allclose(real * step.grid.scale, scale, rtol=1e-7)


def test_logits_are_int16_and_near_those_of_the_network(make, images):
    network = make(activation_bits=8, weight_bits=8)
    integer = deploy(network, image_size=SIZE)
    codes = integer.forward(images)
    assert codes.dtype == np.int16
    logits = network.forward(images, Run())[0]
    np.testing.assert_allclose(integer.logits(images), logits, atol=0.1)
    np.testing.assert_array_equal(integer.logits(images), codes * integer.logit_scale)
    np.testing.assert_array_equal(integer.predict(images), codes.argmax(axis=1))


def test_the_largest_logit_uses_the_largest_code(make):
    network = make()
    network.layers["classifier"].b.value[...] = np.linspace(-1, 1, 10)
    last = deploy(network, image_size=SIZE).steps[-1]
    features = [255 * (sign * last.sum.w > 0) for sign in (1, -1)]
    x = np.concatenate(features).astype(np.uint8)
    codes = last.forward({last.source: x}, refqnn.integer)[last.name]
    assert np.abs(codes.astype(int)).max() == 32767


def test_a_classifier_of_zeros_ties(make, images):
    network = make()
    network.layers["classifier"].w.value[...] = 0
    integer = deploy(network, image_size=SIZE)
    assert integer.logit_scale == 1
    assert not integer.forward(images).any()
    assert not integer.predict(images).any()


def test_images_do_not_see_each_other(make, images):
    integer = deploy(make(), image_size=SIZE)
    whole = integer.forward(images)
    alone = np.concatenate([integer.forward(images[i : i + 1]) for i in range(4)])
    np.testing.assert_array_equal(alone, whole)
    want = whole.argmax(axis=1)
    np.testing.assert_array_equal(integer.predict(images, batch=3), want)
    assert integer.predict(images[:0]).shape == (0,)
    assert integer.forward(images[:0]).shape == (0, 10)
    np.testing.assert_array_equal(
        integer.forward(np.asfortranarray(images[:, :, ::-1])[:, :, ::-1]), whole
    )


def test_color_images_and_odd_sizes(make, rng):
    network = make(in_channels=3)
    integer = deploy(network, image_size=(9, 7))
    images = rng.integers(0, 256, (2, 3, 9, 7), dtype=np.uint8)
    assert integer.image_shape == (3, 9, 7)
    assert integer.steps[-3].shape == (16, 3, 2)
    values = integer.trace(images)
    assert all(values[s.name].shape[1:] == s.shape for s in integer.steps)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((1, 1, 8, 8), np.int8), "uint8 array, got int8"),
        (np.zeros((1, 1, 8, 8)), "uint8 array, got float64"),
        ([[[[0]]]], "uint8 array, got list"),
        (np.zeros((1, 1, 8, 9), np.uint8), r"\(N, 1, 8, 8\).* images\(1, 1, 8, 9\)"),
        (np.zeros((1, 3, 8, 8), np.uint8), r"images\(1, 3, 8, 8\)"),
        (np.zeros((1, 8, 8), np.uint8), r"images\(1, 8, 8\)"),
    ],
)
def test_wrong_images_are_refused(make, images, message):
    integer = deploy(make(), image_size=SIZE)
    for use in (integer.forward, integer.predict, integer.trace):
        refuses(message, use, images)


@pytest.mark.parametrize("size", [0, (8, 0), 2.5, (True, 8)])
def test_wrong_sizes_are_refused(make, size):
    refuses("image_size must be", deploy, make(), image_size=size)


def test_nothing_can_be_changed(make, images):
    integer = deploy(make(shortcut="B"), image_size=SIZE)
    with pytest.raises(dataclasses.FrozenInstanceError):
        integer.steps = ()
    for step in integer.steps[1:]:
        with pytest.raises(dataclasses.FrozenInstanceError):
            step.multiplier = 1
        with pytest.raises(ValueError, match="read-only"):
            step.multiplier[...] = 1
        if not isinstance(step, PoolStep):
            for array in (step.sum.w, step.sum.bias, step.sum.scale):
                with pytest.raises(ValueError, match="read-only"):
                    array[...] = 1
    before = images.copy()
    integer.forward(images)
    np.testing.assert_array_equal(images, before)


def test_deployment_leaves_the_network_alone(make, images):
    network = make(signs=(-1.0, 0.0, 1.0))
    before = network.forward(images, Run())[0]
    integer = deploy(network, image_size=SIZE)
    codes = integer.forward(images)
    np.testing.assert_array_equal(network.forward(images, Run())[0], before)
    network.layers["stem"].w.value[...] = 0
    np.testing.assert_array_equal(integer.forward(images), codes)


def test_networks_have_an_image(make):
    steps = deploy(make(), image_size=SIZE).steps
    for broken in (steps[1:], steps[:1], ()):
        refuses("starts with its image", IntegerNetwork, broken)


@pytest.mark.parametrize("shortcut", "AB")
def test_files_hold_everything(make, tmp_path, images, shortcut):
    integer = deploy(make(shortcut=shortcut, signs=(-1.0, 1.0)), image_size=SIZE)
    path = tmp_path / "network.npz"
    integer.save(path)
    read = IntegerNetwork.load(path)
    assert same(read.steps, integer.steps)
    assert str(read) == str(integer)
    want, got = integer.trace(images), read.trace(images)
    assert list(want) == list(got)
    for name, array in want.items():
        np.testing.assert_array_equal(got[name], array)
    with pytest.raises(ValueError, match="read-only"):
        read.steps[1].sum.w[...] = 1
    assert not any(a.dtype.hasobject for a in read_npz(path).values())


def same(a, b):
    """Return whether two nests of dataclasses and arrays are equal, types included."""
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b)
    if type(a) is not type(b):
        return False
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if dataclasses.is_dataclass(a):
        names = [f.name for f in dataclasses.fields(a)]
        return all(same(getattr(a, n), getattr(b, n)) for n in names)
    return a == b


def test_same_tells_apart(make):
    integer = deploy(make(), image_size=SIZE)
    step = integer.steps[1]
    assert not same(step, dataclasses.replace(step, shift=step.shift + 1))
    assert not same(step, dataclasses.replace(step, source="other"))
    assert not same(step.sum.w, step.sum.w.astype(np.int16))


def test_damaged_files_are_refused(make, tmp_path):
    path, integer = tmp_path / "network.npz", deploy(make(), image_size=SIZE)
    integer.save(path)
    content = path.read_bytes()
    for cut in (0, 10, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:cut])
        refuses(r"network\.npz", IntegerNetwork.load, path)
    for at in range(0, len(content), len(content) // 60):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        assert refused_or_same(path, integer)


def refused_or_same(path, integer):
    """A flipped bit may hit what nobody reads, such as a date in the archive."""
    try:
        return same(IntegerNetwork.load(path).steps, integer.steps)
    except ValueError as error:
        return path.name in str(error)


def test_changed_files_are_refused(make, tmp_path):
    path = tmp_path / "network.npz"
    deploy(make(), image_size=SIZE).save(path)
    entries = read_npz(path)
    bias = "layers.stem/sum/bias"
    header = json.loads(str(entries["json"]))
    other_steps = header | {"steps": header["steps"].replace("0.015625", "0.5")}
    for changed in (
        entries | {bias: entries[bias] + 1},
        entries | {bias: entries[bias].astype(np.int64)},
        entries | {bias: entries[bias][:-1]},
        entries | {"more": np.zeros(1)},
        {name: a for name, a in entries.items() if name != bias},
        entries | {"json": np.array(json.dumps(other_steps))},
        entries | {"json": np.array(json.dumps(header | {"sha256": 0}))},
    ):
        write_npz(path, changed)
        refuses(r"network\.npz is damaged", IntegerNetwork.load, path)
    write_npz(path, entries)
    IntegerNetwork.load(path)


@pytest.mark.parametrize(
    "steps",
    [
        "{",
        "3",
        "[3]",
        '[{"kind": "Unknown", "fields": {}}]',
        '[{"kind": "Sum", "fields": {}}]',
        '[{"kind": "Sum"}]',
        '[{"array": "nowhere"}]',
        '[{"grid": [1]}]',
        '[{"grid": [1, 0, 0, 15], "q_min": 7}]',
    ],
)
def test_files_without_steps_are_refused(tmp_path, steps):
    path = tmp_path / "network.npz"
    header = {"format": FORMAT, "sha256": digest(steps, {}), "steps": steps}
    write_npz(path, {"json": np.array(json.dumps(header))})
    refuses(r"holds no steps|is int, no step|starts with", IntegerNetwork.load, path)


def test_other_files_are_refused(make, tmp_path):
    path = tmp_path / "network.npz"
    for entries in (
        {"x": np.zeros(3)},
        {"json": np.array("{")},
        {"json": np.array("[1]")},
        {"json": np.array('{"format": "another"}')},
    ):
        write_npz(path, entries)
        refuses("is not a 'refqnn integer network 1'", IntegerNetwork.load, path)
    path.write_bytes(pickle.dumps(make().config))
    refuses(r"network\.npz", IntegerNetwork.load, path)
    with pytest.raises(OSError, match="nowhere"):
        IntegerNetwork.load(tmp_path / "nowhere.npz")
    with pytest.raises(OSError, match="nowhere"):
        deploy(make(), image_size=SIZE).save(tmp_path / "nowhere" / "network.npz")


def test_the_listing_is_a_table(make):
    integer = deploy(make(shortcut="A"), image_size=SIZE)
    table, meaning = integer.listing().split("\n\n")
    head, *rows = [line.split() for line in table.splitlines()]
    assert head[:3] == ["layer", "operation", "weights"]
    by_name = {row[0] if row[0] != "+" else f"+ {row[1]}": row for row in rows}
    names = [step.name for step in integer.steps]
    assert [n for n in by_name if not n.startswith("+")] == names
    assert [n for n in by_name if n.startswith("+")] == [
        f"+ layers.stage{i}_block1.shortcut" for i in (1, 2, 3)
    ]
    stem = by_name["layers.stem"]
    step = integer.steps[1]
    assert stem[1:7] == ["conv", "3x3", "4x1x3x3", "8", "4x8x8", stem[6]]
    assert stem[7] == str(step.sum.accumulator_bits)
    assert stem[-3:] == ["0..15", "0", f"{step.grid.scale:.6g}"]
    least, most = stem[8].split("..")
    assert (int(least), int(most)) == (step.multiplier.min(), step.multiplier.max())
    assert by_name["layers.stage2_block1.conv1"][1:4] == ["conv", "3x3", "/2x2"]
    assert "padded" in by_name["+ layers.stage2_block1.shortcut"]
    assert "padded" not in by_name["+ layers.stage1_block1.shortcut"]
    assert by_name["layers.classifier"][1:4] == ["linear", "10x16", "8"]
    assert len({len(line) for line in table.splitlines() if line[0] != "+"}) <= 2
    assert "multiplier 2^(shift - 31)" in meaning
    assert str(integer) == integer.listing()


def test_the_listing_shows_weighted_skips(make):
    table = deploy(make(shortcut="B"), image_size=SIZE).listing()
    line = next(x for x in table.splitlines() if x.startswith("+ layers.stage2"))
    cells = line.split()
    assert cells[1] == "layers.stage2_block1.shortcut.layers.conv"
    assert cells[2:7] == ["conv", "1x1", "/2x2", "8x4x1x1", "4"]


def constant(below):
    """Return a requantization whose every code is q_max - below."""

    def requantize(acc, *_, q_min, q_max, **__):
        dtype = refqnn.integer.code_dtype(q_min, q_max)
        return np.full(acc.shape, q_max - below, dtype)

    return requantize


def test_backends_are_handed_down(make, images):
    """A backend with constant requantizations shows in every code."""
    integer = deploy(make(), image_size=SIZE)
    functions = vars(refqnn.integer)
    fakes = {"requantize": constant(1), "requantize_add": constant(2)}
    backend = SimpleNamespace(integer=SimpleNamespace(**functions | fakes))
    values = integer.trace(images, backend)
    assert np.all(values["layers.stem"] == 14)
    assert np.all(values["layers.stage1_block1.conv2"] == 13)
    assert np.all(integer.forward(images, backend) == 32766)
    assert np.all(integer.logits(images, backend) == 32766 * integer.logit_scale)
    assert not integer.predict(images, backend=backend).any()
