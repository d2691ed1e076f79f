"""The gallery: pages show what quantizers do; the study draws and refuses them."""

import re
from pathlib import Path

import numpy as np
import pytest

from refqnn.core import Run
from refqnn.networks.methods import METHODS
from refqnn.plots.quantizer import measure, title_of
from refqnn.studies import gallery
from refqnn.studies.study import study_named

pytestmark = pytest.mark.compiled


def drawn(folder, **given):
    study = study_named("gallery")
    settings = study.settings_with(**given)
    rows = study.rows(settings, *study.outcomes(settings, folder, workers=1))
    return rows, [*study.lines(settings, rows)]


SMALL = {"epochs": 1, "images": 80, "width": 0.1}


def test_pages_are_drawn_once_and_of_a_network_that_is_given(tmp_path):
    methods = ("qil", "xnor")
    rows, lines = drawn(tmp_path / "first", methods=methods, **SMALL)
    assert {name: page["bits"] for name, page in rows.items()} == {"qil": 4, "xnor": 1}
    assert rows["qil"]["weights"]["levels"] == 15
    assert lines[1].split()[:3] == ["qil", "4", "15"]
    pictures = [Path(page["file"]).read_bytes() for page in rows.values()]
    assert all(picture[:4] == b"\x89PNG" for picture in pictures)
    (trained,) = (tmp_path / "first").glob("float_*.npz")
    assert drawn(tmp_path / "first", methods=methods, **SMALL)[0] == rows
    again, _ = drawn(tmp_path / "again", methods=("qil",), weights=str(trained))
    assert again["qil"]["weights"] == rows["qil"]["weights"]
    assert not list((tmp_path / "again").glob("*.npz"))


def test_methods_without_the_bits_are_left_out(tmp_path, monkeypatch):
    few = {name: METHODS[name] for name in ("qil", "xnor", "twn")}
    monkeypatch.setattr(gallery, "METHODS", few)
    rows, lines = drawn(tmp_path, bits=3, **SMALL)
    assert list(rows) == ["qil"]
    assert lines[-1] == "not defined for 3 bits: twn, xnor"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"methods": "nothing"}, "method must be one of"),
        ({"methods": "qil,nothing", "bits": 4}, "method must be one of"),
        ({"methods": "xnor", "bits": 3}, "xnor is not for 3 bits: weight_bits of xnor"),
        ({"methods": "qil", "bits": 1}, r"qil is not for 1 bits: bits must be an int"),
        ({"bits": 99}, "no method is defined for 99 bits"),
        ({"weights": "absent.npz"}, "absent.npz"),
        ({"epochs": 0}, "epochs must be at least 1"),
    ],
)
def test_what_cannot_be_drawn_is_refused(given, message):
    with pytest.raises((ValueError, OSError), match=message):
        gallery.STUDIES[0].settings_with(**given)


def test_without_names_every_method_that_has_the_bits_is_drawn():
    assert set(gallery.Gallery().pages()) == set(METHODS)
    with_three = gallery.Gallery(bits=3).pages()
    assert {"qil", "lsq", "abc"} < set(with_three)
    assert not {"xnor", "tsq", "twn"} & set(with_three)
    assert gallery.Gallery(methods=("ttq",)).pages() == {"ttq": 2}


@pytest.fixture
def layer(rng):
    inputs = np.maximum(rng.normal(size=(6, 3, 5, 5)), 0)
    return gallery.Layer("conv", rng.normal(size=(4, 3, 3, 3)) / 3, inputs)


@pytest.mark.parametrize("of", ["weights", "inputs"])
@pytest.mark.parametrize("name", METHODS)
def test_a_page_shows_what_the_quantizer_does(name, of, layer):
    v = getattr(layer, of)
    bits = gallery.default_bits(name)
    quantizer = gallery.quantizers(name, bits, v.shape)[of == "inputs"]
    row = measure(of, quantizer, v)
    run = Run().recording()
    y, _ = quantizer.forward(v, run)
    drawn = np.isin(v, row.values)
    np.testing.assert_array_equal(np.sort(v[drawn]), np.sort(row.values))
    inside = drawn & ~np.isin(v, row.boundaries)
    steps = row.levels[np.searchsorted(row.boundaries, v[inside])]
    np.testing.assert_array_equal(steps, y[inside])
    for level in np.unique(row.levels):
        share = row.shares[row.levels == level].sum()
        np.testing.assert_allclose(share, np.mean(y[drawn] == level))
    h = 1e-6
    for point, slope in list(zip(row.points, row.slopes, strict=True))[::5]:
        i = int(np.flatnonzero(v == point)[0])
        ends = []
        for step in (h, -h):
            moved = v.copy()
            moved.flat[i] += step
            ends.append(quantizer.forward(moved, run.replaying(run.tape))[0].flat[i])
        np.testing.assert_allclose((ends[0] - ends[1]) / (2 * h), slope, atol=1e-6)


