"""HAQ's states, actions, budget and reward."""

import itertools

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from refusals import refuses

from refqnn.core import Param
from refqnn.networks import alexnet, resnet
from refqnn.nn import Conv2d, Flatten, ImageInput, Linear, Sequential
from refqnn.papers.haq import (
    Layer,
    Problem,
    bits_of,
    layer_table,
    project,
    size_ratio,
    states,
)
from refqnn.papers.haq.environment import PAPER_ORDER, RELEASED_ORDER, budget


def rng_of(seed):
    return np.random.default_rng(seed)


def small_table():
    return layer_table(resnet(8, width=0.25, rng=rng_of(0)), (1, 12, 12))


def test_the_table_of_a_resnet():
    table = small_table()
    assert len(table) == 8
    assert table[0][1:] == (1, 4, 3, 1, 144, 36, False)
    # the first block of stage 2 halves the map of its second convolution
    assert table[3][1:] == (4, 8, 3, 2, 144, 288, False)
    assert table[4][1:] == (8, 8, 3, 1, 36, 576, False)
    assert table[-1][1:] == (16, 10, 1, 0, 16, 160, False)
    assert [layer.name for layer in table[:2]] == [
        "layers.stem",
        "layers.stage1_block1.conv1",
    ]


def test_the_table_of_an_alexnet_has_fully_connected_layers():
    network = alexnet(size=12, width=1 / 32, rng=rng_of(0))
    table = layer_table(network, (1, 12, 12))
    assert [layer.stride for layer in table].count(0) == 3
    sizes = [layer.w.value.size for layer in network.layers.values()
             if hasattr(layer, "w")]  # fmt: skip
    assert [layer.weights for layer in table] == sizes


def test_depthwise_convolutions_are_told_apart():
    def conv(shape, groups):
        return Conv2d(Param(np.ones(shape)), stride=(2, 1), padding=1, groups=groups)

    network = Sequential(
        {
            "image": ImageInput(1.0),
            "one": conv((3, 1, 3, 3), 1),
            "deep": conv((6, 1, 3, 3), 3),
            "halves": conv((4, 3, 3, 3), 2),
            "flat": Flatten(),
            "fc": Linear(Param(np.ones((2, 4 * 8)))),
        }
    )
    table = layer_table(network, (1, 8, 8))
    # of one channel, as many groups as channels, and still not depthwise
    assert [layer.depthwise for layer in table] == [False, True, False, False]
    assert [layer.stride for layer in table] == [2, 2, 2, 0]
    assert [layer.feature for layer in table] == [64, 32, 16, 32]
    assert [layer.c_in for layer in table] == [1, 3, 6, 32]


def test_states_hold_the_columns_of_the_paper_scaled():
    table = small_table()
    found = states(table)
    assert found.shape == (8, 10)
    columns = dict(zip(PAPER_ORDER, found.T, strict=True))
    np.testing.assert_allclose(columns["index"], np.arange(8) / 7)
    inputs = np.array([layer.c_in for layer in table])
    np.testing.assert_allclose(columns["c_in"], (inputs - 1) / 15)
    np.testing.assert_allclose(columns["stride"], [0.5, 0.5, 0.5, 1, 0.5, 1, 0.5, 0])
    np.testing.assert_allclose(columns["kernel"], [1] * 7 + [0])
    for constant, value in (("depthwise", 0), ("weight", 1), ("last_action", 1)):
        np.testing.assert_array_equal(columns[constant], value)
    assert found.min() == 0
    assert found.max() == 1


def test_states_in_the_order_of_released_code():
    table = small_table()
    paper, released = states(table), states(table, order="released")
    assert released.shape == (8, 9)
    for i, name in enumerate(RELEASED_ORDER):
        expected = paper[:, PAPER_ORDER.index(name)]
        np.testing.assert_array_equal(released[:, i], expected)


def test_with_activations_every_layer_decides_twice():
    found = states(small_table(), activations=True)
    assert found.shape == (16, 10)
    np.testing.assert_array_equal(found[:, 8], [1, 0] * 8)
    np.testing.assert_array_equal(found[::2, :8], found[1::2, :8])


@pytest.mark.parametrize(
    ("layers", "options", "message"),
    [
        ((), {}, "at least one layer, got none"),
        (1, {"order": "code"}, "order must be one of .* got 'code'"),
        (1, {"order": "released", "activations": True}, "'paper' with activations"),
    ],
)
def test_states_refuse(layers, options, message):
    layers = small_table() if layers else ()
    refuses(message, states, layers, **options)


RANGES = [(1, 8), (2, 8), (1, 7), (2, 10), (3, 3), (1, 20)]


@pytest.mark.parametrize(("b_min", "b_max"), RANGES)
def test_actions_cover_every_number_of_bits_in_equal_measure(b_min, b_max):
    count = b_max - b_min + 1
    middles = (np.arange(count * 97) + 0.5) / (count * 97)
    found = bits_of(middles, b_min=b_min, b_max=b_max)
    assert np.all(np.diff(found) >= 0)
    values, times = np.unique(found, return_counts=True)
    np.testing.assert_array_equal(values, np.arange(b_min, b_max + 1))
    np.testing.assert_array_equal(times, 97)
    ends = bits_of(np.array([0.0, 1.0]), b_min=b_min, b_max=b_max)
    np.testing.assert_array_equal(ends, [b_min, b_max])


@pytest.mark.parametrize("action", [-1e-9, 1.5, np.nan])
def test_actions_outside_the_unit_interval_raise(action):
    refuses(r"action must be in \[0, 1\]", bits_of, action, b_min=2, b_max=8)


