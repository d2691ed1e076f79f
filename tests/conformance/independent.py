"""The operations again, from their equations, sharing no code with refqnn.

Plain loops over Python numbers: integers are exact, ``Fraction`` decides ties, float32
is ``np.float32``. Every function takes the answers ``c`` and the inputs of its family.
"""

import math
from fractions import Fraction
from functools import partial
from itertools import product

import numpy as np

F32 = np.float32
#: stands for an error
REFUSED = -(2**62)


def to_integer(t, how):
    """Round an exact or floating number."""
    t = Fraction(float(t)) if not isinstance(t, Fraction | int) else Fraction(t)
    down = t.numerator // t.denominator
    rest = t - down
    half = Fraction(1, 2)
    up = {
        "half_even": rest > half or (rest == half and down % 2 == 1),
        "half_away": rest > half or (rest == half and down >= 0),
        "half_up": rest >= half,
        "half_down": rest > half,
        "floor": False,
        "ceil": rest > 0,
        "trunc": rest > 0 and down < 0,
        "half_odd": rest > half or (rest == half and down % 2 == 0),
        "half_to_zero": rest > half or (rest == half and down < 0),
        "away": rest > 0 and down >= 0,
    }[how]
    return down + int(up)


def each(fn, first, *others):
    """Apply to every element of the first, the others numbers or arrays of one."""
    return np.array([fn(v, *others) for v in np.ravel(first)]).reshape(np.shape(first))


def low_bits(q, q_min, q_max):
    """A cast without a clip: to the fewest bits that hold the range."""
    low, codes = 0, 1
    while low + codes <= q_max or low > q_min:
        codes *= 2
        low = -codes // 2 if q_min < 0 else 0
    return (q - low) % codes + low


def float_rounded(t, c):
    """Round a float, its half compared or added in its own type."""
    if c["half"] == "float" and c["rounding"] == "half_up":
        return to_integer(math.floor(t + type(t)(0.5)), "floor")
    if c["half"] == "float" and c["rounding"] == "half_away":
        moved = t + type(t)(0.5 if t >= 0 else -0.5)
        return to_integer(moved, "trunc")
    return to_integer(t, c["rounding"])


def cast(c, zero_point, q_min, q_max):
    """int32(NaN or what is far) plus a zero-point, in int32, clipped."""
    beside = c["zero_point_when"] == "after_rounding" or c["scaling"].startswith(
        "range"
    )
    return max(q_min, min(q_max, (zero_point if beside else 0) % 2**32 - 2**31))


def quantize(c, x, scale, zero_point, q_min, q_max):  # noqa: C901 - a case an answer
    zero_point = zero_point if c["zero_point_use"] == "added" else 0
    ends = q_min, q_max
    if c["code_range"] == "symmetric":
        q_min = max(q_min, -q_max)

    def of_range(v):
        s = F32(scale)
        lo, hi = s * F32(q_min - zero_point), s * F32(q_max - zero_point)
        a = F32(q_max - q_min) / (hi - lo)
        b = -lo * a
        t = F32(v) * a + b
        if c["scaling"] == "range_fma":
            t = F32(np.float64(v) * np.float64(a) + np.float64(b))
        if math.isinf(t):
            return q_max if t > 0 else q_min
        code = to_integer(t, c["rounding"]) + q_min
        return max(q_min, min(q_max, code))

    def one(v):
        if math.isnan(v):
            return {
                "raise": REFUSED,
                "q_min": q_min,
                "q_max": q_max,
                "zero": max(q_min, min(q_max, zero_point)),
                "raw_zero": 0,
                "kept": math.nan,
                "cast": cast(c, zero_point, q_min, q_max),
            }[c["nan"]]
        if c["scaling"].startswith("range"):
            return of_range(v)
        kind = np.float64 if c["precision"] == "float64" else F32
        a, s = kind(v), kind(F32(scale))
        u = a / s if c["scaling"] == "divide" else a * (kind(1) / s)
        if c["zero_point_when"] == "before_rounding":
            whole = u + kind(zero_point)
            if c["scaling"] == "reciprocal_fma" and c["precision"] == "input":
                exact = Fraction(float(a)) * Fraction(float(kind(1) / s))
                whole = F32(float(exact + zero_point))
            q = float_rounded(whole, c)
        else:
            q = float_rounded(u, c) + zero_point
        if c["overflow"] == "wrap":
            return low_bits(q, *ends)
        if c["overflow"] == "cast_then_clip" and abs(float(v) / float(s)) >= 2**31:
            return cast(c, zero_point, q_min, q_max)
        return max(q_min, min(q_max, q))

    return each(one, x)


def wrapped(v, low, high):
    return (v - low) % (high - low + 1) + low


def difference(c, d, dtype):
    """q - zero_point in the width that was chosen."""
    if c["code_difference"] == "exact":
        return d
    info = np.iinfo(np.int8 if c["code_difference"] == "wraps" else dtype)
    return wrapped(d, int(info.min), int(info.max))


def dequantize(c, q, scale, zero_point):
    def one(code):
        z = zero_point if c["zero_point_sign"] == "subtract" else -zero_point
        code, s = int(code), F32(scale)
        d = code - z
        low = difference(c, d, np.asarray(q).dtype)
        if c["dequantize_order"] == "subtract_first":
            return s * F32(low)
        if c["dequantize_order"] == "fma":
            exact = Fraction(float(s)) * code - Fraction(float(s * F32(z)))
            return F32(float(exact)) + s * F32(low - d)
        return s * F32(code) - s * F32(z) + s * F32(low - d)

    return each(one, q)


def fake_quantize(c, x, scale, zero_point, q_min, q_max, dy):
    y, dx, ds = np.zeros_like(x), np.zeros_like(x), 0.0
    s, z = F32(scale), zero_point
    added = z if c["zero_point_use"] == "added" else 0
    if c["code_range"] == "symmetric":
        q_min = max(q_min, -q_max)
    for at in np.ndindex(x.shape):
        v = x[at]
        u = v / s if c["scaling"] == "divide" else v * (F32(1) / s)
        if c["zero_point_when"] == "before_rounding":
            q = to_integer(u + F32(added), c["rounding"])
        else:
            q = to_integer(u, c["rounding"]) + added
        y[at] = s * F32(max(q_min, min(q_max, q)) - z)
        if c["backward_rounding"] == "zero_point_inside":
            q = to_integer(u + F32(added), c["rounding"])
        kept = max(q_min, min(q_max, q))
        lo, hi = s * F32(q_min - added), s * F32(q_max - added)
        inside = {
            "none": True,
            "input_inclusive": lo <= v <= hi,
            "input_open": lo < v < hi,
            "input_half_open": lo <= v < hi,
            "input_half_open_below": lo < v <= hi,
            "rounded_inclusive": q_min <= q <= q_max,
        }
        passes = inside[c["straight_through"]]
        held = passes if c["scale_mask"] == "as_input" else inside[c["scale_mask"]]
        dx[at] = dy[at] if passes else 0
        ds += float(dy[at]) * ((kept - z) - (float(u) if held else 0))
    factor = {
        "1": 1,
        "none": 0,
        "negated": -1,
        "1/N": 1 / x.size,
        "1/sqrt(N)": 1 / math.sqrt(x.size),
        "1/sqrt(N*q_p)": 1 / math.sqrt(x.size * q_max),
        "1/sqrt(F*q_p)": 1 / math.sqrt(x.shape[1] * q_max),
    }[c["scale_gradient"]]
    return y, dx, np.array(factor * ds)


