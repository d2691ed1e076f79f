"""Builders of networks: wiring, and nothing else."""

from refqnn.networks.alexnet import alexnet as alexnet
from refqnn.networks.build import build as build
from refqnn.networks.imagenet_resnet import imagenet_resnet as imagenet_resnet
from refqnn.networks.methods import METHODS as METHODS
from refqnn.networks.mobilenetv2 import inv_resnet26 as inv_resnet26
from refqnn.networks.mobilenetv2 import mobilenetv2 as mobilenetv2
from refqnn.networks.named import image_shape as image_shape
from refqnn.networks.named import named as named
from refqnn.networks.resnet import resnet as resnet
from refqnn.networks.separable import separable as separable
from refqnn.networks.vgg import vgg as vgg
