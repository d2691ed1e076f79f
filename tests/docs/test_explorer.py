"""The explorer offers every quantizer, and its numbers are those of the package."""

import importlib
import inspect
import sys
from pathlib import Path

import numpy as np
import pytest

from refqnn import quantizers as qz
from refqnn.core import Run
from refqnn.quantizers.module import Quantizer

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def explorer():
    pytest.importorskip("sphinx", reason="sphinx is not installed")
    sys.path.insert(0, str(ROOT / "docs"))
    yield importlib.import_module("book.explorer")
    sys.path.remove(str(ROOT / "docs"))
    for name in [name for name in sys.modules if name.split(".")[0] == "book"]:
        del sys.modules[name]


def test_every_quantizer_can_be_chosen(explorer):
    every = {
        kind
        for _, kind in inspect.getmembers(qz, inspect.isclass)
        if issubclass(kind, Quantizer) and kind.__module__.startswith(qz.__name__)
    }
    offered = {
        type(each.make(each.bits[0], each.values[-1])) for each in explorer.METHODS
    }
    assert offered == every - {Quantizer}


def test_every_equation_is_on_its_page_and_in_its_file(explorer):
    tags = importlib.import_module("book.tags")
    for method in explorer.METHODS:
        assert method.equation.strip()
        assert tags.cuts(method.file, method.tag)


def test_every_setting_has_a_level_and_a_slope_for_every_value(explorer, rng):
    for index, method in enumerate(explorer.METHODS):
        for name, own in explorer.settings(index).items():
            assert len(own.codes) == len(own.slopes) == explorer.GRID.size
            assert own.levels == sorted(set(own.levels)), (method.name, name)
            assert np.isfinite(own.slopes).all()
            assert len({own.levels[code] for code in own.codes}) > 1, method.name
        bits, number = method.bits[-1], method.values[0]
        own = explorer.settings(index)[explorer.key(bits, number)]
        module = method.make(bits, number)
        sample = np.concatenate([explorer.GRID, explorer.SAMPLE])[None]
        if not module.is_known():
            module.forward(sample, Run(training=True, rng=np.random.default_rng(0)))
        y = module.forward(sample, Run())[0][0, : explorer.GRID.size]
        at = rng.integers(explorer.GRID.size, size=20)
        np.testing.assert_array_equal(np.array(own.levels)[own.codes][at], y[at])
