"""Layers, optimiser, schedules, the training loop and checkpoints."""

from refqnn.nn.checkpoint import Checkpoint as Checkpoint
from refqnn.nn.initialisers import batch_norm2d as batch_norm2d
from refqnn.nn.initialisers import fan_in as fan_in
from refqnn.nn.initialisers import he_normal as he_normal
from refqnn.nn.initialisers import uniform_fan_in as uniform_fan_in
from refqnn.nn.layers import AvgPool2d as AvgPool2d
from refqnn.nn.layers import Conv2d as Conv2d
from refqnn.nn.layers import Flatten as Flatten
from refqnn.nn.layers import GlobalAvgPool2d as GlobalAvgPool2d
from refqnn.nn.layers import ImageInput as ImageInput
from refqnn.nn.layers import Linear as Linear
from refqnn.nn.layers import MaxPool2d as MaxPool2d
from refqnn.nn.layers import ReLU as ReLU
from refqnn.nn.layers import ReLU6 as ReLU6
from refqnn.nn.layers import Sequential as Sequential
from refqnn.nn.norms import BatchNorm2d as BatchNorm2d
from refqnn.nn.norms import RangeBatchNorm2d as RangeBatchNorm2d
from refqnn.nn.norms import even_chunks as even_chunks
from refqnn.nn.optim import SGD as SGD
from refqnn.nn.optim import adam_step as adam_step
from refqnn.nn.optim import sgd_step as sgd_step
from refqnn.nn.presets import PARETO_CIFAR as PARETO_CIFAR
from refqnn.nn.presets import (
    PARETO_IMAGENET_MOBILENETV2 as PARETO_IMAGENET_MOBILENETV2,
)
from refqnn.nn.presets import PARETO_IMAGENET_RESNET as PARETO_IMAGENET_RESNET
from refqnn.nn.presets import Preset as Preset
from refqnn.nn.residual import BasicBlock as BasicBlock
from refqnn.nn.residual import PadShortcut as PadShortcut
from refqnn.nn.residual import Residual as Residual
from refqnn.nn.schedules import cosine as cosine
from refqnn.nn.schedules import multistep as multistep
from refqnn.nn.staged import Stage as Stage
from refqnn.nn.staged import fit_stages as fit_stages
from refqnn.nn.state_dicts import load_state_dict as load_state_dict
from refqnn.nn.state_dicts import state_dict as state_dict
from refqnn.nn.tensor_files import read_tensors as read_tensors
from refqnn.nn.training import Score as Score
from refqnn.nn.training import Training as Training
from refqnn.nn.training import accuracy as accuracy
from refqnn.nn.training import cross_entropy as cross_entropy
from refqnn.nn.training import evaluate as evaluate
from refqnn.nn.training import fit as fit
from refqnn.nn.training import in_batches as in_batches
from refqnn.nn.training import loss_and_gradient as loss_and_gradient
from refqnn.nn.training import predict as predict
from refqnn.nn.training import steps_per_epoch as steps_per_epoch
from refqnn.nn.training import take_steps as take_steps
from refqnn.nn.transfer import carry_over as carry_over
