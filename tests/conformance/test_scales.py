"""A scale that is kept in few bits, or off by a factor, is named as such."""

import numpy as np
import pytest

from refqnn import integer
from refqnn.conformance import diagnose
from refqnn.conformance.choices.families import FAMILIES
from refqnn.conformance.judge.scales import FORMATS, factor_hints, few_bits


def bfloat16(real):
    """The upper 16 bits of a float32, to the nearest even."""
    bits = np.asarray(real, np.float32).view(np.uint32).astype(np.uint64)
    kept = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16 << 16
    return kept.astype(np.uint32).view(np.float32).astype(np.float64)


@pytest.mark.parametrize("real", [0.0137, 3.21e-3, 0.9999, 1.7e-5, 250.3])
def test_formats_are_those_of_ieee_754_and_of_bfloat16(real):
    r = np.float64(real)
    assert FORMATS["as bfloat16"](r) == bfloat16(r)
    assert FORMATS["as float16"](r) == np.float64(np.float16(r))
    assert FORMATS["in 24 bits"](r) == np.float64(np.float32(r))
    assert few_bits(8, True, r) <= r


def accumulators(rng, channels):
    m, e = integer.quantize_multiplier(rng.uniform(0.002, 0.008, channels))
    acc = rng.integers(-20_000, 20_000, (2, channels, 9, 9)).astype(np.int32)
    call = {"acc": acc, "multiplier": m[:, None, None], "shift": e[:, None, None]}
    real = np.ldexp(m.astype(np.float64), e - 31)[:, None, None]
    return call | {"zero_point": 3, "q_min": -128, "q_max": 127}, real


@pytest.mark.parametrize(
    ("kept", "name"),
    [
        (lambda r: r.astype(np.float16).astype(np.float64), "float16"),
        (bfloat16, "bfloat16"),
        (lambda r: few_bits(12, False, r), "in 12 bits"),
        (lambda r: few_bits(13, True, r), "in 13 bits, cut off"),
    ],
)
@pytest.mark.parametrize("rounding", [np.rint, np.floor, lambda t: np.floor(t + 0.5)])
def test_scales_of_channels_in_few_bits_are_named(kept, name, rounding, rng):
    call, real = accumulators(rng, 12)
    got = np.clip(rounding(call["acc"] * kept(real)) + 3, -128, 127)
    found = diagnose("requantize", call, got)
    assert not found.explained
    assert any(name in line and "scale" in line for line in found.structure)


@pytest.mark.parametrize("family", ["quantize", "dequantize", "fake_quantize", "lsq"])
def test_the_scale_of_every_family_is_looked_at(family, rng):
    of = FAMILIES[family]
    call = of.draw(rng, 2000)
    scale = "s" if family == "lsq" else "scale"
    call[scale] = np.asarray(0.371, np.asarray(call[scale]).dtype)[()]
    if "x" in call:
        spread = 1.0 if family == "lsq" else 20.0
        x = rng.normal(0, spread, call["x"].shape)
        call["x"] = x.astype(call["x"].dtype)
    narrow = np.asarray(bfloat16(0.371), call[scale].dtype)[()]
    got = of.evaluate(of.default, **call | {scale: narrow})
    found = diagnose(family, call, got)
    assert any(f"{scale} kept as" in line for line in found.structure)


def test_an_own_factor_of_every_scale_is_bounded(rng):
    """Each channel off by up to 3 %, which no format explains."""
    call, real = accumulators(rng, 6)
    factors = np.array([0.97, 1.0, 1.03, 1.011, 0.99, 1.02])[:, None, None]
    got = np.clip(np.rint(call["acc"] * real * factors) + 3, -128, 127)
    lines = diagnose("requantize", call, got).structure
    (line,) = [line for line in lines if "before the rounding" in line]
    assert line.startswith("got = 0.97")
    assert " to 1.03" in line


def test_a_rounding_is_no_factor(rng):
    real, one = rng.uniform(-100, 100, 200), np.ones(200)
    assert factor_hints(real, np.floor(real), one) == []
    assert factor_hints(real, np.rint(real), one) == []
    line = factor_hints(real, np.rint(1.5 * real), one)[0]
    assert abs(float(line.split()[2]) - 1.5) < 1e-3
    assert factor_hints(real, np.rint(1.5 * real) + 40 * (real > 90), one) == []


def test_results_that_are_off_at_random_have_no_scale(rng):
    call, real = accumulators(rng, 1)
    right = np.rint(call["acc"] * real) + 3
    got = np.clip(right + rng.integers(-1, 2, right.shape), -128, 127)
    assert not any("scale" in x for x in diagnose("requantize", call, got).structure)
