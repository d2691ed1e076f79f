"""refqnn: the arithmetic of quantized convolutional networks, to read and test against.

Subpackages load when first used, so ``import refqnn`` imports nothing but itself.

    ops         float forward and backward pairs, the definition of each layer
    integer     fixed-point arithmetic, the specification others are judged by
    quantizers  one published quantizer a file
    fast        Numba twins of the three above, same names and signatures
"""

import importlib
from types import ModuleType

from refqnn import moved

__version__ = "0.1.0"

_SUBMODULES = (
    "conformance",
    "core",
    "cost",
    "data",
    "deploy",
    "fast",
    "integer",
    "networks",
    "nn",
    "ops",
    "papers",
    "plots",
    "quantizers",
    "shapes",
    "studies",
    "testing",
)


def __getattr__(name: str) -> ModuleType:
    if name in _SUBMODULES:
        return importlib.import_module(f"refqnn.{name}")
    raise AttributeError(f"module 'refqnn' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_SUBMODULES])


moved.register()