def test_the_page_of_qil_at_3_bits_is_the_one_on_paper():
    """c = d = max |w| / 2 = 0.6: T = |w| / 1.2, boundaries at 1.2 (k - 1/2) / 3."""
    w = np.array([[-1.2, -0.5, 0.1, 0.3, 0.9]])
    row = measure("Weights", gallery.quantizers("qil", 3, w.shape)[0], w)
    np.testing.assert_allclose(row.boundaries, [-1, -0.6, -0.2, 0.2, 0.6, 1])
    np.testing.assert_allclose(row.levels * 3, [-3, -2, -1, 0, 1, 2, 3])
    np.testing.assert_allclose(row.shares, [0.2, 0, 0.2, 0.2, 0.2, 0.2, 0])
    np.testing.assert_allclose(row.points, np.sort(w[0]))
    np.testing.assert_allclose(row.slopes, np.array([0, 1, 1, 1, 1]) / 1.2)
    assert not row.coupled
    # dc = -mean sgn(w) dw = -(3 - 1) / 1.2 / 5, dd = -mean sgn(w) dw (|w| - c) / d
    dd = -sum(np.array([-1, 1, 1, 1]) * (np.array([5, 1, 3, 9]) - 6) / 6) / 1.2 / 5
    t = np.array([5, 1, 3, 9]) / 12
    dgamma = sum(np.array([-1, 1, 1, 1]) * t * np.log(t)) / 5
    want = f"gradients of mean y: c {-1 / 3:.2g}, d {dd:.2g}, gamma {dgamma:.2g}"
    assert row.learned == want
    y = np.array([-3, -1, 0, 1, 2]) / 3
    np.testing.assert_allclose(row.error, np.mean((y - w[0]) ** 2) / np.var(w))
    k = np.sum(y * w) / np.sum(y * y)
    np.testing.assert_allclose(row.scaled_error, np.mean((k * y - w) ** 2) / np.var(w))


def test_a_decay_is_no_gradient_of_y_and_bases_are_not_bits():
    x = np.array([[0.0, 0.25, 0.5, 0.25, 0.75, 0.5, 0.75, 1.0]])
    clip = gallery.quantizers("pact", 4, x.shape)[1]
    row = measure("Activations", clip, x)
    assert clip.decay > 0
    assert row.learned == "gradients of mean y: alpha 0.12"  # 1/8: one clipped
    layer = gallery.Layer("conv", np.arange(72.0).reshape(2, 4, 3, 3), x)
    assert gallery.page("abc", 3, layer, "").title.endswith(" of 3 bases")
    assert gallery.page("haq", 3, layer, "").title.endswith(" of 3 bits")


def test_a_group_of_middling_spread_is_drawn():
    w = np.outer([5.0, 1.0, 3.0], [-2.0, -1.0, 0.5, 1.0])
    row = measure("Weights", gallery.quantizers("twn", 2, w.shape)[0], w)
    assert row.note == "12 values"
    row = measure("Weights", gallery.quantizers("xnor", 1, w.shape)[0], w)
    assert row.note == "filter 3 of 3: 4 values"
    np.testing.assert_array_equal(row.values, [-6, -3, 1.5, 3])
    assert row.coupled


def test_equal_values_are_refused():
    w = np.ones((2, 3))
    with pytest.raises(ValueError, match=r"weights must differ, all are 1\.0"):
        measure("Weights", gallery.quantizers("twn", 2, w.shape)[0], w)


def test_quantizers_are_cited_in_short():
    said = {
        title_of(quantizer)
        for name in METHODS
        for quantizer in gallery.quantizers(
            name, gallery.default_bits(name), gallery.ANY_SHAPE
        )
    }
    short = r".+ \(\w+ et al\., ((20\d\d, )?arXiv:\d{4}\.\d{5}|2017|2018)\)"
    assert all(re.fullmatch(short, text) for text in said)
    assert any(text.endswith("(Jung et al., 2019, arXiv:1808.05779)") for text in said)
    assert any(text.endswith("(Zhou et al., arXiv:1606.06160)") for text in said)
    assert any(text.endswith("(Wang et al., 2018)") for text in said)
