"""Builders of networks: wiring, and nothing else."""

from refqnn.networks.alexnets import alexnet as alexnet
from refqnn.networks.by_name import image_shape as image_shape
from refqnn.networks.by_name import named as named
from refqnn.networks.from_config import build as build
from refqnn.networks.imagenet_resnets import imagenet_resnet as imagenet_resnet
from refqnn.networks.methods import METHODS as METHODS
from refqnn.networks.methods import Method as Method
from refqnn.networks.methods import register_method as register_method
from refqnn.networks.mobilenets import inv_resnet26 as inv_resnet26
from refqnn.networks.mobilenets import mobilenetv2 as mobilenetv2
from refqnn.networks.resnets import resnet as resnet
from refqnn.networks.separable_networks import separable as separable
from refqnn.networks.vggs import vgg as vgg
