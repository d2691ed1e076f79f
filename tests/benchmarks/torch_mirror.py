"""The same networks in PyTorch: same parameters, same fake quantization, autograd."""

import math

import numpy as np
import torch
import torch.nn.functional as F

from refqnn import nn
from refqnn.core import named_params
from refqnn.nn.residual import BasicBlock, PadShortcut
from refqnn.quantizers import Affine, FixedPoint
from refqnn.quantizers.fixed_point_weights import GAUSSIAN_CLIP


class Mirror:
    """A PyTorch network that shares nothing with ours but the numbers."""

    def __init__(self, network):
        self.network = network
        self.params = {
            name: torch.tensor(p.value, requires_grad=True)
            for name, p in named_params(network).items()
        }
        self.of = {
            id(p): self.params[name] for name, p in named_params(network).items()
        }
        self.ranges = {}

    def __call__(self, images):
        x = images
        for _, layer in self.network:
            x = self.layer(layer, x)
        return x

    def layer(self, layer, x):
        match layer:
            case nn.ImageInput():
                return layer.scale * (x.float() - layer.zero_point)
            case nn.Conv2d():
                w = self.weights(layer)
                return F.conv2d(x, w, stride=layer.stride, padding=layer.padding)
            case nn.BatchNorm2d():
                gamma, beta = self.of[id(layer.gamma)], self.of[id(layer.beta)]
                return F.batch_norm(x, None, None, gamma, beta, training=True)
            case nn.ReLU():
                return F.relu(x)
            case Affine():
                return self.affine(layer, x)
            case BasicBlock():
                return self.block(layer, x)
            case PadShortcut():
                new = layer.channels - x.shape[1]
                x = x[:, :, :: layer.stride, :: layer.stride]
                return F.pad(x, (0, 0, 0, 0, new // 2, new - new // 2))
            case nn.GlobalAvgPool2d():
                return x.mean(dim=(2, 3))
            case nn.Linear():
                return F.linear(x, self.weights(layer), self.of[id(layer.b)])
            case _:
                raise TypeError(type(layer))

    def block(self, block, x):
        h = x
        for name in ("conv1", "norm1", "relu1", "quant1", "conv2", "norm2"):
            h = self.optional(getattr(block, name), h)
        h = self.layer(block.relu2, h + self.optional(block.shortcut, x))
        return self.optional(block.quant2, h)

    def optional(self, layer, x):
        return x if layer is None else self.layer(layer, x)

    def weights(self, layer):
        w, quant = self.of[id(layer.w)], layer.weight_quant
        if quant is None:
            return w
        assert isinstance(quant, FixedPoint)
        with torch.no_grad():
            m = w.abs().mean(dim=tuple(range(1, w.ndim)), keepdim=True)
            a = m * (GAUSSIAN_CLIP[quant.bits] / math.sqrt(2 / math.pi))
            s = a / (2 ** (quant.bits - 1) - 1)
            wq = s * torch.round(torch.clamp(w, -a, a) / s)
        return w + (wq - w).detach()

    def affine(self, layer, x):
        with torch.no_grad():
            lo, hi = (float(v) for v in torch.aminmax(x))
        lo, hi = min(lo, 0.0), max(hi, 0.0)
        n = 2**layer.bits - 1
        scale = (hi - lo) / n
        zero_point = int(np.clip(round(-lo / scale), 0, n))
        return torch.fake_quantize_per_tensor_affine(x, scale, zero_point, 0, n)
