"""The layer of the page on deployment: C, compiled here, and the package agree."""

import ctypes
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from refqnn import deploy, networks
from refqnn.core import Run

SOURCE = Path(__file__).parents[2] / "docs" / "code" / "layer.c"
COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
pytestmark = pytest.mark.skipif(COMPILER is None, reason="there is no C compiler")


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """Compile a text of the page's C, warnings as errors; give its function."""

    def compile_text(text):
        folder = tmp_path_factory.mktemp("layer")
        (folder / "layer.c").write_text(text, encoding="utf-8")
        flags = ["-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
        command = [COMPILER, *flags, "-o", "layer.so", "layer.c"]
        subprocess.run(command, check=True, cwd=folder)
        return ctypes.CDLL(str(folder / "layer.so")).layer

    return compile_text


@pytest.fixture(scope="module")
def stem():
    rng = np.random.default_rng(0)
    bits = {"weight_bits": 4, "activation_bits": 4}
    network = networks.resnet(8, width=0.25, rng=rng, **bits)
    images = rng.integers(0, 256, (4, 1, 28, 28), dtype=np.uint8)
    network.forward(images, Run(training=True))
    integers = deploy.deploy(network)
    return integers.steps[1], images, integers.trace(images)["layers.stem"]


def run(layer, step, image):
    """Run the C on one image of codes (C, H, W)."""
    o, c = step.sum.w.shape[:2]
    h, w = image.shape[1:]
    y = np.empty((o, h, w), np.uint8)
    arrays = [
        np.array(each, np.int32)
        for each in (step.sum.bias, step.sum.fraction_bits, step.multiplier, step.shift)
    ]
    pointer = np.ctypeslib.as_ctypes
    layer(
        pointer(np.array(image).ravel()),
        step.sum.x_zero_point,
        pointer(np.array(step.sum.w).ravel()),
        *(pointer(each) for each in arrays),
        *(c, h, w, o),
        pointer(y.reshape(-1)),
    )
    return y


def test_c_gives_the_codes_of_the_package(compiled, stem):
    step, images, codes = stem
    layer = compiled(SOURCE.read_text("utf-8"))
    assert len(np.unique(codes)) > 8
    for image, want in zip(images, codes, strict=True):
        np.testing.assert_array_equal(run(layer, step, image), want)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("(product + half) >>", "product >>"),
        ("- zero_point", "- zero_point + 1"),
        ("+ bias[o]", ""),
    ],
)
def test_a_broken_line_of_c_is_seen(compiled, stem, right, wrong):
    text = SOURCE.read_text("utf-8")
    assert text.count(right) == 1
    silenced = text.replace(right, wrong).replace(
        "int64_t half", "__attribute__((unused)) int64_t half"
    )
    step, images, codes = stem
    layer = compiled(silenced.replace("const int32_t *bias", UNUSED))
    assert (run(layer, step, images[0]) != codes[0]).any()


UNUSED = "__attribute__((unused)) const int32_t *bias"
