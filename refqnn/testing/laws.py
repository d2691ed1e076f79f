"""The ten laws of quantizers: each raises AssertionError where it does not hold.

    law     claim
    IDEM    Q(Q(v)) = Q(v) exactly
    ODD     Q(-v) = -Q(v)
    SE      Q(kv) = k Q(v), k a power of two, where arithmetic is exact
    JSE     Q(kv; kp) = k Q(v; p): the parameters multiplied too
    INV     Q(kv; kp) = Q(v; p)
    MONO    v1 <= v2 in one group gives Q(v1) <= Q(v2)
    ORTH    <Q(v), v - Q(v)> = 0 in every group: the scale is the least-squares scale
    BND     between the outer levels, |v - Q(v)| <= half the widest gap of levels
    NEAR    every value goes to a nearest level of its group
    ZERO    all zeros give all zeros

A counterexample is certain; that a law holds means that it held on everything tried.
"""

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np

from refqnn._types import Float

#: what SE, JSE and INV multiply by: exact in binary
POWERS = (0.25, 4)


class Subject(Protocol):
    """A quantizer as the laws see it."""

    def apply(self, v: Float, k: float = 1) -> Float:
        """Quantize ``v`` with the held parameters multiplied by ``k``."""

    def groups(self, v: Float) -> list[Float]:
        """Split ``v`` into what shares its levels: filters, or the whole layer."""

    def codebooks(self, v: Float) -> list[Float]:
        """List the levels of every group of ``v``, ascending."""


def idem(q: Subject, v: Float) -> None:
    """Q(Q(v)) = Q(v)"""
    once = q.apply(v)
    np.testing.assert_array_equal(q.apply(once), once)


def odd(q: Subject, v: Float) -> None:
    """Q(-v) = -Q(v)"""
    np.testing.assert_array_equal(q.apply(-v), -q.apply(v))


def se(q: Subject, v: Float) -> None:
    """Q(kv) = k Q(v)"""
    for k in POWERS:
        np.testing.assert_array_equal(q.apply(v * v.dtype.type(k)), k * q.apply(v))


def jse(q: Subject, v: Float) -> None:
    """Q(kv; kp) = k Q(v; p)"""
    for k in POWERS:
        np.testing.assert_array_equal(q.apply(v * v.dtype.type(k), k), k * q.apply(v))


def inv(q: Subject, v: Float) -> None:
    """Q(kv; kp) = Q(v; p)"""
    for k in POWERS:
        np.testing.assert_array_equal(q.apply(v * v.dtype.type(k), k), q.apply(v))


def mono(q: Subject, v: Float) -> None:
    """v1 <= v2 gives Q(v1) <= Q(v2), in every group"""
    for x, y in zip(q.groups(v), q.groups(q.apply(v)), strict=True):
        steps = np.diff(y[np.argsort(x, kind="stable")])
        np.testing.assert_array_less(-steps, np.full_like(steps, 1e-30))


def orth(q: Subject, v: Float) -> None:
    """<Q(v), v - Q(v)> = 0, in every group"""
    out = q.apply(v).astype(float)
    for values, outputs in zip(q.groups(v.astype(float)), q.groups(out), strict=True):
        x, y = values.ravel(), outputs.ravel()
        bound = 1e-6 * np.abs(y) @ (np.abs(x) + np.abs(y))
        np.testing.assert_allclose(y @ (x - y), 0, rtol=0, atol=bound)


def rounding_of(x: Float, levels: Float) -> float:
    """Bound how far a value of x may sit from where exact arithmetic puts it."""
    largest = max(np.abs(levels).max(initial=0), np.abs(x).max(initial=0))
    return 4 * float(np.finfo(x.dtype).eps) * float(largest) + 1e-30


def groups_of(q: Subject, v: Float) -> Iterator[tuple[Float, Float, Float]]:
    """Yield the values, outputs and levels of every group."""
    yield from zip(q.groups(v), q.groups(q.apply(v)), q.codebooks(v), strict=True)


def bnd(q: Subject, v: Float) -> None:
    """|v - Q(v)| <= half the widest gap, between the outer levels"""
    for x, y, levels in groups_of(q, v):
        inside = (levels[0] <= x) & (x <= levels[-1])
        bound = np.diff(levels).max(initial=0) / 2 + rounding_of(x, levels)
        np.testing.assert_array_less(np.abs(x - y)[inside], bound)


def near(q: Subject, v: Float) -> None:
    """|v - Q(v)| = min over levels of |v - level|"""
    for x, y, levels in groups_of(q, v):
        best = np.abs(x[..., None] - levels).min(-1)
        np.testing.assert_array_less(np.abs(x - y), best + rounding_of(x, levels))


def zero(q: Subject, v: Float) -> None:
    """Q(0) = 0"""
    np.testing.assert_array_equal(q.apply(np.zeros_like(v)), 0)


LAWS: Mapping[str, Callable[[Any, Float], None]] = MappingProxyType(
    {
        "IDEM": idem,
        "ODD": odd,
        "SE": se,
        "JSE": jse,
        "INV": inv,
        "MONO": mono,
        "ORTH": orth,
        "BND": bnd,
        "NEAR": near,
        "ZERO": zero,
    }
)
#: asked of a quantizer that holds parameters, and of no other
ABOUT_PARAMETERS = frozenset({"JSE", "INV"})


def holds(law: str, subject: Subject, v: Float) -> bool:
    """Whether a law holds on ``v``; values that the quantizer refuses say nothing."""
    try:
        LAWS[law](subject, v)
    except AssertionError:
        return False
    except ValueError:
        return True
    return True