@pytest.mark.parametrize(
    ("b_min", "b_max", "message"),
    [
        (0, 8, "1 <= b_min <= b_max <= 32 is needed, got 0, 8"),
        (5, 4, "got 5, 4"),
        (2, 33, "got 2, 33"),
        (2.0, 8, "b_min must be an int, got 2.0"),
        (1, True, "b_max must be an int, got True"),
    ],
)
def test_bit_ranges_that_are_none_raise(b_min, b_max, message):
    refuses(message, bits_of, 0.5, b_min=b_min, b_max=b_max)


def test_the_ratio_is_linear_and_counts_weights_only():
    weights = np.array([5, 7, 11])
    whole = size_ratio(np.full(3, 8), weights)
    assert whole == 0.25
    one, two = np.array([3, 4, 8]), np.array([6, 8, 16])
    np.testing.assert_allclose(
        size_ratio(two, weights), 2 * size_ratio(one, weights), rtol=1e-15
    )
    order = [2, 0, 1]
    assert size_ratio(one[order], weights[order]) == size_ratio(one, weights)


@st.composite
def projections(draw):
    b_min = draw(st.integers(1, 4))
    pairs = st.tuples(st.integers(b_min, 20), st.integers(1, 5000))
    bits, weights = zip(*draw(st.lists(pairs, min_size=1, max_size=12)), strict=True)
    ratio = draw(st.floats(b_min / 32, 1))
    return np.array(bits), np.array(weights), ratio, b_min


@given(projections())
@example((np.array([8, 8]), np.array([1, 3]), 0.2, 2))
@example((np.array([9, 1, 7, 8]), np.array([5, 40, 2, 9]), 0.06, 1))
def test_the_budget_is_met_by_the_fewest_decrements(case):
    bits, weights, ratio, b_min = case
    before = bits.copy()
    found = project(bits, weights, ratio=ratio, b_min=b_min)
    np.testing.assert_array_equal(bits, before)
    target = budget(weights, ratio)
    assert found @ weights <= target
    assert np.all((found <= bits) & (found >= b_min))
    again = project(found, weights, ratio=ratio, b_min=b_min)
    np.testing.assert_array_equal(again, found)
    # every policy of the chain of decrements before the found one is too large
    chain = list(itertools.islice(decrements(bits, b_min), 10_000))
    at = next(i for i, policy in enumerate(chain) if np.array_equal(policy, found))
    assert all(policy @ weights > target for policy in chain[:at])


def decrements(bits, b_min):
    """The policies of the rule, in closed form: whole rounds, then a part of one."""
    yield bits.copy()
    for done in range(int(bits.max()) - b_min):
        whole = np.maximum(bits - done, b_min)
        lower = np.maximum(bits - done - 1, b_min)
        for layer in reversed(range(bits.size)):
            if lower[layer] < whole[layer]:
                yield np.concatenate([whole[:layer], lower[layer:]])


def test_a_policy_within_the_budget_stays():
    found = project(np.array([2, 9]), np.array([3, 1]), ratio=0.2, b_min=2)
    np.testing.assert_array_equal(found, [2, 9])


def test_the_smallest_ratio_leaves_b_min_everywhere():
    found = project(np.array([8, 3, 7]), np.array([3, 1, 9]), ratio=2 / 32, b_min=2)
    np.testing.assert_array_equal(found, [2, 2, 2])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ratio": 0.06}, r"ratio must be in \[b_min / 32 = 0.0625, 1\].* got 0.06"),
        ({"ratio": 1.01}, "got 1.01"),
        ({"ratio": np.nan}, "got nan"),
        ({"bits": np.array([1, 8])}, "bits must be ints of at least b_min = 2"),
        ({"bits": np.array([2.0, 8.0])}, "bits must be ints"),
        ({"bits": np.array([2, 8, 8])}, r"bits\(3,\), weights\(2,\)"),
        ({"bits": np.zeros(0, int), "weights": np.zeros(0, int)}, r"must be \(L,\)"),
        ({"weights": np.array([5, 0])}, "weights must be at least 1"),
    ],
)
def test_projections_that_are_none_raise(change, message):
    case = {"bits": np.array([4, 8]), "weights": np.array([5, 6]), "ratio": 0.2}
    case |= change
    with pytest.raises(ValueError, match=message):
        project(case["bits"], case["weights"], ratio=case["ratio"], b_min=2)


def test_the_reward_is_antisymmetric_and_a_tenth_of_a_point():
    def reward(quantized, full):
        return Problem(small_table(), 0.2, full).reward(quantized)

    np.testing.assert_allclose(reward(88.0, 90.0), -0.2, rtol=1e-12)
    assert reward(61.3, 77.7) == -reward(77.7, 61.3)
    assert reward(77.7, 77.7) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ratio": 0.05}, "ratio must be in"),
        ({"b_min": 9}, "b_min <= b_max"),
        ({"layers": ()}, "at least one layer"),
    ],
)
def test_problems_that_are_none_raise(options, message):
    settings = {"layers": small_table(), "ratio": 0.2, "float_accuracy": 90.0}
    refuses(message, Problem, **settings | options)


def test_a_problem_projects_onto_its_own_budget():
    layers = tuple(Layer(n, 1, 1, 1, 1, 1, w, depthwise=False)
                   for n, w in (("a", 1), ("b", 3)))  # fmt: skip
    problem = Problem(layers, 0.2, 90.0)
    np.testing.assert_array_equal(problem.policy(np.array([8, 8])), [7, 6])
    assert problem.fits(np.array([7, 6]))
    assert not problem.fits(np.array([8, 6]))
