"""Two-dimensional convolution (cross-correlation, as in every deep-learning library).

    y[n, o, p, q] = b[o] + sum_{c, i, j} w[o, c, i, j]
                    * x_padded[n, g(o) C/G + c, p s + i d, q s + j d]               (1)
    dw[o, c, i, j] = sum_{n, p, q} dy[n, o, p, q]
                    * x_padded[n, g(o) C/G + c, p s + i d, q s + j d]               (2)
    dx_padded[n, g(o) C/G + c, p s + i d, q s + j d]
                    += w[o, c, i, j] dy[n, o, p, q],  then the padding is cut off   (3)

Derivation of the backward passes: DERIVATIONS.md, "conv2d".
"""

from typing import NamedTuple

import numpy as np

from refqnn._types import Float
from refqnn.geometry import Padding, Pair, Window, window, window_of_ints, windows
from refqnn.ops.checks import FLOATS, check_float, check_gradient
from refqnn.prompt import one_line


@one_line
class Conv2dCache(NamedTuple):
    """What ``conv2d_backward`` needs."""

    x: Float
    w: Float
    has_bias: bool
    at: Window
    groups: int
    size: Pair  # (Ho, Wo)


class Conv2dGrads(NamedTuple):
    """Gradients in the order of the arguments; ``db`` is None without a bias."""

    dx: Float
    dw: Float
    db: Float | None


