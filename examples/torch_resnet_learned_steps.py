"""Is this port of a ResNet with learned steps right?  PyTorch beside refqnn, by layer.

Weights, statistics and steps of the module go over by their names; then both compute
one batch, and every output, the loss and every gradient are compared, the steps' too.
"""

import math

import numpy as np
import torch

from refqnn.networks import resnet
from refqnn.nn import load_state_dict
from refqnn.testing import compare_module

F = torch.nn.functional


class Step(torch.nn.Module):
    """LSQ as it is ported: gradient scale 1 / sqrt(n q_p), detached residual."""

    def __init__(self, low, high):
        super().__init__()
        self.low, self.high = low, high
        self.s = torch.nn.Parameter(torch.tensor(0.2))

    def forward(self, v):
        n = v.numel() if self.low else v[0].numel()  # of weights, of one image
        g = 1 / math.sqrt(n * self.high)
        s = self.s * g + (self.s - self.s * g).detach()
        u = v / s
        low, high = torch.full_like(u, self.low), torch.full_like(u, self.high)
        u = torch.where(u <= low, low, torch.where(u >= high, high, u))
        return s * (u + (u.round() - u).detach())


class Conv(torch.nn.Conv2d):
    def __init__(self, *sizes, **options):
        super().__init__(*sizes, bias=False, **options)
        self.quan_w_fn = Step(-8, 7)

    def forward(self, x):
        return F.conv2d(x, self.quan_w_fn(self.weight), None, self.stride, self.padding)


class Block(torch.nn.Module):
    def __init__(self, i, o, stride):
        super().__init__()
        self.conv1 = Conv(i, o, 3, stride=stride, padding=1)
        self.conv2 = Conv(o, o, 3, padding=1)
        self.bn1, self.bn2 = torch.nn.BatchNorm2d(o), torch.nn.BatchNorm2d(o)
        self.act1, self.act2 = Step(0, 15), Step(0, 15)
        pair = Conv(i, o, 1, stride=stride), torch.nn.BatchNorm2d(o)
        self.downsample = torch.nn.Sequential(*pair) if i < o else torch.nn.Identity()

    def forward(self, x):
        h = self.act1(F.relu(self.bn1(self.conv1(x))))
        return self.act2(F.relu(self.bn2(self.conv2(h)) + self.downsample(x)))


class Net(torch.nn.Sequential):
    def forward(self, x):
        for part in list(self)[:-1]:
            x = F.relu(part(x)) if part is self.bn1 else part(x)
        return self.fc(x.mean((2, 3)))


torch.manual_seed(0)
module = Net()
module.conv1 = torch.nn.Conv2d(1, 4, 3, padding=1, bias=False)
module.bn1, module.act = torch.nn.BatchNorm2d(4), Step(0, 15)
module.layer1 = torch.nn.Sequential(Block(4, 4, 1))
module.layer2 = torch.nn.Sequential(Block(4, 8, 2))
module.layer3 = torch.nn.Sequential(Block(8, 16, 2))
module.fc = torch.nn.Linear(16, 10)

network = resnet(8, width=0.25, method="lsq", weight_bits=4, activation_bits=4,
                 shortcut="B", rng=np.random.default_rng(0))  # fmt: skip
load_state_dict(network, {k: v.numpy() for k, v in module.state_dict().items()})
images = np.random.default_rng(1).integers(0, 256, (8, 1, 16, 16)).astype(np.uint8)
right = compare_module(module, network, images)
print(right)

module.layer2[0].conv1.quan_w_fn.high = 8  # one level too many, which no weight takes
wrong = compare_module(module, network, images)
print(f"\nwith a level too many: sqrt(7 / 8)\n{wrong.first}")
assert right.agrees
assert not wrong.agrees
