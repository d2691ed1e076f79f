"""The pytest plugin: options ``--refqnn-*``, and a line that says how much was checked.

Loading it imports the standard library only.
"""

from typing import Any


def pytest_addoption(parser: Any) -> None:
    """Add the options."""
    group = parser.getgroup("refqnn", "conformance checks")
    group.addoption(
        "--refqnn-profile",
        default="refqnn",
        help="profile that implementations are judged by (refqnn list profiles)",
    )
    group.addoption(
        "--refqnn-seconds",
        type=float,
        default=10.0,
        help="time limit of a call of a foreign implementation (10)",
    )
    group.addoption(
        "--refqnn-in-process",
        action="store_true",
        help="call foreign implementations in this process, unprotected",
    )


def pytest_generate_tests(metafunc: Any) -> None:
    """Give ``refqnn_options`` to tests that ask for it: keywords of a check."""
    if "refqnn_options" in metafunc.fixturenames:
        config = metafunc.config
        options = {
            "profile": config.getoption("--refqnn-profile"),
            "seconds": config.getoption("--refqnn-seconds"),
            "in_process": config.getoption("--refqnn-in-process"),
        }
        metafunc.parametrize("refqnn_options", [options], ids=[options["profile"]])
