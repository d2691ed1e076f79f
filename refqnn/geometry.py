"""Where a sliding window lands: sizes, padding and the view of all windows.

Convolutions and poolings, float and integer, agree on this page.

    Ho = floor((H + top + bottom - dilation * (Kh - 1) - 1) / stride) + 1       (1)
"""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from refqnn._types import Array

Pair = tuple[int, int]
Padding = int | Pair | tuple[Pair, Pair]


class Window(NamedTuple):
    """A window that slides over planes: every entry is ``(height, width)``."""

    kernel: Pair
    stride: Pair
    padding: tuple[Pair, Pair]  # ((top, bottom), (left, right))
    dilation: Pair


def pair(value: int | Pair, *, name: str, least: int) -> Pair:
    """Return ``(h, w)`` of an int or a pair; every entry an int of at least ``least``.

    >>> pair(2, name="stride", least=1)
    (2, 2)
    """
    h, w = value if isinstance(value, tuple) else (value, value)
    for size in (h, w):
        if isinstance(size, bool) or not isinstance(size, int | np.integer):
            raise ValueError(f"{name} must be an int or a pair of ints, got {value!r}")  # noqa: TRY004 - bad values are ValueErrors in this house
        if size < least:
            raise ValueError(f"{name} must be at least {least}, got {value!r}")
    return int(h), int(w)


def pad_widths(padding: Padding) -> tuple[Pair, Pair]:
    """Return ``((top, bottom), (left, right))`` of the three ways to write padding.

    >>> pad_widths(1), pad_widths((1, 2)), pad_widths(((0, 1), (2, 3)))
    (((1, 1), (1, 1)), ((1, 1), (2, 2)), ((0, 1), (2, 3)))
    """
    if isinstance(padding, tuple) and tuple in map(type, padding):
        vertical, horizontal = padding
        return (
            pair(vertical, name="padding", least=0),
            pair(horizontal, name="padding", least=0),
        )
    h, w = pair(padding, name="padding", least=0)  # type: ignore[arg-type]
    return (h, h), (w, w)


def window(
    kernel: int | Pair,
    *,
    stride: int | Pair = 1,
    padding: Padding = 0,
    dilation: int | Pair = 1,
) -> Window:
    """Check the four settings of a sliding window and write them as pairs."""
    if isinstance(kernel, tuple):
        plain = (*kernel, stride, padding, dilation)
        if len(kernel) == 2 and set(map(type, plain)) == {int}:
            return window_of_ints(*plain)
    return Window(
        pair(kernel, name="kernel", least=1),
        pair(stride, name="stride", least=1),
        pad_widths(padding),
        pair(dilation, name="dilation", least=1),
    )


@lru_cache(maxsize=256)
def window_of_ints(
    kh: int, kw: int, stride: int, padding: int, dilation: int
) -> Window:
    """Remember the window of plain ints, checked once: a network has few of them."""
    return Window(
        pair((kh, kw), name="kernel", least=1),
        pair(stride, name="stride", least=1),
        pad_widths(padding),
        pair(dilation, name="dilation", least=1),
    )


def same_padding(size: Pair, at: Window) -> tuple[Pair, Pair]:
    """Return the padding that makes ceil(H / stride) outputs, the odd pixel behind.

    >>> same_padding((8, 9), window(3, stride=2))
    ((0, 1), (1, 1))
    """
    around = []
    for n, k, s, d in zip(size, at.kernel, at.stride, at.dilation, strict=True):
        total = max((-(-n // s) - 1) * s + d * (k - 1) + 1 - n, 0)
        around.append((total // 2, total - total // 2))
    return around[0], around[1]


def output_size(size: Pair, at: Window) -> Pair:
    """Return ``(Ho, Wo)``, equation (1); raise if no window fits.

    >>> output_size((32, 32), window(3, stride=2, padding=1))
    (16, 16)
    """
    out = []
    for axis in (0, 1):
        reach = at.dilation[axis] * (at.kernel[axis] - 1) + 1
        padded = size[axis] + sum(at.padding[axis])
        if padded < reach:
            raise ValueError(
                f"the window does not fit: {'HW'[axis]} = {size[axis]} with padding "
                f"{at.padding[axis]} is {padded}, the window reaches over {reach}"
            )
        out.append((padded - reach) // at.stride[axis] + 1)  # (1)
    return out[0], out[1]


def pad_planes(x: Array, at: Window, value: Any = 0) -> Array:
    """Surround every plane with ``value``.

    x: (N, C, H, W)  ->  (N, C, top + H + bottom, left + W + right)
    """
    return np.pad(x, ((0, 0), (0, 0), *at.padding), constant_values=value)


def windows(x: Array, at: Window, around: Any = None) -> Array:
    """View every window of planes (do not write): padded here, or already by None.

    x: (N, C, H, W)  ->  (N, C, Ho, Wo, Kh, Kw)

    ``around`` is the value that surrounds the planes. Raises ValueError as
    ``output_size`` where the planes are padded here.

    >>> windows(np.ones((1, 1, 2, 2)), window(2, padding=1), 0.0)[0, 0, 0, 0]
    array([[0., 0.],
           [0., 1.]])
    """
    (kh, kw), (sh, sw), (dh, dw) = at.kernel, at.stride, at.dilation
    reach = dh * (kh - 1) + 1, dw * (kw - 1) + 1
    if around is not None:
        size, edges = x.shape[2:], ((0, 0), (0, 0), *at.padding)
        x = np.pad(x, edges, constant_values=around)
        if x.shape[2] < reach[0] or x.shape[3] < reach[1]:
            output_size(size, at)
    every = sliding_window_view(x, reach, axis=(2, 3))
    return every[:, :, ::sh, ::sw, ::dh, ::dw]
