"""The forward of every pair written as plain loops over numbers, for tiny shapes."""

import math
from itertools import product

import numpy as np


def each(f):
    """Apply a function of one number to every entry."""

    def loop(x, *args, **options):
        y = np.empty(x.shape)
        for at in np.ndindex(*x.shape):
            y[at] = f(float(x[at]), *args, **options)
        return y

    return loop


relu = each(lambda x: x if x > 0 else 0.0)
relu6 = each(lambda x: min(max(x, 0.0), 6.0))
sigmoid = each(lambda x: 1 / (1 + math.exp(-x)))
tanh = each(math.tanh)
straight_through_round = each(round)
straight_through_sign = each(lambda x, closed=False: -1.0 if x < 0 else 1.0)  # noqa: ARG005 - about the gradient
straight_through_clip = each(
    lambda x, lo, hi, closed=False: lo if x < lo else min(x, hi)  # noqa: ARG005 - about the gradient
)


def add(x, y):
    z = np.empty(np.broadcast_shapes(x.shape, y.shape))
    for at in np.ndindex(*z.shape):
        z[at] = entry(x, at) + entry(y, at)
    return z


def entry(x, at):
    own = at[len(at) - x.ndim :]
    return x[tuple(0 if n == 1 else i for i, n in zip(own, x.shape, strict=True))]


def pixel(plane, row, col, outside):
    h, w = plane.shape
    return plane[row, col] if 0 <= row < h and 0 <= col < w else outside


def sides(padding):
    """((top, bottom), (left, right)) of the three ways to write padding."""
    if isinstance(padding, int):
        return (padding, padding), (padding, padding)
    if isinstance(padding[0], int):
        return (padding[0],) * 2, (padding[1],) * 2
    return padding


def both(value):
    return (value, value) if isinstance(value, int) else value


def conv2d(x, w, b=None, *, stride=1, padding=0, dilation=1, groups=1):
    n, c, h, width = x.shape
    o, cg, kh, kw = w.shape
    (top, bottom), (left, right) = sides(padding)
    (sh, sw), (dh, dw) = both(stride), both(dilation)
    ho = (h + top + bottom - dh * (kh - 1) - 1) // sh + 1
    wo = (width + left + right - dw * (kw - 1) - 1) // sw + 1
    y = np.zeros((n, o, ho, wo))
    for image, out, p, q in np.ndindex(*y.shape):
        first = out // (o // groups) * (c // groups)
        total = 0.0 if b is None else b[out]
        for k, i, j in product(range(cg), range(kh), range(kw)):
            plane = x[image, first + k]
            row, col = p * sh + i * dh - top, q * sw + j * dw - left
            total += w[out, k, i, j] * pixel(plane, row, col, 0.0)
        y[image, out, p, q] = total
    return y


def linear(x, w, b=None):
    y = np.zeros((x.shape[0], w.shape[0]))
    for n, o in np.ndindex(*y.shape):
        terms = [x[n, i] * w[o, i] for i in range(x.shape[1])]
        y[n, o] = math.fsum([*terms, 0.0 if b is None else b[o]])
    return y


def channels(x):
    """Yield (c, the values of channel c in the order N, H, W)."""
    for c in range(x.shape[1]):
        yield c, [float(v) for v in np.moveaxis(x, 1, 0)[c].ravel()]


def norm(x, gamma, beta, centre, spread):
    y = np.empty(x.shape)
    for at in np.ndindex(*x.shape):
        c = at[1]
        y[at] = gamma[c] * (x[at] - centre[c]) / spread[c] + beta[c]
    return y


def batch_norm(x, gamma, beta, *, eps=1e-5):
    centre, spread = [], []
    for _, values in channels(x):
        m = max(len(values), 1)
        centre.append(math.fsum(values) / m)
        var = math.fsum((v - centre[-1]) ** 2 for v in values) / m
        spread.append(math.sqrt(var + eps))
    return norm(x, gamma, beta, centre, spread)


def batch_norm_inference(x, gamma, beta, mean, var, *, eps=1e-5):
    return norm(x, gamma, beta, mean, [math.sqrt(v + eps) for v in var])


