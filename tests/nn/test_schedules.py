"""Learning rates at the steps where a schedule turns, and the presets' numbers."""

import numpy as np
import pytest
from refusals import refuses

from refqnn.core import named_params
from refqnn.networks import resnet
from refqnn.nn import (
    PARETO_CIFAR,
    PARETO_IMAGENET_MOBILENETV2,
    PARETO_IMAGENET_RESNET,
    cosine,
    multistep,
)


def test_cosine_turns():
    rate = cosine(0.8, steps=108, warmup=8, final=0.2)
    upper, lower = 0.5 + 0.3 * 0.5**0.5, 0.5 - 0.3 * 0.5**0.5
    steps = (0, 3, 7, 8, 33, 58, 83, 108, 500)
    want = [0.1, 0.4, 0.8, 0.8, upper, 0.5, lower, 0.2, 0.2]
    np.testing.assert_allclose([rate(s) for s in steps], want, rtol=1e-12)


def test_cosine_without_warmup_starts_at_the_top():
    rate = cosine(0.3, steps=4)
    assert rate(0) == 0.3
    np.testing.assert_allclose(rate(2), 0.15)


@pytest.mark.parametrize("warmup", [-1, 5, 6])
def test_warmup_must_end_before_the_training(warmup):
    refuses(r"warmup must be in \[0, steps = 5\)", cosine, 0.1, steps=5, warmup=warmup)


def test_multistep_turns():
    rate = multistep(2.0, milestones=(3, 5))
    np.testing.assert_allclose(
        [rate(s) for s in (0, 2, 3, 4, 5)], [2, 2, 0.2, 0.2, 0.02]
    )


@pytest.mark.parametrize("milestones", [(2, 1), (2, 2)])
def test_milestones_ascend(milestones):
    refuses("milestones must ascend", multistep, 1.0, milestones=milestones)


def test_pareto_preset():
    rate = PARETO_CIFAR.schedule(steps_per_epoch=391)
    np.testing.assert_allclose(rate(391), 0.05 * 392 / (5 * 391))
    np.testing.assert_allclose([rate(5 * 391 - 1), rate(5 * 391)], [0.05, 0.05])
    np.testing.assert_allclose(rate(391 * 305 // 2), 0.025, rtol=1e-2)
    assert rate(300 * 391) == 0
    assert PARETO_CIFAR.batch == 128
    assert PARETO_CIFAR.label_smoothing == 0
    short = PARETO_CIFAR.schedule(steps_per_epoch=30, epochs=10)  # 1/30 of everything
    np.testing.assert_allclose([short(4), short(300)], [0.05, 0.0])


def test_pareto_presets_for_imagenet_differ_in_five_numbers():
    for preset, epochs in (
        (PARETO_IMAGENET_RESNET, 90),
        (PARETO_IMAGENET_MOBILENETV2, 120),
    ):
        assert vars(preset) == vars(PARETO_CIFAR) | {
            "epochs": epochs,
            "batch": 256,
            "weight_decay": 4e-5,
            "label_smoothing": 0.1,
        }
        assert preset.schedule(50)(5 * 50) == 0.05  # five epochs of warm-up


def test_pareto_optimiser_decays_weights_only():
    network = resnet(8, width=0.1, rng=np.random.default_rng(0))
    sgd = PARETO_CIFAR.optimiser(network)
    assert sgd.params.keys() == named_params(network).keys()
    before = {name: p.value for name, p in sgd.params.items()}
    sgd.step(lr=1.0)
    for name, param in sgd.params.items():
        weight = name.endswith(".w")
        factor = 1 - 5e-4 * 1.9 if weight else 1.0  # nesterov: g + .9 g
        np.testing.assert_allclose(param.value, before[name] * factor, rtol=1e-6)


def test_schedules_of_nothing_are_refused():
    refuses("epochs must be at least 1, got 0", PARETO_CIFAR.schedule, 50, epochs=0)
    refuses("steps_per_epoch must be at least 1, got 0", PARETO_CIFAR.schedule, 0)
