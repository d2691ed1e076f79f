"""What DFS claims of its controller, at the strength that was measured here.

Slow: a backbone and eight trainings, some minutes on two cores. The numbers of
more seeds stand in refqnn/papers/README.md; `refqnn study dfs_controller` prints them.
"""

import pytest

from refqnn.studies.study import study_named

pytestmark = [pytest.mark.slow, pytest.mark.compiled]


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Run the study once, seed 0."""
    study = study_named("dfs_controller")
    settings = study.settings_with()
    outcomes = study.outcomes(settings, tmp_path_factory.mktemp("dfs"), workers=2)
    return {row["run"]: row for row in study.rows(settings, *outcomes)}


def dynamic(rows):
    return [row for name, row in rows.items() if name.endswith(" %")]


def test_the_dynamic_sign_ends_within_a_point_of_targets_of_its_reach(rows):
    assert [row["target"] for row in dynamic(rows)] == [0.05, 0.1, 0.2, 0.4, 0.6]
    reached = [*dynamic(rows)[1:], rows["target 5 %, steps x 8"]]
    for row in reached:
        assert abs(row["cp_end"] - row["target"]) <= 0.01, row


def test_usual_steps_do_not_leave_the_plateau_of_8_bits(rows):
    assert rows["target 5 %"]["cp_end"] == pytest.approx(1 / 16, abs=1e-3)


def test_the_constant_sign_ends_far_below(rows):
    constant = rows["constant sign"]
    assert constant["cp_end"] < constant["target"] / 2


def test_large_steps_move_more(rows):
    assert rows["target 20 %, steps x 8"]["deviation"] > (
        2 * rows["target 20 %"]["deviation"]
    )


def test_skips_are_for_low_targets_only(rows):
    for row in dynamic(rows):
        assert row["shares"][0] < 0.01
    low = rows["target 5 %, steps x 8"]
    assert abs(low["shares"][0] - low["least_skips"]) <= 0.05
