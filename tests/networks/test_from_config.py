"""Configurations that a file may hold: options of their declared kinds, or refused."""

from functools import partial

import numpy as np
import pytest
from refusals import refuses

from refqnn.networks import alexnet, build, resnet

RESNET = {"network": "resnet", "depth": 8}
REFUSED = (
    ({"network": None}, "network must be one of"),
    ({"network": ["resnet"]}, "network must be one of"),
    ({"network": "unknown"}, "network must be one of"),
    ({"depth": 8.0}, "depth 8.0: Expected `int`"),
    ({"depth": True}, "depth True: Expected `int`"),
    ({"depth": 1208}, "at most 1202"),
    ({"depth": 2**31}, "depth must lie within int32"),
    ({"depth": None}, "depth None: Expected `int`"),
    ({"width": "1"}, "width '1': Expected `float`"),
    ({"width": float("nan")}, "width must be positive and finite"),
    ({"width": 1e6}, "does not fit: Unable to allocate"),
    ({"width": 10**400}, "width must lie within int32"),
    ({"classes": [10]}, "Expected `int`"),
    ({"classes": 10**13}, "classes must lie within int32"),
    ({"method": 3}, "method 3: Expected `str`"),
    ({"dtype": "no"}, "does not fit"),
    ({"dtype": 4}, "Expected `str`"),
    ({"image_zero_point": 10**400}, "image_zero_point must lie within int32"),
    ({"image_zero_point": -(2**31)}, "image_zero_point must lie within int32"),
    ({"another": 1}, "another 1"),
    ({"rng": 3}, "rng 3"),
)


@pytest.mark.parametrize(("options", "message"), REFUSED, ids=str)
def test_options_of_another_kind_are_refused(options, message):
    refuses(message, build, RESNET | options)


def test_a_depth_is_needed():
    refuses("the configuration of resnet does not fit", build, {"network": "resnet"})


def test_what_json_gives_back_is_accepted():
    network = build(RESNET | {"width": 1, "weight_bits": 4, "activation_bits": None})
    assert network.config["weight_bits"] == 4
    assert np.all(network.layers["stem"].w.value == 0)


@pytest.mark.parametrize(
    ("make", "own"),
    [(alexnet, {"variant": "small", "size": 28}), (partial(resnet, 8), {"depth": 8})],
)
def test_defaults_of_networks(make, own):
    usual = {"classes": 10, "in_channels": 1, "width": 1.0, "method": "pareto"}
    usual |= {"weight_bits": None, "activation_bits": None}
    usual |= {"image_scale": 1 / 64, "image_zero_point": 128}
    assert make(rng=None).config.items() >= (usual | own).items()
