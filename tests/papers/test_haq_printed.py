"""HAQ's bits as DFS printed them, and what they add up to."""

import numpy as np

from refqnn.networks import resnet
from refqnn.papers.haq import layer_table, printed_bits
from refqnn.papers.haq.printed import resnet38_weights

FIGURES = {figure.percent: figure for figure in printed_bits()}


def test_every_bar_is_there():
    assert [(f.figure, f.percent) for f in FIGURES.values()] == [
        (16, 20),
        (17, 30),
        (18, 50),
    ]
    for figure in FIGURES.values():
        np.testing.assert_array_equal(figure.layers, np.arange(2, 37))
        assert 6 <= figure.bits.min() <= figure.bits.max() <= 20
        assert set(figure.hidden) <= {0, 1}
    # sums of the bars that can be seen, and how many cannot
    seen = {p: int(f.bits[f.hidden == 0].sum()) for p, f in FIGURES.items()}
    assert seen == {20: 232, 30: 311, 50: 471}
    assert [int(f.hidden.sum()) for f in FIGURES.values()] == [0, 11, 6]
    assert set(FIGURES[30].bits[FIGURES[30].hidden == 1]) == {9}
    assert set(FIGURES[50].bits[FIGURES[50].hidden == 1]) == {11}


def test_the_layers_are_those_of_a_resnet_of_38():
    network = resnet(38, in_channels=3, rng=np.random.default_rng(0))
    table = layer_table(network, (3, 8, 8))
    weights = [layer.weights for layer in table if "block" in layer.name]
    np.testing.assert_array_equal(resnet38_weights(), weights)


def test_figure_16_is_the_20_percent_it_is_named_after():
    ratio = FIGURES[20].ratio()
    np.testing.assert_allclose([32 * ratio, 100 * ratio], [6.44, 20.13], atol=0.005)


def test_figure_17_is_not_30_percent_whatever_is_hidden():
    assert FIGURES[30].ratio(hidden_bits=0) > 0.30
    np.testing.assert_allclose(FIGURES[30].ratio(), 0.3906, atol=5e-5)


def test_figure_18_is_not_50_percent_at_the_minimum_of_its_axis():
    np.testing.assert_allclose(FIGURES[50].ratio(), 0.4556, atol=5e-5)
    assert FIGURES[50].ratio(hidden_bits=0) < 0.5


def test_bits_of_which_layers_does_not_matter_much():
    """Had the first convolution been left out instead, 20.07 % for 20.13 %."""
    figure = FIGURES[20]
    other = figure._replace(layers=figure.layers + 1)
    assert abs(other.ratio() - figure.ratio()) < 0.001
