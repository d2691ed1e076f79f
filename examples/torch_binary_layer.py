"""Which backward does this binary layer of PyTorch have?  Beside refqnn, by gradient.

XNOR-Net's weights are a filter's mean magnitude times signs. Ports differ in what they
let through the mean and the sign; here one passes dy through the sign only, as written
most often, and one obeys the chain rule.
"""

import numpy as np
import torch

from refqnn.core import Param
from refqnn.nn import Conv2d, Flatten, Linear, Sequential, load_state_dict
from refqnn.quantizers import XnorWeight
from refqnn.testing import compare_module

F = torch.nn.functional


class Sign(torch.autograd.Function):
    """sgn(w), sgn(0) = +1; dy passes where |w| < 1."""

    @staticmethod
    def forward(ctx, w):
        ctx.save_for_backward(w)
        return torch.where(w >= 0, 1.0, -1.0).to(w)

    @staticmethod
    def backward(ctx, dy):
        return dy * (ctx.saved_tensors[0].abs() < 1)


class Binary(torch.nn.Conv2d):
    """A convolution by alpha sgn(w); ``constant``: alpha is cut off the graph."""

    constant = False

    def forward(self, x):
        alpha = self.weight.abs().mean((1, 2, 3), keepdim=True)
        alpha = alpha.detach() if self.constant else alpha
        return F.conv2d(x, alpha * Sign.apply(self.weight), padding=self.padding)


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.features = torch.nn.Sequential(
            Binary(2, 8, 3, padding=1, bias=False), torch.nn.Flatten()
        )
        self.classifier = torch.nn.Linear(8 * 6 * 6, 4)

    def forward(self, x):
        return self.classifier(self.features(x))


torch.manual_seed(0)
module, zeros = Net(), np.zeros
network = Sequential({
    "conv": Conv2d(Param(zeros((8, 2, 3, 3))), padding=1, weight_quant=XnorWeight()),
    "flatten": Flatten(),
    "classifier": Linear(Param(zeros((4, 288))), Param(zeros(4), group="affine")),
})  # fmt: skip
load_state_dict(network, {k: v.numpy() for k, v in module.state_dict().items()})
images = np.random.default_rng(1).normal(size=(16, 2, 6, 6))
chain_rule = compare_module(module, network, images)
print(f"alpha in the graph\n{chain_rule}\n")
Binary.constant = True
cut_off = compare_module(module, network, images)
print(f"alpha cut off\n{cut_off}")
assert chain_rule.agrees
assert cut_off.first.theirs == "features.0.weight"
