"""Builders of networks: wiring, and nothing else."""

from refqnn.networks.alexnet import alexnet as alexnet
from refqnn.networks.build import build as build
from refqnn.networks.methods import METHODS as METHODS
from refqnn.networks.resnet import resnet as resnet
