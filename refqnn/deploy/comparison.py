"""Where two computations of one network give the same, array by array.

(b) The float64 network that uses the same integer multipliers and biases is equal, code
    by code: ``refqnn.deploy.float64`` states the bound under which it must be.

(c) End to end a code that differs may change later ones; how many decisions of float
    and integer network differ is measured, not claimed: ``refqnn demo``.
"""

from types import SimpleNamespace
from typing import NamedTuple

import numpy as np

import refqnn
from refqnn._types import Array
from refqnn.deploy import float64
from refqnn.deploy.network import IntegerNetwork

Values = dict[str, Array]


class Comparison(NamedTuple):
    """How many elements of one array two computations give differently."""

    name: str
    elements: int
    different: int


def fake_quantized(integer_network: IntegerNetwork, images: Array) -> Values:
    """Trace the network computed in float64, network (b): arrays by name.

    Raises ValueError where float64 would not be exact.
    """
    return integer_network.trace(images, SimpleNamespace(integer=float64))


def compare_float64(network: IntegerNetwork, images: Array) -> list[Comparison]:
    """Compare the definition with the float64 network, array by array: claim (b)."""
    return compare(network.trace(images), fake_quantized(network, images))


def compare_backends(network: IntegerNetwork, images: Array) -> list[Comparison]:
    """Compare the definition with its twins, bit for bit, dtypes included."""
    twin = network.trace(images, refqnn.fast)
    want = network.trace(images)
    return [
        row
        if twin[row.name].dtype == want[row.name].dtype
        else row._replace(different=row.elements)
        for row in compare(want, twin)
    ]


def compare(want: Values, got: Values) -> list[Comparison]:
    """Count the elements that differ, by name; all of them where shapes differ.

    >>> compare({"conv": np.array([1, 2, 3])}, {"conv": np.array([1, 2, 4])})
    [Comparison(name='conv', elements=3, different=1)]
    """
    return [
        Comparison(
            name,
            array.size,
            int(np.sum(array != got[name]))
            if array.shape == got[name].shape
            else array.size,
        )
        for name, array in want.items()
    ]
