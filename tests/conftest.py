"""Hypothesis profiles, and what the compiled and the uncompiled run share."""

import os
import re
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from refqnn import networks

# processes of the suite share the cores: a thread that waits for another sleeps
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

settings.register_profile("dev", max_examples=20, deadline=None)
settings.register_profile("ci", max_examples=100, deadline=None, derandomize=True)
settings.register_profile(
    "thorough",
    max_examples=1000,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("uncompiled", max_examples=5, deadline=None, derandomize=True)
UNCOMPILED = os.environ.get("NUMBA_DISABLE_JIT", "0") == "1"
settings.load_profile(
    os.environ.get("HYPOTHESIS_PROFILE", "uncompiled" if UNCOMPILED else "ci")
)


#: scripts that .ci/run starts beside the wheel alone, and modules of PyTorch
collect_ignore = ["testing/own"]
if find_spec("torch") is None or find_spec("onnx") is None:
    collect_ignore.append("deploy/torch_networks.py")

BOOK = Path(__file__).parents[1] / "docs" / "reading"


def stops():
    """The tests of every stop of the book, by marker: its page lists them."""
    listed = re.compile(r"^```\{stop\} \d+\n(.*?)```", re.MULTILINE | re.DOTALL)
    pages = {page.stem: page.read_text("utf-8") for page in BOOK.glob("stop*.md")}
    return {name: listed.search(pages[name])[1].split() for name in sorted(pages)}


def pytest_configure(config):
    for name in stops():
        config.addinivalue_line(
            "markers", f"{name}: what docs/reading/{name}.md is about"
        )


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    for name, tests in stops().items():
        for item in items:
            own = item.nodeid.split("[")[0]
            if any(own == test or own.startswith(f"{test}::") for test in tests):
                item.add_marker(name)
    if UNCOMPILED:
        reasons = {
            "compiled": "about compiled kernels (NUMBA_DISABLE_JIT=1)",
            "once": "runs no kernel: the compiled run is enough",
        }
        for item in items:
            for name in reasons.keys() & item.keywords.keys():
                item.add_marker(pytest.mark.skip(reason=reasons[name]))


@pytest.fixture
def rng():
    return np.random.default_rng(20240607)


@pytest.fixture(autouse=True)
def methods_as_before():
    """Methods that a test or a page registers are gone after it."""
    before = dict(networks.METHODS)
    yield
    networks.METHODS.clear()
    networks.METHODS.update(before)
