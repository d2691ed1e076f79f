"""Numba twins of the definitions: same relative path, same names, same signatures.

A name without a twin re-exports its definition, so every subpackage is complete.
Subpackages load when first used: ``fast.ops`` does not load ``fast.quantizers``.

    ops         float pairs, within a stated bound of the definition
    integer     equal to the definition bit for bit
    quantizers  float pairs of the published quantizers
    fused       compositions in one pass, equal to the composition
    program     networks of 8-bit codes, planned once and run by one kernel
"""

import importlib
from types import ModuleType

_SUBMODULES = ("fused", "integer", "ops", "program", "quantizers")


def __getattr__(name: str) -> ModuleType:
    if name in _SUBMODULES:
        return importlib.import_module(f"refqnn.fast.{name}")
    raise AttributeError(f"module 'refqnn.fast' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_SUBMODULES])
