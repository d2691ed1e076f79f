"""Every twin of refqnn.integer, equal to its definition bit for bit."""

import numba
import numpy as np

from refqnn import fast, integer
from refqnn.integer.affine import NANS, OVERFLOWS, SCALINGS, ZERO_POINT_WHEN
from refqnn.integer.rescale import FORMS
from refqnn.integer.rounding import ROUNDINGS
from refqnn.testing.twins import Twin

#: the uncompiled run draws every dtype, the compiled one two: kernels compile slowly
FEW = not numba.config.DISABLE_JIT
RANGES = [(0, 255), (3, 15), (-(2**31), 2**31 - 1), (-99_999, 0)]
RANGES += [] if FEW else [(-128, 127), (-8, 7), (0, 2**32 - 1), (0, 999), (-999, 0)]
CODES = [np.uint8, np.int32] + ([] if FEW else [np.int8, np.int16, np.uint32])


def pick(rng, options):
    return options[rng.integers(len(options))]


def shape(rng):
    return tuple(int(size) for size in rng.integers(0, 5, rng.integers(0, 5)))


def planes(rng):
    """(N, C, H, W), N may be 0."""
    n, c, h, w = rng.integers((0, 1, 1, 1), (3, 4, 7, 7))
    return int(n), int(c), int(h), int(w)


def parameter(rng, like, draw):
    """Draw one number, or an array that broadcasts to the shape ``like``."""
    axes = int(rng.integers(0, len(like) + 1))
    mine = [size if rng.integers(2) else 1 for size in like[len(like) - axes :]]
    return draw(tuple(mine)) if rng.integers(4) else draw(()).item()


def codes(rng, like, dtype):
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, like, dtype, endpoint=True)


def code_range(rng):
    q_min, q_max = pick(rng, RANGES)
    return {"q_min": q_min, "q_max": q_max}


def code_in(rng, ends):
    low, high = ends["q_min"], ends["q_max"]
    return lambda like: rng.integers(low, high, like, endpoint=True)


def quantize(rng):
    """Draw any numbers, ties, the neighbours of ties, and NaN."""
    like, ends, kind = shape(rng), code_range(rng), pick(rng, (np.float32, np.float64))
    unit = 10.0 ** rng.integers(-3, 9)
    ties = (np.rint(rng.normal(size=like) * 5) / 2).astype(kind)
    beside = np.nextafter(ties, rng.choice([-np.inf, np.inf], like).astype(kind))
    any_ = (rng.normal(size=like) * unit).astype(kind)
    nan = np.full(like, np.nan, kind)
    x = rng.choice(4, like, p=[0.4, 0.3, 0.28, 0.02])
    x = np.choose(x, [any_, ties, beside, nan]).astype(kind)
    scale = parameter(
        rng, like, lambda s: pick(rng, (1.0, 0.5, unit)) * rng.choice([1, 0.3], s)
    )
    options = {
        "rounding": pick(rng, list(ROUNDINGS)),
        "scaling": pick(rng, SCALINGS),
        "zero_point_when": pick(rng, ZERO_POINT_WHEN),
        "overflow": pick(rng, OVERFLOWS),
        "nan": pick(rng, NANS),
    }
    return (x, scale, parameter(rng, like, code_in(rng, ends))), ends | options


def dequantize(rng):
    like, dtype = shape(rng), pick(rng, CODES)
    q, z = codes(rng, like, dtype), parameter(rng, like, lambda s: codes(rng, s, dtype))
    kind = pick(rng, (np.float32, np.float64))
    scale = parameter(rng, like, lambda s: rng.uniform(0.1, 2, s).astype(kind))
    return (q, scale, z), {}


def factors(rng, like, *, most=31):
    """Draw multipliers, and shifts that bring int32 down to a few bits, or any."""
    m = parameter(rng, like, lambda s: rng.integers(0, 2**31, s))
    low, high = pick(rng, ((-31, -20), (-31, 0), (-3, 3), (-31, most)))
    shift = parameter(rng, like, lambda s: rng.integers(low, high, s, endpoint=True))
    return m, shift


def accumulators(rng, like):
    """Draw int32 of any size, in int32 or int64."""
    wide = codes(rng, like, np.int32) >> rng.integers(0, 32, like)
    return wide.astype(pick(rng, (np.int32, np.int64)))


def requantize(rng):
    like, ends = shape(rng), code_range(rng)
    m, shift = factors(rng, like)
    z = parameter(rng, like, code_in(rng, ends))
    options = {"rounding": pick(rng, FORMS)}
    return (accumulators(rng, like), m, shift, z), ends | options


