"""The pytest plugin: options ``--refqnn-*``, and a line that says how much was checked.

Loading it imports the standard library only.
"""

from typing import Any

#: the argument of a test, and the property of its report
OPTIONS, PROPERTY = "refqnn_options", "refqnn outputs"


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
    if OPTIONS in metafunc.fixturenames:
        config = metafunc.config
        options = {
            "profile": config.getoption("--refqnn-profile"),
            "seconds": config.getoption("--refqnn-seconds"),
            "in_process": config.getoption("--refqnn-in-process"),
        }
        metafunc.parametrize(OPTIONS, [options], ids=[options["profile"]])


def pytest_runtest_setup(item: Any) -> None:
    """Give each test a list of its own, to which checks add how much they compared."""
    callspec = getattr(item, "callspec", None)
    if callspec is not None and OPTIONS in callspec.params:
        given = {k: v for k, v in callspec.params[OPTIONS].items() if k != "counts"}
        callspec.params[OPTIONS] = given | {"counts": []}


def pytest_runtest_makereport(item: Any, call: Any) -> None:
    """Hand what was compared to the report, which also travels between processes."""
    options = getattr(item, "funcargs", {}).get(OPTIONS)
    if call.when == "call" and options is not None:
        item.user_properties.append((PROPERTY, sum(options["counts"])))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print how many outputs were compared: none at all would be green, too."""
    reports = [r for each in terminalreporter.stats.values() for r in each]
    counts = [
        value
        for report in reports
        if getattr(report, "when", "") == "call"
        for name, value in report.user_properties
        if name == PROPERTY
    ]
    if counts:
        terminalreporter.write_line(
            f"refqnn: {len(counts)} checks compared {sum(counts)} outputs"
        )