def range_batch_norm(x, gamma, beta, *, chunks=1, constant="paper", eps=1e-5):
    centre, spread = [], []
    for _, values in channels(x):
        n = len(values) // chunks
        cut = [values[k * n : (k + 1) * n] for k in range(chunks)]
        reach = math.fsum(max(part) - min(part) for part in cut) / chunks
        of_n = 1 / math.sqrt(2 * math.log(n))
        two_sided = 0.175 * (1 + math.sqrt(math.pi * math.log(4)))
        by_name = {"paper": of_n, "released": two_sided * of_n}
        centre.append(math.fsum(values) / len(values))
        spread.append(by_name.get(constant, constant) * reach + eps)
    return norm(x, gamma, beta, centre, spread)


def pooled(size, low, high, kernel, stride, dilation, ceil_mode):
    reach = dilation * (kernel - 1) + 1
    room = size + low + high - reach
    out = (math.ceil(room / stride) if ceil_mode else room // stride) + 1
    if ceil_mode and (out - 1) * stride >= size + low:
        out -= 1
    return out


def pools(x, kernel, stride, padding, dilation, ceil_mode, value):
    (kh, kw), (dh, dw) = both(kernel), both(dilation)
    sh, sw = both(kernel if stride is None else stride)
    (top, bottom), (left, right) = sides(padding)
    n, c, h, w = x.shape
    ho = pooled(h, top, bottom, kh, sh, dh, ceil_mode)
    wo = pooled(w, left, right, kw, sw, dw, ceil_mode)
    y = np.empty((n, c, ho, wo))
    for image, channel, p, q in np.ndindex(*y.shape):
        rows = [p * sh + i * dh - top for i in range(kh)]
        cols = [q * sw + j * dw - left for j in range(kw)]
        y[image, channel, p, q] = value(x[image, channel], rows, cols)
    return y


def max_pool2d(x, *, kernel, stride=None, padding=0, dilation=1, ceil_mode=False):
    def largest(plane, rows, cols):
        return max(pixel(plane, r, c, -math.inf) for r in rows for c in cols)

    return pools(x, kernel, stride, padding, dilation, ceil_mode, largest)


def avg_pool2d(
    x, *, kernel, stride=None, padding=0, ceil_mode=False, count_include_pad=True
):
    (top, bottom), (left, right) = (
        sides(padding) if count_include_pad else ((0, 0),) * 2
    )
    h, w = x.shape[2:]

    def mean(plane, rows, cols):
        counted = [
            pixel(plane, r, c, 0.0)
            for r in rows
            for c in cols
            if -top <= r < h + bottom and -left <= c < w + right
        ]
        return math.fsum(counted) / len(counted)

    return pools(x, kernel, stride, padding, 1, ceil_mode, mean)


def global_avg_pool2d(x):
    y = np.empty(x.shape[:2])
    for n, c in np.ndindex(*y.shape):
        y[n, c] = math.fsum(x[n, c].ravel()) / x[n, c].size
    return y


def softmax(x, *, axis=-1):
    y = np.moveaxis(np.empty(x.shape), axis, -1)
    rows = np.moveaxis(x, axis, -1)
    for at in np.ndindex(*y.shape[:-1]):
        powers = [math.exp(v) for v in rows[at]]
        y[at] = [p / math.fsum(powers) for p in powers]
    return np.moveaxis(y, -1, axis)


def softmax_cross_entropy(logits, labels, *, label_smoothing=0.0):
    n, k = logits.shape
    total = 0.0
    for row, label in zip(logits, labels, strict=True):
        log_sum = math.log(math.fsum(math.exp(v) for v in row))
        for j in range(k):
            t = label_smoothing / k + (1 - label_smoothing) * (j == label)
            total -= t * (row[j] - log_sum)
    return total / n


def lstm_cell(x, h, c, w_x, w_h, b):
    n, d = h.shape
    h_new, c_new = np.empty((n, d)), np.empty((n, d))
    for row, k in np.ndindex(n, d):
        i, f, g, o = (
            float(w_x[at] @ x[row] + w_h[at] @ h[row] + b[at])
            for at in (k, d + k, 2 * d + k, 3 * d + k)
        )
        i, f, o = (1 / (1 + math.exp(-a)) for a in (i, f, o))
        c_new[row, k] = f * c[row, k] + i * math.tanh(g)
        h_new[row, k] = o * math.tanh(c_new[row, k])
    return h_new, c_new