def requantize_add(rng):
    like, ends = shape(rng), code_range(rng)
    m, shift = factors(rng, like)
    skip_m = parameter(rng, like, lambda s: rng.integers(0, 2**31, s))
    z = parameter(rng, like, code_in(rng, ends))
    args = (accumulators(rng, like), m, accumulators(rng, like), skip_m, shift, z)
    return args, ends | {"rounding": pick(rng, list(ROUNDINGS))}


def zero_points(rng, x_dtype, w_dtype, o):
    return {
        "x_zero_point": codes(rng, (), x_dtype),
        "w_zero_point": codes(rng, pick(rng, ((), (o,))), w_dtype),
        "accumulator": pick(rng, ("int32", "int64")),
    }


def weights(rng):
    """int16 weights pass 2^24, int32 weights may pass int32."""
    types = (np.int8, np.uint8), (np.int8, np.int8, np.int8, np.int16, np.int32)
    return tuple(pick(rng, t) for t in types)


def linear(rng):
    n, i, o = (int(size) for size in rng.integers(0, 5, 3))
    x_dtype, w_dtype = weights(rng)
    x, w = codes(rng, (n, i), x_dtype), codes(rng, (o, i), w_dtype)
    b = codes(rng, (o,), np.int16) if rng.integers(2) else None
    return (x, w, b), zero_points(rng, x_dtype, w_dtype, o)


def conv2d(rng):
    g, cg, og = (int(size) for size in rng.integers(1, 3, 3))
    kh, kw, sh, sw, dh, dw = (int(size) for size in rng.integers(1, 3, 6))
    x_dtype, w_dtype = weights(rng)
    n = int(rng.integers(0, 3))
    h, w = (int(size) for size in rng.integers(3, 7, 2))
    args = (
        codes(rng, (n, g * cg, h, w), x_dtype),
        codes(rng, (g * og, cg, kh, kw), w_dtype),
        codes(rng, (g * og,), np.int16) if rng.integers(2) else None,
    )
    return args, zero_points(rng, x_dtype, w_dtype, g * og) | {
        "stride": (sh, sw),
        "dilation": (dh, dw),
        "padding": sides(rng, 3),
        "groups": g,
        "padding_value": pick(rng, ("zero_point", "raw_zero")),
    }


def sides(rng, below):
    (top, bottom), (left, right) = rng.integers(0, below, (2, 2)).tolist()
    return (top, bottom), (left, right)


def pool(rng):
    """x and a window that may reach over the plane, which raises."""
    x = codes(rng, planes(rng), pick(rng, CODES))
    kernel, stride = (tuple(int(k) for k in rng.integers(1, 4, 2)) for _ in range(2))
    padding = sides(rng, 2)
    return (x,), {"kernel": kernel, "stride": stride, "padding": padding}


def avg_pool2d(rng):
    (x,), window = pool(rng)
    x = x >> 5 if rng.integers(2) else x  # few values, many ties
    return (x,), window | {
        "zero_point": codes(rng, (), x.dtype),
        "rounding": pick(rng, list(ROUNDINGS)),
        "count_include_pad": bool(rng.integers(2)),
    }


def sum_pool2d(rng):
    x = codes(rng, planes(rng), pick(rng, CODES))
    return (x,), {"zero_point": codes(rng, (), x.dtype)}


def pack_bits(rng):
    n, _, h, w = planes(rng)
    like = (n, pick(rng, (1, 2, 63, 64, 65, 130)), h, w)
    x = rng.integers(-2, 3, like)
    return (x.astype(pick(rng, (np.int8, np.int64, bool, np.float32, float))),), {}


def xnor_conv2d(rng):
    n, _, h, w = planes(rng)
    channels, o = pick(rng, (1, 63, 64, 65, 130)), int(rng.integers(1, 4))
    kh, kw, sh, sw = (int(size) for size in rng.integers(1, 4, 4))
    x = integer.pack_bits(rng.integers(-1, 1, (n, channels, h, w)))
    taps = integer.pack_bits(rng.integers(-1, 1, (o, channels, kh, kw)))
    return (x, taps), {
        "channels": channels,
        "stride": (sh, sw),
        "padding": sides(rng, 3),
        "padding_value": pick(rng, (-1, 0, 1)),
    }


DRAWS = {
    "quantize": quantize,
    "dequantize": dequantize,
    "requantize": requantize,
    "requantize_add": requantize_add,
    "linear": linear,
    "conv2d": conv2d,
    "avg_pool2d": avg_pool2d,
    "max_pool2d": pool,
    "sum_pool2d": sum_pool2d,
    "pack_bits": pack_bits,
    "xnor_conv2d": xnor_conv2d,
}
TWINS = [
    Twin(name, getattr(integer, name), getattr(fast.integer, name), draw)
    for name, draw in DRAWS.items()
]
