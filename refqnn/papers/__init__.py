"""One system of the papers a file; README.md tables them."""

import importlib
from types import ModuleType


def __getattr__(name: str) -> ModuleType:
    """Import a paper when it is asked for, so that former names below it answer."""
    if name.startswith("_"):
        raise AttributeError(name)
    try:
        return importlib.import_module(f"refqnn.papers.{name}")
    except ModuleNotFoundError as error:
        raise AttributeError(f"refqnn.papers has no {name!r}") from error
