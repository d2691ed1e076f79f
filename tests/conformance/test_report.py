"""A model of a runtime beside its integers: equal, or the first layer that is not."""

import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from deploy.architectures import ARCHITECTURES, PLANES, onnx, quantized
from matplotlib.image import imread

from refqnn import cli
from refqnn.conformance.traces.report import (
    Comparison,
    Row,
    compare_model,
    graph,
    html_page,
    row_of,
)
from refqnn.deploy import IntegerNetwork, import_onnx
from refqnn.deploy.operations import OperationStep
from refqnn.deploy.steps import LayerStep, sources_of

U8S8 = {"activations": "QUInt8", "weights": "QInt8", "per_channel": True}


def model(rng, folder, name, form="QDQ"):
    return quantized(rng, folder, name, form=form, **U8S8)[0]


def with_bug(network, kind):
    """Return a network with a wrong number in a middle step of a kind, and its name."""
    steps = list(network.steps)
    places = [i for i, step in enumerate(steps) if isinstance(step, kind)]
    at = places[len(places) // 2]
    if kind is LayerStep:
        bias = steps[at].sum.bias + 5000
        steps[at] = replace(steps[at], sum=replace(steps[at].sum, bias=bias))
    else:
        options = dict(steps[at].options)
        key = "y_zero_point" if "y_zero_point" in options else "zero_point"
        if "table" in options:
            options["table"] = options["table"][::-1].copy()
        else:
            options[key] += 9
        steps[at] = replace(steps[at], options=options)
    return IntegerNetwork(tuple(steps)), steps[at].name


OPERATIONS = ("residual", "squeeze_excite", "hard_swish", "average_pools")


@pytest.mark.parametrize(
    ("name", "kind"),
    [*((name, LayerStep) for name in ARCHITECTURES),
     *((name, OperationStep) for name in OPERATIONS)],
)  # fmt: skip
def test_a_planted_bug_is_found_at_its_layer(rng, tmp_path, name, kind):
    made = model(rng, tmp_path, name)
    network = import_onnx(made)
    shape = [d.dim_value for d in made.graph.input[0].type.tensor_type.shape.dim]
    x = rng.normal(0, 1, (3, *shape[1:])).astype(np.float32)
    good = compare_model(network, made, x)
    assert (good.exit_code, good.decisions) == (0, 0)
    assert not any(row.different for row in good.rows)
    broken, place = with_bug(network, kind)
    bad = compare_model(broken, made, x)
    assert bad.exit_code == 1
    assert bad.bisection.first.name == place
    wrong = {row.name: row.different for row in bad.rows}
    before = [row.name for row in bad.rows][: list(wrong).index(place)]
    assert wrong[place] > 0
    assert not any(wrong[name] for name in before)
    assert f"class=first><td>{place}" in html_page(bad, "model.onnx")
    assert place in str(bad)
    assert bad.as_dict()["bisection"]["first"]["name"] == place


class Page(HTMLParser):
    """Reads a page: its tags must close in order, and nothing may come from outside."""

    def __init__(self):
        super().__init__()
        self.open, self.rows, self.words = [], 0, []

    def handle_starttag(self, tag, attributes):
        assert tag not in {"script", "link", "img", "iframe"}
        assert not {"src", "href", "onload"} & {key for key, _ in attributes}
        if tag != "meta":
            self.open.append(tag)
        self.rows += tag == "tr"

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def test_the_page_is_whole_and_names_are_escaped(rng, tmp_path):
    made = model(rng, tmp_path, "sequential")
    x = rng.normal(0, 1, (1, *PLANES)).astype(np.float32)
    comparison = compare_model(import_onnx(made), made, x)
    hostile = Row("<script>a&b", "conv", ("<x>",), 10, 10, 3)
    page = Page()
    page.feed(html_page(comparison._replace(rows=(hostile,)), "<b>model"))
    page.close()
    assert (page.open, page.rows) == ([], 2)
    words = "".join(page.words)
    for text in ("<script>a&b", "<x>", "<b>model", "100 %"):
        assert text in words
    assert isinstance(comparison, Comparison)


def test_the_graph_has_every_tensor_and_edge(rng, tmp_path):
    made = model(rng, tmp_path, "inception")
    network = import_onnx(made)
    x = rng.normal(0, 1, (1, *PLANES)).astype(np.float32)
    drawn = graph(compare_model(network, made, x).rows)
    assert drawn.count("<circle") == len(network.steps)
    edges = sum(len(sources_of(step)) for step in network.steps)
    assert drawn.count("<path") == edges
    assert "wrong" not in drawn
    broken, place = with_bug(network, LayerStep)
    assert f">{place}: " in graph(compare_model(broken, made, x).rows)


@pytest.mark.once
def test_a_browser_shows_what_differs(rng, tmp_path):
    """Orange is there where a tensor differs, and nowhere in the page of equal ones."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("there is no chromium on the path")
    made = model(rng, tmp_path, "residual")
    network = import_onnx(made)
    x = rng.normal(0, 1, (1, *PLANES)).astype(np.float32)
    for one, differs in ((network, False), (with_bug(network, LayerStep)[0], True)):
        page, image = tmp_path / "r.html", tmp_path / "r.png"
        page.write_text(html_page(compare_model(one, made, x), "model"), "utf-8")
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        place = [f"--screenshot={image}", "--window-size=1000,1600", page.as_uri()]
        subprocess.run(
            [chromium, *flags, f"--user-data-dir={tmp_path}", *place],
            check=True, capture_output=True, timeout=60,
        )  # fmt: skip
        shown = np.rint(255 * imread(image)[..., :3]).astype(int)
        orange = (np.abs(shown - [0xE4, 0x5A, 0x2A]) < 3).all(axis=-1)
        green = (np.abs(shown - [0x3A, 0x7D, 0x44]) < 3).all(axis=-1)
        assert green.sum() > 100
        assert bool(orange.sum() > 100) is differs


def test_another_shape_is_a_row_of_its_own():
    record = {"kind": "codes", "inputs": ["x"]}
    row = row_of("y", record, np.zeros((1, 4), np.uint8), np.zeros((1, 3), np.uint8))
    assert row == Row("y", "another shape", (), 4, 4, 0)


def test_models_of_other_networks_are_refused(rng, tmp_path):
    made = model(rng, tmp_path, "sequential")
    other = import_onnx(model(rng, tmp_path, "sequential", form="QOperator"))
    x = rng.normal(0, 1, (1, *PLANES)).astype(np.float32)
    with pytest.raises(ValueError, match="the model has no tensor 'x_quantized'"):
        compare_model(other, made, x)


def test_the_command(rng, tmp_path, capsys):
    made = model(rng, tmp_path, "sequential")
    onnx.save(made, tmp_path / "m.onnx")
    network = import_onnx(made)
    network.save(tmp_path / "n.npz")
    np.save(tmp_path / "x.npy", rng.normal(0, 1, (5, *PLANES)).astype(np.float32))
    words = ["compare", str(tmp_path / "m.onnx"), str(tmp_path / "n.npz")]
    images = ["--images", str(tmp_path / "x.npy"), "--count", "3"]
    assert cli.main([*words, *images, "--html", str(tmp_path / "r.html")]) == 0
    assert "decisions  0 of 3 images differ" in capsys.readouterr().out
    assert (tmp_path / "r.html").read_text("utf-8").startswith("<!doctype html>")
    with_bug(network, LayerStep)[0].save(tmp_path / "n.npz")
    assert cli.main([*words, "--json"]) == 1
    (tmp_path / "m.onnx").write_bytes(b"no model")
    assert cli.main(words) == 4
    assert "is not an ONNX model" in capsys.readouterr().err