def conv2d(
    x: Float,
    w: Float,
    b: Float | None = None,
    *,
    stride: int | Pair = 1,
    padding: Padding = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
) -> tuple[Float, Conv2dCache]:
    """y[n, o, p, q] = b[o] + sum over c, i, j of w[o, c, i, j] x[n, c, p + i, q + j]

    x: (N, C, H, W), w: (O, C // G, Kh, Kw), b: (O,)  ->  y: (N, O, Ho, Wo)

    Padding is zeros: an int, ``(h, w)`` or ``((top, bottom), (left, right))``.
    Raises ValueError where shapes, groups or the window do not fit.

    >>> x = np.arange(9.0).reshape(1, 1, 3, 3)
    >>> y, _ = conv2d(x, np.ones((1, 1, 2, 2)))
    >>> y[0, 0]
    array([[ 8., 12.],
           [20., 24.]])
    """
    at = check_conv2d(x, w, b, stride, padding, dilation, groups)
    seen = windows(x, at, 0)
    n, c, ho, wo, kh, kw = seen.shape
    o = w.shape[0]
    seen = seen.reshape(n, groups, c // groups, ho, wo, kh, kw)
    wg = w.reshape(groups, o // groups, c // groups, kh, kw)
    # (N, G, C/G, Ho, Wo, Kh, Kw) . (G, O/G, C/G, Kh, Kw) -> (N, G, O/G, Ho, Wo)
    y = np.einsum("ngcpqij,gocij->ngopq", seen, wg, optimize=True)  # (1)
    y = np.ascontiguousarray(y.reshape(n, o, ho, wo), dtype=x.dtype)
    if b is not None:
        y += b[:, None, None]
    return y, Conv2dCache(x, w, b is not None, at, groups, (ho, wo))


def conv2d_backward(
    dy: Float, cache: Conv2dCache, *, toward_x: Float | None = None
) -> Conv2dGrads:
    """Return ``dx, dw, db``; each term of (1) is linear in x, in w and in b.

    dy: (N, O, Ho, Wo)  ->  dx: (N, C, H, W), dw: (O, C // G, Kh, Kw), db: (O,)

    ``toward_x``, of the shape of dy, takes its place in dx: a bifurcated gradient.
    """
    x, w, has_bias, at, groups, size = cache
    toward_x = dy if toward_x is None else toward_x
    shape = (x.shape[0], w.shape[0], *size)
    for g in (dy, toward_x):
        if getattr(g, "shape", None) != shape or g.dtype not in FLOATS:
            check_gradient(g, shape)
    return Conv2dGrads(
        conv2d_input_grad(toward_x, w, x.shape, at, groups),
        conv2d_weight_grad(dy, x, at, groups),
        dy.sum(axis=(0, 2, 3), dtype=np.float64).astype(dy.dtype) if has_bias else None,
    )


def conv2d_weight_grad(dy: Float, x: Float, at: Window, groups: int) -> Float:
    """dw[o, c, i, j] = sum over n, p, q of dy[n, o, p, q] x_padded[n, c, ps+id, qs+jd]

    dy: (N, O, Ho, Wo), x: (N, C, H, W)  ->  dw: (O, C // G, Kh, Kw)
    """
    n, o, ho, wo = dy.shape
    c = x.shape[1]
    kh, kw = at.kernel
    seen = windows(x, at, 0)
    seen = seen.reshape(n, groups, c // groups, ho, wo, kh, kw)
    dyg = dy.reshape(n, groups, o // groups, ho, wo)
    # (N, G, O/G, Ho, Wo) . (N, G, C/G, Ho, Wo, Kh, Kw) -> (G, O/G, C/G, Kh, Kw)
    dw = np.einsum("ngopq,ngcpqij->gocij", dyg, seen, optimize=True)  # (2)
    return np.ascontiguousarray(dw.reshape(o, c // groups, kh, kw), dtype=dy.dtype)


def conv2d_input_grad(
    dy: Float, w: Float, x_shape: tuple[int, ...], at: Window, groups: int
) -> Float:
    """dx_padded[n, c, ps + id, qs + jd] += w[o, c, i, j] dy[n, o, p, q], then unpadded.

    dy: (N, O, Ho, Wo), w: (O, C // G, Kh, Kw)  ->  dx: (N, C, H, W)
    """
    n, o, ho, wo = dy.shape
    c, h, width = x_shape[1:]
    (sh, sw), (dh, dw_) = at.stride, at.dilation
    (top, bottom), (left, right) = at.padding
    dyg = dy.reshape(n, groups, o // groups, ho, wo)
    wg = w.reshape(groups, o // groups, c // groups, *at.kernel)
    dx = np.zeros((n, c, top + h + bottom, left + width + right), dy.dtype)
    for i in range(at.kernel[0]):
        for j in range(at.kernel[1]):
            # (N, G, O/G, Ho, Wo) . (G, O/G, C/G) -> (N, G, C/G, Ho, Wo)
            part = np.einsum("ngopq,goc->ngcpq", dyg, wg[..., i, j], optimize=True)
            rows = slice(i * dh, i * dh + sh * ho, sh)
            cols = slice(j * dw_, j * dw_ + sw * wo, sw)
            dx[:, :, rows, cols] += part.reshape(n, c, ho, wo)  # (3)
    return np.ascontiguousarray(dx[:, :, top : top + h, left : left + width])


def check_conv2d(
    x: Float,
    w: Float,
    b: Float | None,
    stride: int | Pair,
    padding: Padding,
    dilation: int | Pair,
    groups: int,
) -> Window:
    """Check the arguments of a convolution; give its window.

    Raises a ValueError that names the arrays and the letter they disagree on.
    """
    for name, array in (("x", x), ("w", w), ("b", b)):
        if array is not None and getattr(array, "dtype", None) not in FLOATS:
            check_float(**{name: array})
    if x.ndim != 4 or w.ndim != 4:
        raise ValueError(
            f"x must be (N, C, H, W) and w (O, C // G, Kh, Kw): x{x.shape}, w{w.shape}"
        )
    if isinstance(groups, bool) or not isinstance(groups, int) or groups < 1:
        raise ValueError(f"groups must be an int of at least 1, got {groups!r}")
    c, o = x.shape[1], w.shape[0]
    if c % groups or o % groups:
        raise ValueError(f"groups = {groups} must divide C = {c} and O = {o}")
    if w.shape[1] != c // groups:
        raise ValueError(
            f"x (N, C, H, W) and w (O, C // G, Kh, Kw) disagree on C // G: "
            f"x{x.shape}, w{w.shape}, G = {groups}"
        )
    if b is not None and b.shape != (o,):
        raise ValueError(
            f"b (O,) and w (O, C // G, Kh, Kw) disagree on O: b{b.shape}, w{w.shape}"
        )
    plain = (*w.shape[2:], stride, padding, dilation)
    if set(map(type, plain)) == {int}:
        return window_of_ints(*plain)  # of plain ints the window is remembered
    return window(w.shape[2:], stride=stride, padding=padding, dilation=dilation)
