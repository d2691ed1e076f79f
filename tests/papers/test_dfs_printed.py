"""The digitised figures of DFS, and the two regularities that they show."""

import numpy as np
import pytest

from refqnn.papers import dfs
from refqnn.papers.dfs.printed import printed_decisions, printed_table

PERCENT = (20, 30, 40, 50)


@pytest.mark.parametrize(
    ("percent", "implied"), [(20, 18.6), (30, 30.7), (40, 40.1), (50, 51.9)]
)
def test_the_bars_imply_nearly_the_cp_of_the_caption(percent, implied):
    shares = printed_decisions(percent)
    np.testing.assert_allclose(shares.sum(1), 1, atol=1e-12)
    cp = dfs.computation_percentage(shares[None], dfs.OPTIONS)
    assert round(100 * cp, 1) == implied


def test_block_36_of_figure_12_is_read_as_8_bits_and_might_be_16():
    shares = printed_decisions(20)
    np.testing.assert_array_equal(shares[-1], [0, 1, 0, 0])
    shares[-1] = [0, 0, 1, 0]
    cp = dfs.computation_percentage(shares[None], dfs.OPTIONS)
    assert round(100 * cp, 1) == 19.2


@pytest.mark.parametrize("percent", PERCENT)
def test_a_block_uses_at_most_two_options_and_they_are_adjacent(percent):
    for shares in printed_decisions(percent):
        used = np.flatnonzero(shares)
        assert len(used) <= 2
        assert np.ptp(used) <= 1


def test_the_share_of_keep_grows_with_cp_in_every_block():
    keep = np.array([printed_decisions(p)[:, 3] for p in PERCENT])
    assert np.all(np.diff(keep, axis=0) >= 0)


def test_tables():
    assert [len(printed_table(t)) for t in (1, 2)] == [2, 8]
    strays = {
        (r["alpha"], r["target_percent"]): r["cp_percent"] - r["target_percent"]
        for r in printed_table(2)
    }
    assert max(strays.values()) == strays[1e-3, 40] == pytest.approx(3.75)
    assert all(d <= 1.01 + 1e-9 for (a, _), d in strays.items() if a < 1e-3)


def test_other_percentages_raise():
    with pytest.raises(ValueError, match="20, 30, 40 or 50, got 25"):
        printed_decisions(25)
