"""Builders of networks: wiring, and nothing else."""

from refqnn.networks.build import build as build
from refqnn.networks.resnet import resnet as resnet
