"""HAQ on the backbone of DFS: its layers, and what its bits cost by the rule of DFS."""

import numpy as np
import pytest

from refqnn.core import Run, named_modules
from refqnn.networks import resnet
from refqnn.papers import dfs, haq
from refqnn.papers.scalable import static_resnet


def backbone(rng, depth=14):
    return static_resnet(depth, bits=32, width=0.25, rng=rng)


def test_the_table_is_that_of_the_plain_resnet_of_option_b(rng):
    found = haq.routed_table(backbone(rng), (1, 14, 14))
    plain = resnet(14, width=0.25, shortcut="B", rng=rng)
    expected = haq.layer_table(plain, (1, 14, 14))
    assert len(found) == len(expected) == 1 + 12 + 2 + 1
    ours, theirs = (sorted(row[1:] for row in table) for table in (found, expected))
    assert ours == theirs


def test_every_name_is_a_module_with_so_many_weights(rng):
    network = backbone(rng)
    modules = dict(named_modules(network))
    table = haq.routed_table(network, (1, 14, 14))
    names = [layer.name for layer in table]
    assert names[:3] == ["stem", "blocks.0.conv1", "blocks.0.conv2"]
    assert names[-1] == "classifier"
    assert not any(name.startswith("gates") for name in names)
    for layer in table:
        assert modules[layer.name].w.value.size == layer.weights


def test_shared_weights_reach_the_blocks(rng):
    network = backbone(rng, depth=8)
    table = haq.routed_table(network, (1, 8, 8))
    haq.share_weights(network, table, np.full(len(table), 1))
    for block in network.blocks:
        for conv in block.convolutions():
            assert len(np.unique(conv.w.value)) == 2


def test_only_the_3x3_convolutions_of_gated_blocks_cost(rng):
    table = haq.routed_table(backbone(rng), (1, 14, 14))
    bits = np.full(len(table), 8)
    assert haq.routed_cp(bits, table) == 0.25  # 8 bits of DFS are 1 / 16
    free = {"stem", "classifier", "blocks.0.conv1", "blocks.0.conv2"}
    free |= {"blocks.2.conv3", "blocks.4.conv3"}
    for k, layer in enumerate(table):
        more = bits.copy()
        more[k] += 4
        extra = 0.0 if layer.name in free else 4 / 32 / 2 / 5
        assert haq.routed_cp(more, table) == pytest.approx(0.25 + extra, rel=1e-14)


def test_equal_bits_of_weights_cost_the_root_of_what_dfs_pays_for_both(rng):
    table = haq.routed_table(backbone(rng), (1, 14, 14))
    for b in (4, 8, 16):
        cp = haq.routed_cp(np.full(len(table), b), table)
        assert cp == np.sqrt(dfs.costs((b,))[0])
        weights = np.array([layer.weights for layer in table])
        assert cp == haq.size_ratio(np.full(len(table), b), weights)


def test_tables_without_blocks_raise(rng):
    table = haq.routed_table(backbone(rng), (1, 14, 14))
    with pytest.raises(ValueError, match=r"bits must be \(16,\), got bits\(3,\)"):
        haq.routed_cp(np.ones(3, int), table)
    with pytest.raises(ValueError, match="gated blocks, got none"):
        haq.routed_cp(np.ones(3, int), table[:3])


def test_the_backbone_computes_without_its_gates(rng):
    """One option: what the gates say changes nothing, and nothing reaches them."""
    network = backbone(rng, depth=8)
    x = rng.integers(0, 256, (4, 1, 8, 8)).astype(np.uint8)
    logits, cache = network.forward(x, Run(training=True))
    network.gates.projection.b.value += 5
    np.testing.assert_array_equal(network.forward(x, Run(training=True))[0], logits)
    network.backward(np.ones_like(logits), cache)
    assert not network.gates.w_x.grad.any()