def kept_bits(bits, multiplier):
    if bits == "24":
        return int(F32(multiplier))
    half = 2**15 if bits == "15" else 0
    return min((multiplier + half) // 2**16, 2**15 - 1) * 2**16


def requantize(c, acc, multiplier, shift, zero_point, q_min, q_max):
    if c["multiplier_bits"] != "31":
        multiplier = kept_bits(c["multiplier_bits"], multiplier)
    ends = q_min, q_max
    if c["code_range"] == "symmetric":
        q_min = max(q_min, -q_max)
    form = c["requantize"]
    zero_point *= {"added": 1, "ignored": 0, "subtracted": -1}[c["zero_point_use"]]
    inside = zero_point if c["zero_point_when"] == "before_rounding" else 0

    def in_float(a, real):
        kind = F32 if form.startswith("float32") else float
        step = float(F32(real)) if form == "mixed_half_even" else kind(real)
        t = kind(a) * kind(step) + kind(inside)
        if c["float_sum"] == "fused" and kind is F32 and inside:
            t = F32(np.float64(F32(a)) * np.float64(F32(real)) + np.float64(inside))
        return to_integer(t, "half_away" if form.endswith("away") else "half_even")

    def one(a):
        a = int(a)
        real = Fraction(multiplier) * Fraction(2) ** (shift - 31)
        if form.startswith(("float", "mixed")):
            t = in_float(a, float(real))
        elif form.startswith("two_stage_"):
            high = to_integer(
                Fraction(a * 2 ** max(shift, 0) * multiplier, 2**31), "half_up"
            )
            right = 2 ** max(-shift, 0)
            last = form.removeprefix("two_stage_")
            t = to_integer(Fraction(high, right) + inside, last)
        else:
            t = to_integer(a * real + inside, form)
        q = t + zero_point - inside
        if c["overflow"] == "wrap":
            return low_bits(q, *ends)
        if c["overflow"] == "cast16_then_clip":
            q = (q + 2**15) % 2**16 - 2**15
        return max(q_min, min(q_max, q))

    return each(one, acc)


def doubled_high(real, a, how="half_away"):
    """Two roundings by hand: a 31-bit multiplier, its high half, then the shift."""
    exponent = 0
    while real >= 1:
        real, exponent = real / 2, exponent + 1
    while real < 0.5:
        real, exponent = real * 2, exponent - 1
    multiplier = to_integer(real * 2**31, "half_away")
    if multiplier == 2**31:
        multiplier, exponent = 2**30, exponent + 1
    high = to_integer(
        Fraction(a * 2 ** max(exponent, 0) * multiplier, 2**31), "half_up"
    )
    return to_integer(Fraction(high, 2 ** max(-exponent, 0)), how)


def fma(a, b, c):
    return F32(np.float64(a) * np.float64(b) + np.float64(c))


def summed(c, sign, bits, sx, a, zx, sy, b, zy, s, z):  # noqa: PLR0911 - an answer each
    form, one = c["sum_rescaling"], F32(1)
    fx, fy, fs = F32(sx), F32(sy), F32(s)
    if form in {"exact", "half_away"}:
        real = (Fraction(sx) * (a - zx) + sign * Fraction(sy) * (b - zy)) / Fraction(s)
        return z + to_integer(real, "half_even" if form == "exact" else form)
    if form == "onnxruntime":
        rx, ry = fx / fs, F32(sign) * (fy / fs)
        inside = F32(z) - fma(zx, rx, ry * F32(zy))
        return to_integer(fma(a, rx, fma(b, ry, inside)), "half_even")
    if form == "tflite":
        left, top = (20 if bits == 8 else 15), 2 * max(float(fx), float(fy))
        both = doubled_high(float(fx) / top, (a - zx) << left)
        both += sign * doubled_high(float(fy) / top, (b - zy) << left)
        return z + doubled_high(top / (2**left * float(fs)), both)
    if form == "separate":
        first, second = doubled_high(sx / s, a - zx), doubled_high(sy / s, b - zy)
        return z + first + sign * second
    if form == "xnnpack":
        rx, ry = float(fx / fs), float(fy / fs)
        k = 20 - int(np.floor(np.log2(max(rx, ry))))
        mx, my = (to_integer(r * 2.0**k, "half_even") for r in (rx, ry))
        acc = mx * (a - zx) + sign * my * (b - zy)
        return z + to_integer(Fraction(acc) / Fraction(2) ** k, "half_up")
    if form == "torch":
        real = fma(fx, a, -fx * F32(zx)) + F32(sign) * fma(fy, b, -fy * F32(zy))
        return z + to_integer(real * (one / fs), "half_even")
    real = (fx * F32(a - zx) + F32(sign) * (fy * F32(b - zy))) / fs
    return z + to_integer(real, "half_even")


def multiplied(c, _sign, _bits, sx, a, zx, sy, b, zy, s, z):
    form, p = c["product_rescaling"], (a - zx) * (b - zy)
    fx, fy, fs = F32(sx), F32(sy), F32(s)
    if form == "exact":
        return z + to_integer(
            Fraction(sx) * Fraction(sy) / Fraction(s) * p, "half_even"
        )
    if form == "tflite":
        return z + doubled_high(float(fx * fy / fs), p)
    if form == "tflite_float64":
        return z + doubled_high(float(fx) * float(fy) / float(fs), p)
    if form == "dequantized":
        t = (fx * F32(a - zx)) * (fy * F32(b - zy)) / fs
        return z + to_integer(t, "half_even")
    ratio = fx * fy * (F32(1) / fs) if form == "reciprocal" else fx * fy / fs
    if form == "onnxruntime":
        return to_integer(F32(p) * ratio + F32(z), "half_even")
    t = F32(a - zx) * F32(b - zy) * ratio
    return z + to_integer(t, "half_away" if form == "half_away" else "half_even")


def combined(one, sign, c, x, y, sx, zx, sy, zy, s, z, q_min, q_max):
    bits = 8 * np.asarray(x).dtype.itemsize

    def code(a, b):
        q = one(c, sign, bits, sx, int(a), zx, sy, int(b), zy, s, z)
        if c["overflow"] == "wrap":
            return low_bits(q, q_min, q_max)
        return max(q_min, min(q_max, q))

    pairs = zip(*map(np.ravel, np.broadcast_arrays(x, y)), strict=True)
    return np.array([code(*pair) for pair in pairs]).reshape(np.shape(x))


add = partial(combined, summed, 1)
sub = partial(combined, summed, -1)
mul = partial(combined, multiplied, 1)


def real_activation(function, how, v, alpha):
    """f(v) as a float32."""
    wide = float(v)
    if function == "sigmoid" and how == "rational":
        v = F32(max(-18.0, min(18.0, wide)))
        odd = "4.37031012579801e-11 1.15627324459942e-07 6.08574864600143e-05"
        odd += " 8.51377133304701e-03 2.48287947061529e-01"
        even = "6.10247389755681e-13 5.76102136993427e-09 6.29106785017040e-06"
        even += " 1.70198817374094e-03 1.16817656904453e-01 9.93151921023180e-01"
        sums = []
        for terms in (odd, even):
            first, *rest = map(F32, terms.split())
            for term in rest:
                first = fma(first, v * v, term)
            sums.append(first)
        return max(F32(0), v * sums[0] / sums[1] + F32(0.5))
    if how == "float32":
        return {
            "sigmoid": lambda: F32(1) / (F32(1) + F32(math.exp(-wide))),
            "tanh": lambda: F32(1) - F32(2) / (F32(1) + F32(math.exp(2 * wide))),
            "hard_swish": lambda: v * min(max(v + F32(3), F32(0)), F32(6)) / F32(6),
        }[function]()
    real = {
        "sigmoid": lambda: 1 / (1 + math.exp(-wide)),
        "tanh": lambda: math.tanh(wide),
        "hard_swish": lambda: wide * min(max(wide / 6 + 0.5, 0), 1),
        "leaky_relu": lambda: wide * (float(F32(alpha)) if wide < 0 else 1),
    }
    return F32(real[function]())


def towards_zero(n, d):
    return abs(n) // d * (1 if n >= 0 else -1)


def fixed_hard_swish(d, sx, s, z):
    """TFLite's reference on 16-bit integers, shifts and all."""

    def high(a, b):
        nudge = 2**14 if a * b >= 0 else 1 - 2**14
        return int16(towards_zero(a * b + nudge, 2**15))

    def to_16_bits(real):
        fraction, exponent = math.frexp(real)
        m = to_integer(fraction * 2**31, "half_away")
        return min((m + 2**15) >> 16, 2**15 - 1), exponent

    hires = F32(1 / 128) * F32(sx)
    output, down = to_16_bits(float(hires / F32(s)))
    slope, exponent = to_16_bits(float(hires / F32(3 / 32768)))
    r = d * 128
    if exponent > 0:
        r = int16(r << (exponent - 1))
    r = high(r, slope)
    if exponent > 0:
        r = int16(r * 2)
    r = to_integer(Fraction(r, 2 ** max(-exponent, 0)), "half_away")
    r = (r + 2**15) >> 1
    product = towards_zero(r * high(d * 128, output), 2**15)
    return z + to_integer(Fraction(product, 2**-down), "half_away")


def tabled(function, c, x, sx, zx, s, z, q_min, q_max, alpha=0.0):
    fx, fs, slope = F32(sx), F32(s), F32(alpha)

    def integer(d):
        if c["activation"] == "fixed_point":
            return fixed_hard_swish(d, sx, s, z)
        if c["activation"] in {"multipliers", "multipliers_float64"}:
            kind = F32 if c["activation"] == "multipliers" else float
            a, b, e = kind(fx), kind(fs), kind(slope)
            ratio = a * e / b if d < 0 else a / b
            return z + (doubled_high(float(ratio), d) if ratio else 0)
        if c["activation"] == "multipliers_8_bits":
            ratio = fx / fs * slope if d < 0 else fx / fs
            m = to_integer(256 * ratio, "half_even")
            return z + to_integer(Fraction(m * d, 256), "half_up")
        y = real_activation(function, c["activation"], fx * F32(d), alpha)
        u = y / fs if c["scaling"] == "divide" else y * (F32(1) / fs)
        if c["zero_point_when"] == "before_rounding":
            return to_integer(u + F32(z), c["rounding"])
        return z + to_integer(u, c["rounding"])

    def code(v):
        q = integer(int(v) - zx)
        if c["overflow"] == "wrap":
            return low_bits(q, q_min, q_max)
        return max(q_min, min(q_max, q))

    with np.errstate(over="ignore"):
        return each(code, x)


sigmoid = partial(tabled, "sigmoid")
tanh = partial(tabled, "tanh")
hard_swish = partial(tabled, "hard_swish")


def leaky_relu(c, x, alpha, *grids):
    return tabled("leaky_relu", c, x, *grids, alpha=alpha)


def mean_code(c, codes, n, sx, zx, s, z):  # noqa: PLR0911 - an answer each
    """The mean of the codes of a window of n: those beyond the plane are real 0."""
    fx, fs, size, form = F32(sx), F32(s), F32(n), c["mean_rescaling"]
    total = sum(v - zx for v in codes)
    every = total + n * zx
    if form == "exact":
        real = Fraction(sx) / Fraction(s) * Fraction(total, n)
        return z + to_integer(real, "half_even")
    if form == "float32":
        return z + to_integer(F32(total) * (fx / (fs * size)), "half_even")
    if form == "xnnpack":
        r = F32(1) / size * (fx / fs)
        return to_integer(F32(every) * r + (F32(z) - F32(zx) * size * r), "half_even")
    if form.startswith("offset"):
        moved = F32(zx) * fx / fs
        near = to_integer(moved, "half_away")
        how = "half_up" if form.endswith("up") else "half_away"
        return z - near + doubled_high(float(fx / (size * fs)), every, how)
    if form == "folded":
        fraction, exponent = math.frexp(float(fx / fs))
        m = to_integer(Fraction(fraction) * 2**31, "half_away")
        gained = min(n.bit_length() - 1, 31 + exponent)
        scaled = Fraction((m << gained) // n, 2**31)
        high = to_integer(scaled * (total << max(exponent - gained, 0)), "half_up")
        return z + to_integer(
            Fraction(high, 2 ** max(gained - exponent, 0)), "half_away"
        )
    mean = F32(0)
    for v in codes:
        mean += fx * F32(v - zx)
    t = mean / size / fs
    if form == "onnxruntime":
        return to_integer(t + F32(z), "half_even")
    return z + to_integer(t, "half_even")


def mean_pool2d(c, x, kernel, stride, padding, *grids):
    *grid, q_min, q_max = grids
    (kh, kw), (sh, sw) = np.broadcast_to(kernel, 2), np.broadcast_to(stride, 2)
    pads = (
        np.broadcast_to(np.array(padding), (2, 2)) if np.ndim(padding) < 2 else padding
    )
    (top, bottom), (left, right) = np.array(pads).tolist()
    count, channels, h, w = x.shape
    rows, cols = (h + top + bottom - kh) // sh + 1, (w + left + right - kw) // sw + 1
    y = np.zeros((count, channels, rows, cols), np.int64)
    for at in np.ndindex(y.shape):
        i, j = at[2] * sh - top, at[3] * sw - left
        inside = [
            int(x[at[0], at[1], a, b])
            for a, b in product(range(i, i + kh), range(j, j + kw))
            if 0 <= a < h and 0 <= b < w
        ]
        n = len(inside) if c["pool_count"] == "exclude_pad" else int(kh * kw)
        q = mean_code(c, inside, n, *grid)
        fit = low_bits if c["overflow"] == "wrap" else np.clip
        y[at] = fit(q, q_min, q_max)
    return y


def moved_code(c, v, own, zx, scale, z):
    """A code of one grid on another."""
    fx, fs, form = F32(own), F32(scale), c["concat_rescaling"]
    if form == "exact":
        real = Fraction(own) / Fraction(scale) * (v - zx)
        return z + to_integer(real, "half_even")
    if form == "multiplier":
        return z + doubled_high(float(fx / fs), v - zx)
    inverse, real = F32(1) / fs, fx * F32(v - zx)
    if form == "tflite":
        r = fx * inverse
        return z + to_integer(F32(v) * r - F32(zx) * r, "half_away")
    if form == "torch":
        return to_integer(fma(real, inverse, F32(z)), "half_even")
    t = real / fs if form == "onnxruntime" else real * inverse
    return z + to_integer(t, "half_even")


def concat(c, x, y, sx, zx, sy, zy, s, z, q_min, q_max):
    fit = low_bits if c["overflow"] == "wrap" else np.clip
    parts = [
        each(
            lambda v, a=a, b=b: fit(moved_code(c, int(v), a, b, s, z), q_min, q_max), w
        )
        for w, a, b in ((x, sx, zx), (y, sy, zy))
    ]
    return np.concatenate(parts, axis=-1)


def lookup(c, x, table):
    table, bits = table.tolist(), 8 * np.asarray(x).dtype.itemsize
    lowest = int(np.iinfo(x.dtype).min)

    def entry(v):
        if bits == 8:
            return table[int(v) % 256 if c["table_index"] == "by_byte" else v - lowest]
        i, j = divmod(int(v) - lowest, 128)
        step = Fraction((table[i + 1] - table[i]) * j, 128)
        how = {"rounded": "half_up", "floor": "floor", "trunc": "trunc"}
        if c["table_between"] == "nearest":
            return table[i + (j >= 64)]
        return table[i] + to_integer(step, how[c["table_between"]])

    return each(entry, np.asarray(x, np.int64))


def low_product(a, b):
    """round(a b / 2^31), ties up, 31 bits"""
    return min(to_integer(Fraction(a * b, 2**31), "half_up"), 2**31 - 1)


def divided(a, bits):
    return to_integer(Fraction(a, 2**bits), "half_away")


def fixed_row(below, sx):
    """gemmlowp's exponential and reciprocal, in Python integers: TFLite, softmax.h."""
    fraction, exponent = math.frexp(min(float(F32(sx)) * 2**26, 2.0**31 - 1))
    multiplier = to_integer(Fraction(fraction) * 2**31, "half_away")
    least = -((31 * 2**26) // 2**exponent)
    powers = [
        (2.0**k, to_integer(math.exp(-(2.0**k)) * 2**31, "half_even"))
        for k in range(-2, 5)
    ]

    def exponential(a):
        if a == 0:
            return 2**31 - 1
        inside = a % 2**24 - 2**24
        x = (inside << 5) + 2**28
        square = low_product(x, x)
        tail = divided(low_product(square, square), 2) + low_product(square, x)
        tail = divided(low_product(tail, 715_827_883) + square, 1)
        eighth = 1_895_147_668
        y = eighth + low_product(eighth, x + tail)
        for k, (_, factor) in enumerate(powers):
            if (inside - a) & (1 << (24 + k)):
                y = low_product(y, factor)
        return y

    kept = [d >= least for d in below]
    es = [
        exponential(low_product(d << exponent, multiplier)) if k else 0
        for d, k in zip(below, kept, strict=True)
    ]
    total = sum(divided(e, 12) for e in es)
    zeros = 32 - total.bit_length()
    half = ((total << zeros) - 2**31 + 2**31) >> 1
    x = 1_515_870_810 + low_product(half, -1_010_580_540)
    for _ in range(3):
        x += low_product(x, 2**29 - low_product(half, x)) * 4
    inverse = min(2 * x, 2**31 - 1)
    bits = 12 - zeros + 31 - 8
    return [
        divided(low_product(inverse, e), bits) if k else 0
        for e, k in zip(es, kept, strict=True)
    ]


def softmax_row(c, row, sx, s, z, low):
    below, form = [int(v) - int(max(row)) for v in row], c["softmax"]
    if form == "tflite":
        return [low + q for q in fixed_row(below, sx)]
    if form == "exact":
        e = [math.exp(sx * d) for d in below]
        return [z + to_integer(v / math.fsum(e) / s, "half_even") for v in e]
    if form == "onnxruntime":
        reach = np.finfo(F32).max / F32(len(row))
        wide = float(F32(sx))
        shift = (float(np.log(reach)) - 5) / wide
        t = [F32(math.exp((d + shift) * wide)) for d in below]
        inverse = F32(math.floor(F32(1) / F32(s)))
        total = F32(0)
        for v in t:
            total += v
        quotients = [float(v) * float(inverse) / float(total) for v in t]
        return [z + to_integer(q, "half_even") for q in quotients]
    e = [F32(math.exp(F32(sx) * F32(d))) for d in below]
    total = F32(0)
    for v in e:
        total += v
    if form == "table":
        inverse = F32(1) / (total * F32(s))
        return [z + to_integer(v * inverse, "half_away") for v in e]
    return [z + to_integer(v / total / F32(s), "half_even") for v in e]


def softmax(c, x, sx, s, z, q_min, q_max):
    flat = c["softmax_axis"] == "flattened" and x.ndim > 1
    rows = x.reshape(len(x), -1) if flat else x.reshape(-1, x.shape[-1])
    with np.errstate(over="ignore"):
        q = [softmax_row(c, row, sx, s, z, q_min) for row in rows]
    fit = low_bits if c["overflow"] == "wrap" else np.clip
    return np.array([[fit(v, q_min, q_max) for v in r] for r in q]).reshape(x.shape)


def int16(v):
    return max(-(2**15), min(2**15 - 1, v))


def total(c, terms, bias, correction, x, wz):
    """Sum products in the chosen accumulator; ``terms`` are (raw x, raw w) pairs."""
    wz = int(wz * {"subtracted": 1, "ignored": 0, "added": -1}[c["w_zero_point_use"]])
    terms = [(v, w - wz) for v, w in terms]
    if c["accumulator"] == "int16_saturating_pairs" and x.dtype == np.uint8:
        products = [v * w for v, w in terms] + [0]
        found = sum(
            int16(products[i] + products[i + 1]) for i in range(0, len(terms), 2)
        )
        found -= correction * sum(w for _, w in terms)
    else:
        offset = int(correction)
        differences = [v - offset for v, _ in terms]
        if c["code_difference"] != "exact":
            differences = [difference(c, d, x.dtype) for d in differences]
        found = sum(d * w for d, (_, w) in zip(differences, terms, strict=True))
    found += bias
    kind, _, how = c["accumulator"].partition("_")
    half = 2 ** (int(kind.removeprefix("int")) - 1)
    if how == "wrap":
        return wrapped(found, -half, half - 1)
    return max(-half, min(half - 1, found)) if how == "saturate" else found


def weight_at(c, w, o, i, kh, kw):
    size_o, size_i, h, k = w.shape
    if c["kernel"] == "convolution":
        kh, kw = h - 1 - kh, k - 1 - kw
    elif c["kernel"] == "transposed" and h == k:
        kh, kw = kw, kh
    place = {
        "OIHW": ((o * size_i + i) * h + kh) * k + kw,
        "OHWI": ((o * h + kh) * k + kw) * size_i + i,
        "HWIO": ((kh * k + kw) * size_i + i) * size_o + o,
    }[c["weight_layout"]]
    return int(w.ravel()[place])


def conv2d(c, x, w, b, x_zero_point, w_zero_point, stride, padding, dilation, groups):
    (sh, sw), (dil_h, dil_w) = (np.broadcast_to(v, 2) for v in (stride, dilation))
    wz = np.broadcast_to(w_zero_point, len(w))
    (top, bottom), (left, right) = padding
    if c["padding_side"] == "swapped":
        top, bottom, left, right = bottom, top, right, left
    n, _, h, k = x.shape
    o, per, kh, kw = w.shape
    out_h = (h + top + bottom - dil_h * (kh - 1) - 1) // sh + 1
    out_w = (k + left + right - dil_w * (kw - 1) - 1) // sw + 1
    fill = x_zero_point if c["padding_value"] == "zero_point" else 0
    z = (
        x_zero_point
        * {"subtracted": 1, "ignored": 0, "added": -1}[c["x_zero_point_use"]]
    )
    y = np.zeros((n, o, out_h, out_w), np.int64)
    taps = list(product(range(per), range(kh), range(kw)))
    kernels = [[weight_at(c, w, out, *tap) for tap in taps] for out in range(o)]
    codes = x.tolist()
    contiguous = c["group_assignment"] == "contiguous"
    for image, out, p, q in np.ndindex(y.shape):
        group = out // (o // groups) if contiguous else out % groups
        terms = []
        for (i, dh, dw), weight in zip(taps, kernels[out], strict=True):
            channel = group * per + i if contiguous else i * groups + group
            r, s = p * sh + dil_h * dh - top, q * sw + dil_w * dw - left
            inside = 0 <= r < h and 0 <= s < k
            terms.append((codes[image][channel][r][s] if inside else fill, weight))
        bias = int(b[out]) if c["bias"] == "added" else 0
        y[image, out, p, q] = total(c, terms, bias, z, x, wz[out])
    return y


def conv_transpose2d(c, x, w, b, xz, wz, stride, padding, extra, dilation, groups):
    """For every output, the codes that meet it, each with its weight."""
    (sh, sw), (dh, dw), (eh, ew) = (
        np.broadcast_to(v, 2) for v in (stride, dilation, extra)
    )
    (top, bottom), (left, right) = padding
    if c["padding_side"] == "swapped":
        top, bottom, left, right = bottom, top, right, left
    (n, channels, h, k), (_, per, kh, kw) = x.shape, w.shape
    layout = {"IOHW": "ioyx", "OIHW": "oiyx", "OHWI": "oyxi", "HWOI": "yxoi"}
    order = layout[c["transposed_layout"]]
    sizes = dict(zip("ioyx", w.shape, strict=True))
    memory = w.ravel().tolist()

    def weight(**at):
        if c["kernel"] == "convolution":
            at |= {"y": kh - 1 - at["y"], "x": kw - 1 - at["x"]}
        elif c["kernel"] == "transposed" and kh == kw:
            at |= {"y": at["x"], "x": at["y"]}
        place = 0
        for axis in order:
            place = place * sizes[axis] + at[axis]
        return memory[place]

    use = {"subtracted": 1, "ignored": 0, "added": -1}
    z, wz = xz * use[c["x_zero_point_use"]], np.broadcast_to(wz, per * groups)
    high = (h - 1) * sh + dh * (kh - 1) + 1 + eh - top - bottom
    wide = (k - 1) * sw + dw * (kw - 1) + 1 + ew - left - right
    y = np.zeros((n, per * groups, high, wide), np.int64)
    each, codes = channels // groups, x.tolist()
    taps = list(product(range(per), range(kh), range(kw)))
    rows = range(channels)
    kernels = {
        (o, a, e): [weight(i=i, o=o, y=a, x=e) for i in rows] for o, a, e in taps
    }
    for image, out, p, q in np.ndindex(y.shape):
        in_turn = c["group_assignment"] == "interleaved"
        group, o = (out % groups, out // groups) if in_turn else divmod(out, per)
        terms = []
        for a, e in np.ndindex(kh, kw):
            (row, r), (col, s) = (
                divmod(p + top - a * dh, sh),
                divmod(q + left - e * dw, sw),
            )
            there = not r and not s and 0 <= row < h and 0 <= col < k
            if not there and c["gap_value"] != "raw_zero":
                continue
            for i in range(each):
                channel = i * groups + group if in_turn else group * each + i
                code = codes[image][channel][row][col] if there else 0
                terms.append((code, kernels[o, a, e][channel]))
        bias = int(b[out]) if c["bias"] == "added" else 0
        y[image, out, p, q] = total(c, terms, bias, z, x, wz[out])
    return y


def linear(c, x, w, b, x_zero_point, w_zero_point):
    o, width = w.shape
    wz = np.broadcast_to(w_zero_point, o)
    z = (
        x_zero_point
        * {"subtracted": 1, "ignored": 0, "added": -1}[c["x_zero_point_use"]]
    )
    y = np.zeros((len(x), o), np.int64)
    codes, weights = x.tolist(), w.ravel().tolist()
    for row, out in np.ndindex(y.shape):
        where = [out * width + i for i in range(width)]
        if c["weight_order"] == "IO":
            where = [i * o + out for i in range(width)]
        terms = [(codes[row][i], weights[k]) for i, k in enumerate(where)]
        bias = int(b[out]) if c["bias"] == "added" else 0
        y[row, out] = total(c, terms, bias, z, x, wz[out])
    return y


def matmul(c, a, b, a_zero_point, b_zero_point):
    k, j = b.shape[-2:]
    use = {"subtracted": 1, "ignored": 0, "added": -1}[c["x_zero_point_use"]]
    leading = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    rows = np.broadcast_to(a, leading + a.shape[-2:])
    y = np.zeros((*leading, a.shape[-2], j), np.int64)
    for *at, row, col in np.ndindex(y.shape):
        memory = np.broadcast_to(b, leading + b.shape[-2:])[tuple(at)].ravel().tolist()
        where = [i * j + col for i in range(k)]
        if c["y_order"] == "transposed":
            where = [col * k + i for i in range(k)]
        codes = rows[tuple(at)][row].tolist()
        terms = [(codes[i], memory[w]) for i, w in enumerate(where)]
        y[(*at, row, col)] = total(c, terms, 0, use * a_zero_point, a, b_zero_point)
    return y


def pooled(x, kernel, stride, padding, beyond, one):
    """Pool each window's list of codes by ``one``; None beyond the plane is no code."""
    n, channels, *plane = x.shape
    rows, cols = ((size + 2 * padding - kernel) // stride + 1 for size in plane)
    y = np.zeros((n, channels, rows, cols), np.int64)
    for image, ch, p, q in np.ndindex(y.shape):
        codes = []
        for dh, dw in product(range(kernel), range(kernel)):
            r, s = p * stride + dh - padding, q * stride + dw - padding
            inside = 0 <= r < plane[0] and 0 <= s < plane[1]
            codes.append(int(x[image, ch, r, s]) if inside else beyond)
        y[image, ch, p, q] = one([code for code in codes if code is not None])
    return y


def avg_pool2d(c, x, kernel, stride, padding, zero_point):
    def one(codes):
        z = zero_point if c["pool_centre"] == "real" else 0
        s, count = sum(codes) - z * len(codes), len(codes)
        if c["pool_division"] == "exact":
            return z + to_integer(Fraction(s, count), c["pool_rounding"])
        return z + to_integer(F32(s) * (F32(1) / F32(count)), c["pool_rounding"])

    beyond = zero_point if c["pool_count"] == "include_pad" else None
    return pooled(x, kernel, stride, padding, beyond, one)


def max_pool2d(c, x, kernel, stride, padding):
    beyond = 0 if c["max_pool_padding"] == "raw_zero" else None
    return pooled(x, kernel, stride, padding, beyond, max)


def resize_place(c, i, n, m):
    """A Fraction, or a float."""
    half = Fraction(1, 2) if c["resize_place"] == "half_pixel" else Fraction(0)
    ends = c["resize_place"] == "align_corners"
    up, down = (n - 1, max(m - 1, 1)) if ends else (n, m)
    if c["resize_ratio"] == "exact":
        return (i + half) * Fraction(up, down) - half
    at, h = F32(i) + F32(float(half)), F32(float(half))
    if c["resize_ratio"] == "multiplied":
        return float(at * (F32(up) / F32(down)) - h)
    return float(at / (F32(down) / F32(max(up, 1))) - h)


def resize_nearest(c, x, size):
    def nearest(i, n, m):
        at = Fraction(resize_place(c, i, n, m))
        return min(max(to_integer(at, c["nearest_rounding"]), 0), n - 1)

    y = np.zeros((*x.shape[:2], *size), np.int64)
    for *image, p, q in np.ndindex(y.shape):
        sides = zip((p, q), x.shape[2:], size, strict=True)
        y[(*image, p, q)] = x[(*image, *(nearest(*side) for side in sides))]
    return y


def resize_sides(c, i, n, m):
    """Two codes of one axis, and the share of each."""
    how, ends = c["resize_blend"], c["resize_place"] == "align_corners" and m > 1
    centres = c["resize_place"] == "half_pixel"
    if how == "tflite":
        ratio = (1024 * (n - ends) + (m - ends) // 2) // (m - ends)
        at = i * ratio + (ratio // 2 - 512 if centres else 0)
        low, high = max(towards_zero(at, 1024), 0), min(-(-at // 1024), n - 1)
        return (low, 1024 - (at - 1024 * low)), (high, at - 1024 * low)
    if how == "xnnpack":
        r = F32(n - ends) / F32(m - ends)
        shift = F32(0.5) * r - F32(0.5) if centres else F32(0)
        at = min(max(F32(i) * r + shift, F32(0)), F32(n - 1))
        low = int(at)
        share = int(np.rint((at - F32(low)) * F32(2048)))
        return (low, 2048 - share), (min(low + 1, n - 1), share)
    exact = not how.startswith("float32")
    at = resize_place(c | {"resize_ratio": "exact"} if exact else c, i, n, m)
    kind = Fraction if exact else lambda v: F32(float(v))
    at = min(max(kind(at), kind(0)), kind(n - 1))
    low = int(at)
    share = at - kind(low) if exact or low < n - 1 else F32(0.5)
    return (low, kind(1) - share), (min(low + 1, n - 1), share)


def resize_bilinear(c, x, size):
    how = c["resize_blend"]
    kind = F32 if how.startswith("float32") else Fraction
    y = np.zeros((*x.shape[:2], *size), np.int64)
    for *image, p, q in np.ndindex(y.shape):
        rows, cols = (
            resize_sides(c, i, n, m)
            for i, n, m in zip((p, q), x.shape[2:], size, strict=True)
        )
        t = kind(0)
        for (r, a), (s, b) in product(rows, cols):
            t = t + b * a * kind(int(x[(*image, r, s)]))
        t = Fraction(float(t)) if kind is F32 else t
        t = t / {"tflite": 2**20, "xnnpack": 2**22}.get(how, 1)
        rounding = {"tflite": "half_away", "xnnpack": "half_up"}.get(how, how)
        y[(*image, p, q)] = to_integer(t, rounding.removeprefix("float32_"))
    return y


def logistic(v):
    return 1 / (1 + math.exp(-v))


def lstm_cell(c, x, h, c_, w_x, w_h, b_x, b_h):
    n, d = h.shape
    order = c["gate_order"].split()
    h_new, c_new = np.zeros((n, d)), np.zeros((n, d))
    for row, unit in np.ndindex(n, d):
        gates = {}
        for name in "ifgo":
            k = order.index(name) * d + unit
            a = sum(x[row, i] * w_x[k, i] for i in range(x.shape[1]))
            a += sum(h[row, i] * w_h[k, i] for i in range(d))
            a += b_x[k] if c["lstm_bias"] != "recurrent_only" else 0
            a += b_h[k] if c["lstm_bias"] != "input_only" else 0
            gates[name] = a
        forget = logistic(gates["f"] + int(c["forget_bias"]))
        c_new[row, unit] = forget * c_[row, unit] + logistic(gates["i"]) * math.tanh(
            gates["g"]
        )
        h_new[row, unit] = logistic(gates["o"]) * math.tanh(c_new[row, unit])
    return h_new, c_new


def batch_norm(c, x, gamma, beta, running_mean, running_var, momentum, eps):
    y, means, variances = np.zeros_like(x), [], []
    for k in range(x.shape[1]):
        v = x[:, k].ravel().tolist()
        mean = sum(v) / len(v)
        squares = sum((u - mean) ** 2 for u in v)
        divide = {"biased": len(v), "unbiased": len(v) - 1}
        var = squares / divide[c["batch_variance"]]
        std = math.sqrt(var + eps) if c["epsilon"] == "inside" else math.sqrt(var) + eps
        y[:, k] = gamma[k] * (x[:, k] - mean) / std + beta[k]
        seen = squares / divide[c["running_variance"]]
        new = momentum if c["running_momentum"] == "new" else 1 - momentum
        means.append(running_mean[k] + new * (mean - running_mean[k]))
        variances.append(running_var[k] + new * (seen - running_var[k]))
    return y, np.array(means), np.array(variances)


def softmax_cross_entropy(c, logits, labels, label_smoothing):
    n, k = logits.shape
    base = 2 if c["logarithm"] == "base_2" else math.e
    loss, dlogits = 0.0, np.zeros_like(logits)
    for row in range(n):
        e = [math.exp(v) for v in logits[row]]
        p = [v / sum(e) for v in e]
        for j in range(k):
            t = (1 - label_smoothing) * (j == labels[row])
            if c["smoothing"] == "all_classes":
                t += label_smoothing / k
            else:
                t += label_smoothing / (k - 1) * (j != labels[row])
            loss -= t * math.log(p[j], base)
            dlogits[row, j] = (p[j] - t) / math.log(base)
    by = n if c["reduction"] == "mean" else 1
    return np.array(loss / by), dlogits / by


def sgd(c, value, grads, lrs, momentum, weight_decay, dampening, nesterov):
    w, v, seen = value.copy(), 0 * value, []
    for t, (grad, lr) in enumerate(zip(grads, lrs, strict=True)):
        rate = lr if c["velocity"] == "with_lr" else 1.0
        g = grad + weight_decay * w * (c["decay_order"] == "gradient")
        damp = 1 - dampening if t or c["dampening"] == "always" else 1
        if c["dampening"] == "with_momentum" and momentum == 0:
            damp = 1
        v = momentum * v + damp * rate * g
        way = v
        if nesterov and c["nesterov"] == "gradient_plus_velocity":
            way = rate * g + momentum * v
        elif nesterov and c["nesterov"] == "twice":
            way = momentum * (momentum * v + rate * g) + rate * g
        shrink = lr * weight_decay * w * (c["decay_order"] != "gradient")
        w = w - (way if c["velocity"] == "with_lr" else lr * way) - shrink
        seen.append(w)
    return np.stack(seen)


def gate(c, x, fx, logit, h, h_new, dm):
    y, state, dlogit = np.zeros_like(x), np.zeros_like(x), np.zeros_like(x)
    for k in range(len(x)):
        p = logistic(logit[k])
        runs = p > 0.5 if c["threshold"] == "above" else p >= 0.5
        times = c["skipped_branch"] == "times_zero"
        lost = times and not runs and math.isinf(fx[k])
        y[k] = math.nan if lost else x[k] + (fx[k] if runs else 0)
        idle = {"kept": h[k], "updated": h_new[k], "zeroed": 0}[c["skipped_state"]]
        state[k] = h_new[k] if runs else idle
        slopes = {"through_sigmoid": p * (1 - p), "straight_through": 1, "none": 0}
        dlogit[k] = dm[k] * slopes[c["gate_gradient"]]
    return y, state, dlogit


def replaced(c, x, dx, dy):
    hard = np.where((x >= -1) & (x <= 1), dy, 0)
    return {"published": dx, "identity": dy, "none": 0 * dy, "hard_tanh": hard}[
        c["backward"]
    ]


def within(how, v, lo, hi):
    """Whether v is inside, the ends as said."""
    return {
        "closed": lo <= v <= hi,
        "open": lo < v < hi,
        "half_open": lo <= v < hi,
        "half_open_below": lo < v <= hi,
    }[how]


def gathered(c, terms, example, q_p=1):
    """The gradient of a parameter from its terms dy k: (dy, k) of every value."""
    total, n = sum(dy * k for dy, k in terms), len(terms)
    kept = max(sum(k != 0 for _, k in terms), 1)
    return np.array(
        {
            "sum": total,
            "mean": total / n,
            "mean_of_kept": total / kept,
            "negated": -total,
            "none": 0.0,
            "1/sqrt(N*q_p)": total / math.sqrt(n * q_p),
            "1/sqrt(F*q_p)": total / math.sqrt(example * q_p),
            "1/sqrt(N)": total / math.sqrt(n),
        }[c["parameter_gradient"]]
    )


def said(answer, published):
    return published if answer == "published" else answer


def by_example(quantizer, x, dy, parameter):
    each = [
        quantizer(x[i : i + 1], dy[i : i + 1], parameter[i].item())
        for i in range(len(x))
    ]
    y, dx, gradient = zip(*each, strict=True)
    total = np.array(gradient).reshape(parameter.shape)
    return np.concatenate(y), np.concatenate(dx), total


def pact(c, x, dy, alpha):
    if np.ndim(alpha):
        return by_example(partial(pact, c), x, dy, alpha)
    alpha, n = float(alpha), 15
    y, dx, terms = np.zeros_like(x), np.zeros_like(x), []
    for at in np.ndindex(x.shape):
        v = x[at]
        clipped = max(0.0, min(alpha, v))
        code = to_integer(clipped / (alpha / n), c["rounding"])
        y[at] = alpha / n * code
        ends = said(c["mask_ends"], "half_open")
        dx[at] = dy[at] if within(ends, v, 0, alpha) else 0
        clips = v > alpha if c["parameter_mask"] == "closed" else v >= alpha
        inside = c["pact_scope"] == "rounding" and 0 <= v <= alpha
        share = (code - clipped * n / alpha) / n if inside else 0
        terms.append((dy[at], 1.0 if clips else share))
    return y, replaced(c, x, dx, dy), gathered(c, terms, x[0].size)


def lsq(c, x, dy, s):
    if np.ndim(s):
        return by_example(partial(lsq, c), x, dy, s)
    s, y, dx, terms = float(s), np.zeros_like(x), np.zeros_like(x), []
    for at in np.ndindex(x.shape):
        u = x[at] / s
        code = to_integer(max(-4, min(3, u)), c["rounding"])
        y[at] = s * code
        dx[at] = dy[at] if within(said(c["mask_ends"], "open"), u, -4, 3) else 0
        inside = within(said(c["parameter_mask"], "open"), u, -4, 3)
        terms.append((dy[at], code - u if inside else code))
    return y, replaced(c, x, dx, dy), gathered(c, terms, x[0].size, 3)


def ternary(c, x, dy):
    y = np.zeros_like(x)
    for row in range(len(x)):
        size = np.abs(x[row]).ravel().tolist()
        mean = sum(size) / len(size)
        t = 0.7 * mean
        kept = [v for v in size if v > t]
        for at in np.ndindex(x.shape[1:]):
            v = x[(row, *at)]
            if c["ternary_variant"] == "twn":
                level = (abs(v) > t) * sum(kept) / max(len(kept), 1)
            elif c["ternary_variant"] == "resolved":
                level = (abs(v) >= t) * mean
            else:
                level = (v >= t) * mean
            y[(row, *at)] = np.sign(v) * level
    return y, replaced(c, x, dy, dy)


def dorefa_activation(c, x, dy):
    y, dx = np.zeros_like(x), np.zeros_like(x)
    for at in np.ndindex(x.shape):
        y[at] = to_integer(max(0.0, min(1.0, x[at])) * 15, c["rounding"]) / 15
        dx[at] = dy[at] if within(said(c["mask_ends"], "closed"), x[at], 0, 1) else 0
    return y, replaced(c, x, dx, dy)


def training_step(c, x, labels, w, b, *settings):
    def forward(wq, b):
        rows = [[sum(r * k) + d for k, d in zip(wq, b, strict=True)] for r in x]
        return np.array(rows)

    def backward(dlogits):
        return np.array([[sum(p * r) for r in x.T] for p in dlogits.T])

    return stepped(c, forward, backward, labels, w, b, *settings)


def conv_step(
    c, x, labels, w, b, scale, q_min, q_max, stride, padding, lrs, momentum, decay, a
):
    (top, bottom), (left, right) = padding
    sh, sw = np.broadcast_to(stride, 2)
    n, kh, kw = len(x), w.shape[2], w.shape[3]
    planes = np.zeros(
        (n, x.shape[1], x.shape[2] + top + bottom, x.shape[3] + left + right)
    )
    planes[:, :, top : top + x.shape[2], left : left + x.shape[3]] = x
    places = [
        (p, q)
        for p in range(0, planes.shape[2] - kh + 1, sh)
        for q in range(0, planes.shape[3] - kw + 1, sw)
    ]

    def patches(image):
        return [planes[image, :, p : p + kh, q : q + kw] for p, q in places]

    def forward(wq, b):
        each = [
            [sum(np.sum(v * k) for v in patches(i)) / len(places) for k in wq]
            for i in range(n)
        ]
        return np.array(each) + b

    def backward(dlogits):
        share = dlogits.T / len(places)
        rows = [[k * sum(patches(i)) for i, k in enumerate(col)] for col in share]
        return np.array([sum(row) for row in rows])

    c = {"decay_order": "gradient", "velocity": "without_lr", **c}
    settings = scale, q_min, q_max, lrs, momentum, decay, a
    return stepped(c, forward, backward, labels, w, b, *settings)


def stepped(
    c,
    forward,
    backward,
    labels,
    w,
    b,
    scale,
    q_min,
    q_max,
    lrs,
    momentum,
    weight_decay,
    smooth,
):
    answers = {"logarithm": "natural", "smoothing": "all_classes", **c}
    losses, seen_w, seen_b = [], [], []
    v_w, v_b = np.zeros_like(w), np.zeros_like(b)
    for lr in lrs:
        codes = each(lambda v: to_integer(v / scale, c["rounding"]), w)
        wq = scale * np.minimum(np.maximum(codes, q_min), q_max)
        logits = forward(wq, b)
        loss, dlogits = softmax_cross_entropy(answers, logits, labels, smooth)
        dwq, db = backward(dlogits), np.array([sum(col) for col in dlogits.T])
        dw = np.zeros_like(w)
        for at in np.ndindex(w.shape):
            v, lo, hi = w[at], scale * q_min, scale * q_max
            passes = {
                "none": True,
                "input_inclusive": lo <= v <= hi,
                "input_open": lo < v < hi,
                "input_half_open": lo <= v < hi,
                "input_half_open_below": lo < v <= hi,
                "rounded_inclusive": q_min <= codes[at] <= q_max,
            }[c["straight_through"]]
            dw[at] = dwq[at] if passes else 0
        start = w if c["updated"] == "latent" else wq
        w, v_w = moved(c, start, dw, v_w, lr, momentum, weight_decay)
        kept = weight_decay if c["decayed"] == "all" else 0.0
        b, v_b = moved(c, b, db, v_b, lr, momentum, kept)
        losses.append(loss)
        seen_w.append(w)
        seen_b.append(b)
    return np.array(losses), np.stack(seen_w), np.stack(seen_b)


def moved(c, value, grad, v, lr, momentum, decay):
    g = grad + decay * value * (c["decay_order"] == "gradient")
    shrink = lr * decay * value * (c["decay_order"] != "gradient")
    if c["velocity"] == "with_lr":
        v = momentum * v + lr * g
        return value - v - shrink, v
    v = momentum * v + g
    return value - lr * v - shrink, v


def dorefa_gradient(c, dy, noise, bits):
    y, n = np.zeros_like(dy), 2**bits - 1
    for at in np.ndindex(dy.shape):
        over = dy[at[0]] if c["gradient_maximum"] == "sample" else dy
        m = max(abs(v) for v in np.ravel(over))
        u = dy[at] / (2 * m) + 0.5 + (c["noise_use"] == "added") * noise[at] / n
        code = to_integer(n * max(0.0, min(1.0, u)), "half_even")
        y[at] = 2 * m * (code / n - 0.5)
    return y


def min_max_gradient(c, dy, noise, bits):
    y, n = np.zeros_like(dy), 2**bits - 1
    for at in np.ndindex(dy.shape):
        over = np.ravel(dy[at[0]] if c["gradient_limits"] == "sample" else dy)
        lo, hi = min(over), max(over)
        step = (hi - lo) / n
        t = (dy[at] - lo) / step + (c["noise_use"] == "added") * noise[at]
        y[at] = step * to_integer(max(0.0, min(float(n), t)), "half_even") + lo
    return y


def learned_offset(c, x, scale, offset, q_min, q_max, dy):
    y, dx, terms, clipped = np.zeros_like(x), np.zeros_like(x), [], 0.0
    for at in np.ndindex(x.shape):
        u = (x[at] - offset) / scale
        q = max(q_min, min(q_max, to_integer(u, c["rounding"])))
        y[at] = scale * q + offset
        lo, hi = scale * q_min, scale * q_max
        passes = {
            "none": True,
            "input_inclusive": lo <= x[at] - offset <= hi,
            "input_open": lo < x[at] - offset < hi,
        }[c["straight_through"]]
        dx[at] = dy[at] if passes else 0
        terms.append((dy[at], q - u if passes else q))
        clipped += 0 if passes else dy[at]
    n, total = x.size, sum(d * k for d, k in terms)
    ds = {
        "1": total,
        "none": 0.0,
        "negated": -total,
        "1/N": total / n,
        "1/sqrt(N)": total / math.sqrt(n),
        "1/sqrt(N*q_p)": total / math.sqrt(n * q_max),
        "1/sqrt(F*q_p)": total / math.sqrt(x.shape[1] * q_max),
    }[c["scale_gradient"]]
    doffset = {
        "clipped": clipped,
        "everywhere": sum(d for d, _ in terms),
        "negated": -clipped,
        "none": 0.0,
        "1/sqrt(N*q_p)": clipped / math.sqrt(n * q_max),
    }[c["offset_gradient"]]
    return y, dx, np.array(ds), np.array(doffset)


def adam(c, value, grads, lrs, beta1, beta2, eps, weight_decay):
    value, m, v, seen = value.copy(), 0 * value, 0 * value, []
    for t, lr in enumerate(lrs, 1):
        for i in range(value.size):
            g = grads[t - 1][i]
            if c["adam_decay"] == "gradient":
                g = g + weight_decay * value[i]
            m[i] = beta1 * m[i] + (1 - beta1) * g
            v[i] = beta2 * v[i] + (1 - beta2) * g * g
            first = 1 if c["bias_correction"] == "none" else 1 - beta1**t
            second = 1 - beta2**t if c["bias_correction"] == "both" else 1
            root = {
                "to_root": lambda i=i, s=second: math.sqrt(v[i] / s) + eps,
                "under_root": lambda i=i, s=second: math.sqrt(v[i] / s + eps),
                "uncorrected": lambda i=i, s=second: (
                    (math.sqrt(v[i]) + eps) / math.sqrt(s)
                ),
            }[c["adam_epsilon"]]()
            shrink = weight_decay * (c["adam_decay"] == "decoupled")
            value[i] = value[i] * (1 - lr * shrink) - lr * m[i] / first / root
        seen.append(value.copy())
    return np.stack(seen)


def binary_step(c, *given):
    def quantize(row, _):
        mean = sum(abs(v) for v in row) / len(row)
        scale = mean if c["binary_scale"] == "filter" else 1
        zero = float(c["sign_of_zero"])
        return [scale * (math.copysign(1, v) if v else zero) for v in row]

    return latent_step(c, quantize, *given)


def ternary_step(c, *given):
    def quantize(row, w):
        over = row if c["filter_group"] == "filter" else np.ravel(w)
        limit = 0.7 * sum(abs(v) for v in over) / len(over)
        kept = [abs(v) for v in over if abs(v) > limit]
        scale = sum(kept) / max(len(kept), 1) if c["ternary_scale"] != "none" else 1
        return [math.copysign(scale, v) if abs(v) > limit else 0.0 for v in row]

    return latent_step(c, quantize, *given)


def latent_step(c, quantize, x, labels, w, b, lrs, momentum, weight_decay):
    answers = {"logarithm": "natural", "smoothing": "all_classes", **c}
    answers |= {"decay_order": "gradient", "velocity": "without_lr"}
    losses, seen_w, seen_b = [], [], []
    v_w, v_b = np.zeros_like(w), np.zeros_like(b)
    for lr in lrs:
        wq = np.array([quantize(row, w) for row in w])
        logits = np.array(
            [[sum(r * k) + d for k, d in zip(wq, b, strict=True)] for r in x]
        )
        loss, dlogits = softmax_cross_entropy(answers, logits, labels, 0.0)
        dw, db = np.zeros_like(w), np.array([sum(col) for col in dlogits.T])
        for o, i in np.ndindex(w.shape):
            passes = c["binary_mask"] == "all" or -1 <= w[o, i] <= 1
            dw[o, i] = sum(dlogits[:, o] * x[:, i]) if passes else 0
        start = w if c["updated"] == "latent" else wq
        w, v_w = moved(answers, start, dw, v_w, lr, momentum, weight_decay)
        if c["latent_clip"] == "to_1":
            w = np.minimum(np.maximum(w, -1), 1)
        b, v_b = moved(answers, b, db, v_b, lr, momentum, weight_decay)
        losses.append(loss)
        seen_w.append(w)
        seen_b.append(b)
    return np.array(losses), np.stack(seen_w), np.stack(seen_b)


def folded_conv2d(
    c, x, w, gamma, beta, m, var, eps, scale, q_min, q_max, stride, padding
):
    def conv(w):
        (top, bottom), (left, right) = padding
        sh, sw = np.broadcast_to(stride, 2)
        kh, kw = w.shape[2:]
        planes = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
        rows = range(0, planes.shape[2] - kh + 1, sh)
        columns = range(0, planes.shape[3] - kw + 1, sw)
        y = np.zeros((len(x), len(w), len(rows), len(columns)))
        for n, o, i, j in np.ndindex(y.shape):
            p, q = rows[i], columns[j]
            y[n, o, i, j] = np.sum(planes[n, :, p : p + kh, q : q + kw] * w[o])
        return y

    def root(v):
        return math.sqrt(v) + eps if c["epsilon"] == "outside" else math.sqrt(v + eps)

    kind, wq, plain = c["fold_statistics"], np.zeros_like(w), conv(w)
    s = np.broadcast_to(scale, len(w))
    ours = [(float(np.mean(v)), root(float(np.var(v)))) for v in plain.swapaxes(0, 1)]
    for o in range(len(w)):
        by = ours[o][1] if kind == "batch" else root(var[o])
        for at in np.ndindex(w[o].shape):
            code = to_integer(w[o][at] * gamma[o] / by / s[o], "half_even")
            wq[o][at] = s[o] * max(q_min, min(q_max, code))
    y = conv(wq)
    for o, (mean, sigma) in enumerate(ours):
        if kind == "of_quantized":
            if gamma[o] == 0:
                y[:, o] = beta[o] if c["zero_gamma"] == "beta" else np.nan
                continue
            back = y[:, o] * root(var[o]) / gamma[o]
            away = back - np.mean(back)
            y[:, o] = away / root(np.mean(away**2)) * gamma[o] + beta[o]
            continue
        if kind == "corrected":
            y[:, o] *= root(var[o]) / sigma
        middle, by = (m[o], root(var[o])) if kind == "running" else (mean, sigma)
        y[:, o] += beta[o] - gamma[o] * middle / by
    return y
