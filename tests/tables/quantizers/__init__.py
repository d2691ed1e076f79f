"""Every quantizer, what holds for it, and how it fails where it does not.

One file a method, found by its name. It holds

    ROWS      the laws of the method, each proved on what is drawn or refuted by a
              counterexample; refqnn/quantizers/README.md shows the marks
    PAIRS     its forward and backward, with arguments drawn for finite differences
    BITS      {module class: the bits it accepts}
    TWINS     (if any) twins of what is no pair
    BOUNDS    (if any) {backward: allowed error of its twin}
"""

import importlib
import pkgutil

from tables.ops import backward_draw, forward_draw

from refqnn.fast import quantizers as fast
from refqnn.testing.pairs import Pair
from refqnn.testing.twins import Twin

METHODS = [
    importlib.import_module(f"{__name__}.{found.name}")
    for found in pkgutil.iter_modules(__path__)
    if found.name not in {"row", "__main__"}
]
ROWS = [each for method in METHODS for each in method.ROWS]
PAIRS = [each for method in METHODS for each in method.PAIRS]
BITS = {make: bits for method in METHODS for make, bits in method.BITS.items()}
BOUNDS = {
    name: bound
    for method in METHODS
    for name, bound in getattr(method, "BOUNDS", {}).items()
}


def twins_of(pair: Pair) -> list[Twin]:
    """The forward, and the backward on what a forward of the definition recorded."""
    name, back = pair.forward.__name__, pair.backward.__name__
    return [
        Twin(name, pair.forward, getattr(fast, name), forward_draw(pair.draw)),
        Twin(
            back,
            pair.backward,
            getattr(fast, back),
            backward_draw(pair.forward, pair.draw),
            BOUNDS.get(back),
        ),
    ]


TWINS = [
    *(
        twin
        for pair in PAIRS
        for twin in twins_of(pair)
        if twin.definition is not twin.twin
    ),
    *(twin for method in METHODS for twin in getattr(method, "TWINS", [])),
]


def table() -> str:
    """Return the property matrix as the Markdown table of the README."""
    laws = list(ROWS[0].laws)
    head = ["paper", "equation", "file", "row", "levels", *laws]
    lines = [head, ["---"] * len(head)]
    for each in ROWS:
        marks = [each.laws[law].mark for law in laws]
        paper, equation, file = each.source
        link = f"[{file}]({file})"
        lines.append([paper, equation, link, each.name, each.levels[0], *marks])
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
