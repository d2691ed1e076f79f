"""Installed runtimes, asked again and held on 100 000 random inputs."""

import os
import warnings

import numpy as np
import pytest
from refusals import refuses

from refqnn.conformance.carry.runtimes import BOXES, distribution, version
from refqnn.conformance.carry.runtimes_litert import two_scales
from refqnn.conformance.carry.runtimes_others import fits_float32
from refqnn.conformance.choices.families import FAMILIES
from refqnn.conformance.choices.profiles import UNEXPLAINED, profile_of, profiles
from refqnn.conformance.judge.identify import identify, verify
from refqnn.conformance.reach import goldens

EXPLAINED = [b for b in BOXES if (b.runtime, b.operator) not in UNEXPLAINED]
pytestmark = pytest.mark.compiled


def row_of(box):
    return next(r for r in profiles[box.runtime].rows if r.operator == box.operator)


def asked(box):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if version(box.runtime) is None:
            pytest.skip(f"{distribution(box.runtime)} is not installed")
        return identify(box.call, box.family, supports=box.supports, in_process=True)


@pytest.mark.parametrize("box", EXPLAINED, ids=lambda b: f"{b.runtime}-{b.operator}")
def test_a_runtime_does_what_its_profile_says(box):
    """Whatever was found is held on random inputs, whatever the version."""
    found, row = asked(box), row_of(box)
    said = profiles[box.runtime].version
    if found.complaint and not version(box.runtime).startswith(said):
        pytest.skip(f"{box.runtime} {version(box.runtime)} cannot: {found.complaint}")
    assert found.explained, str(found)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        held = verify(
            box.call,
            box.family,
            found.semantics,
            rng=np.random.default_rng(1),
            inputs=100_000,
            supports=box.supports,
            in_process=True,
        )
    assert held.total > 99_000
    assert held.conforms, str(held)
    deviations = found.semantics.deviations()
    if deviations == row.elsewhere:
        return
    if deviations != row.deviations and not version(box.runtime).startswith(said):
        pytest.skip(
            f"verified with {said}, installed is {version(box.runtime)}: {found}"
        )
    assert deviations == dict(row.deviations)
    assert found.inputs == row.probes


def test_the_layers_of_cmsis_nn_decide_what_its_profile_says():
    folder = os.environ.get("REFQNN_CMSIS_NN")
    if folder is None:
        pytest.skip("REFQNN_CMSIS_NN names no folder of sources of CMSIS-NN")
    scores = goldens.score(goldens.read(folder))
    by_width = {"int8": "int8 outputs", "int16": "int16 outputs"}
    by_width |= {f"int{b}": f"int16 outputs, int{b} biases" for b in (32, 64)}
    for row in profiles["cmsis-nn"].rows:
        declared = by_width[row.operator.split()[-1]]
        (score,) = (
            s for s in scores if (s.family, s.declared) == (row.family, declared)
        )
        default = FAMILIES[row.family].default
        assert dict(score.recorder) == default | row.deviations
        assert not score.unexplained
        assert score.cases >= row.probes


def test_every_box_has_a_row():
    rows = {(p.runtime, r.operator) for p in profiles.values() for r in p.rows}
    assert {(b.runtime, b.operator) for b in EXPLAINED} <= rows
    assert {(b.runtime, b.operator) for b in BOXES} - rows == set(UNEXPLAINED)


@pytest.mark.parametrize("which", UNEXPLAINED, ids="-".join)
def test_what_is_said_to_be_unexplained_is(which):
    box = next(b for b in BOXES if (b.runtime, b.operator) == which)
    found = asked(box)
    if found.explained:
        said = found.semantics
        rng = np.random.default_rng(1)
        assert not verify(box.call, box.family, said, rng=rng, in_process=True).conforms


@pytest.mark.parametrize(
    ("multiplier", "shift"),
    [((1 << 30) + 1, 0), (1_562_434_103, -17), ([3 << 29, 5 << 28], [-1, -8])],
)
def test_scales_of_a_file_hold_the_multiplier_exactly(multiplier, shift):
    x_scale, w_scale = two_scales(multiplier, shift)
    assert x_scale.dtype == w_scale.dtype == np.float32
    real = np.ldexp(np.asarray(multiplier, np.float64), np.asarray(shift) - 31)
    assert np.array_equal(np.float64(x_scale) * np.float64(w_scale), real)


@pytest.mark.parametrize(("code", "fits"), [(4095, True), (4096, False)])
def test_sums_of_products_below_two_to_the_24_fit_float32(code, fits):
    """64 products of a code with 64, the zero-points subtracted."""
    x = {"x": np.full((1, 64), code - 5, np.int16), "x_zero_point": -5}
    w = np.full((1, 64), 67, np.int8)
    assert fits_float32(x | {"w": w, "w_zero_point": 3}) == fits
    assert fits_float32(x | {"y": w.T, "y_zero_point": 3}) == fits


def test_a_prime_multiplier_fits_no_two_scales():
    refuses("no float32 scales have the product 2147483647", two_scales, 2**31 - 1, 0)


def test_profiles_say_what_they_do_not_know():
    refuses("torch was asked about", profile_of("torch").semantics, "conv2d")
    refuses("profile must be one of", profile_of, "tensorflow")
    for profile in profiles.values():
        assert profile.verified >= "2026-11-27"
