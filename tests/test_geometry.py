"""Window geometry against counting, and what it refuses."""

from itertools import product

import numpy as np
import pytest
from refusals import refuses

from refqnn.geometry import (
    Window,
    output_size,
    pad_planes,
    pad_widths,
    pair,
    window,
    windows,
)


def places(size, low, high, kernel, stride, dilation):
    """Starts of the windows that lie inside a padded axis, by trying each one."""
    reach = dilation * (kernel - 1) + 1
    return [
        start
        for start in range(-low, size + high)
        if (start + low) % stride == 0 and start + reach <= size + high
    ]


def test_output_size_counts_the_windows_that_fit():
    settings = product(range(1, 6), (0, 1), (0, 2), (1, 2, 3), (1, 2, 3), (1, 2))
    for size, low, high, kernel, stride, dilation in settings:
        at = window(
            (kernel, 1), stride=stride, padding=((low, high), (0, 0)), dilation=dilation
        )
        starts = places(size, low, high, kernel, stride, dilation)
        if starts:
            assert output_size((size, 1), at) == (len(starts), 1)
        else:
            refuses(f"H = {size} .* is {size + low + high}", output_size, (size, 1), at)


def test_the_second_axis_is_named_width():
    refuses(r"W = 2 .* reaches over 3", output_size, (3, 2), window(3))


def test_windows_are_the_pixels_each_tap_sees(rng):
    at = window((2, 3), stride=(2, 1), padding=((1, 0), (2, 1)), dilation=(2, 1))
    x = rng.normal(size=(2, 3, 4, 5))
    padded = pad_planes(x, at, 7.0)
    assert padded.shape == (2, 3, 5, 8)
    np.testing.assert_array_equal(padded[:, :, 1:, 2:-1], x)
    assert (padded[:, :, 0] == 7).all()
    assert (padded[..., :2] == 7).all()
    assert (padded[..., -1] == 7).all()
    seen = windows(padded, at)
    assert seen.shape == (2, 3, *output_size((4, 5), at), 2, 3)
    for p, q, i, j in np.ndindex(*seen.shape[2:]):
        want = padded[:, :, 2 * p + 2 * i, q + j]
        np.testing.assert_array_equal(seen[:, :, p, q, i, j], want)


def test_the_three_ways_to_write_padding():
    assert pad_widths(2) == ((2, 2), (2, 2))
    assert pad_widths((1, 2)) == ((1, 1), (2, 2))
    assert pad_widths(((1, 2), (3, 4))) == ((1, 2), (3, 4))


def test_window_writes_pairs():
    want = Window((2, 3), (1, 1), ((0, 0), (0, 0)), (4, 4))
    assert window((2, 3), dilation=4) == want


@pytest.mark.parametrize("value", [1.0, "1", None, True, (1, 2.0), (True, 1)])
def test_what_is_no_int_raises(value):
    with pytest.raises(ValueError, match="stride must be an int or a pair of ints"):
        pair(value, name="stride", least=1)


@pytest.mark.parametrize("value", [0, (1, 0), (0, 1), -3])
def test_what_is_too_small_raises(value):
    refuses("stride must be at least 1", pair, value, name="stride", least=1)


def test_numpy_ints_become_ints():
    h, w = pair(np.int32(3), name="kernel", least=1)
    assert (h, w) == (3, 3)
    assert type(h) is int


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("kernel", {"kernel": 0}),
        ("stride", {"kernel": 1, "stride": 0}),
        ("padding", {"kernel": 1, "padding": -1}),
        ("padding", {"kernel": 1, "padding": ((0, -1), (0, 0))}),
        ("padding", {"kernel": 1, "padding": ((0, 0), (-1, 0))}),
        ("dilation", {"kernel": 1, "dilation": 0}),
    ],
)
def test_window_names_the_setting_it_refuses(name, options):
    refuses(f"{name} must be at least", window, **options)


def test_windows_of_planes_that_are_padded_first():
    x = np.arange(40.0).reshape(2, 1, 4, 5)
    at = window((2, 3), stride=2, padding=((1, 0), (2, 1)), dilation=2)
    want = windows(pad_planes(x, at, 7.0), at)
    np.testing.assert_array_equal(windows(x, at, 7.0), want)
    refuses("the window does not fit: H = 4", windows, x, window(7, padding=1), 0.0)
