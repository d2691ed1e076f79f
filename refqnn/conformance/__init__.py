"""Judge another implementation, and name the choice it made differently.

    compare                  where two results differ, by how much, in what pattern
    diagnose                 which documented choice explains the difference
    identify, verify         which choices a black box made, and whether that holds
    check_implementation     all of it, as results that a build can fail on
    generate                 vectors that tell every choice apart
    Semantics, profiles      the choices themselves, and who makes which

Names load when first used: importing this package imports the standard library only.
README.md holds the tables and the tutorial.
"""

import importlib
from typing import Any

#: where each public name lives
NAMES = {
    "Broken": "calls",
    "Child": "adapters",
    "Semantics": "semantics",
    "check_implementation": "checks",
    "compare": "compare",
    "diagnose": "diagnose",
    "from_command": "adapters",
    "from_ctypes": "adapters",
    "from_directory": "adapters",
    "from_onnx": "adapters",
    "generate": "packs",
    "identify": "identify",
    "identify_files": "identify",
    "parametrize_with_checks": "checks",
    "profiles": "profiles",
    "verify": "identify",
    "write_probes": "identify",
}


def __getattr__(name: str) -> Any:
    if name not in NAMES:
        raise AttributeError(f"module 'refqnn.conformance' has no attribute {name!r}")
    module = importlib.import_module(f"refqnn.conformance.{NAMES[name]}")
    globals()[name] = value = getattr(module, name)
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *NAMES])
