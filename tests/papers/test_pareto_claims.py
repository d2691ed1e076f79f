"""Claims 20 and 22 of the Pareto paper, measured on textures: slow."""

import numpy as np
import pytest

from refqnn.papers.pareto import changes, pareto_run, table2_runs
from refqnn.papers.pareto.single_training import named_images
from refqnn.studies.sweep import Sweep, digest

pytestmark = [pytest.mark.slow, pytest.mark.compiled]
FAN_INS, SEEDS = (1, 4, 16), (0, 1, 2)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Return the runs of three fan-ins at 4 and 1 bits, and their results."""
    images, _ = named_images("textures")
    kinds = [(fan_in, 3) for fan_in in FAN_INS]
    planned = table2_runs({"network": "separable"}, kinds=kinds, seeds=SEEDS)
    runs = {
        key: run | {"images": images, "epochs": 1}
        for key, run in planned.items()
        if key[1] != "grown"
    }
    path = tmp_path_factory.mktemp("claims") / "runs.jsonl"
    found = Sweep(pareto_run, list(runs.values()), path).completed(workers=2)
    results = {digest(outcome.run): outcome.result for outcome in found}
    return {key: results[digest(run)] for key, run in runs.items()}


def row(fan_in):
    return f"{fan_in} x 3 x 3"


def test_one_bit_costs_less_the_more_channels_a_filter_reads(study):
    """Claim 20: in every seed; the means of the ends differ by more than 3 points."""
    every = study | {
        (kind, "grown", seed): study[kind, "low", seed] for kind, _, seed in study
    }
    found = changes(lambda key: every[key]["accuracy"], every)
    lost = np.array([found[row(fan_in)].quantized for fan_in in FAN_INS])
    assert (np.diff(lost, axis=0) > 0).all(), lost
    assert lost[2].mean() - lost[0].mean() > 3


@pytest.mark.parametrize("layer", ["depthwise1", "depthwise2"])
def test_the_variance_of_mean_magnitudes_falls_with_the_fan_in(layer, study):
    """Claim 22: raw; that of the 16 channels is below a tenth of that of one."""
    raw = np.array(
        [
            [study[row(f), "high", seed]["variations"][layer]["raw"] for seed in SEEDS]
            for f in FAN_INS
        ]
    )
    assert (np.diff(raw, axis=0) < 0).all(), raw
    assert raw[2].mean() < raw[0].mean() / 10
