"""MobileNetV2, ResNet-18 and MobileNetV3-small in plain PyTorch, with random weights.

Sandler, Howard, Zhu, Zhmoginov, Chen. MobileNetV2: Inverted Residuals and Linear
Bottlenecks. CVPR 2018, arXiv:1801.04381, table 2.
He, Zhang, Ren, Sun. Deep Residual Learning for Image Recognition. CVPR 2016,
arXiv:1512.03385, table 1.
Howard, Sandler, Chu, Chen, Chen, Tan, Wang, Zhu, Pang, Vasudevan, Le, Adam. Searching
for MobileNetV3. ICCV 2019, arXiv:1905.02244, table 2.

    static     export in floats, then ``quantize_static`` of onnxruntime
    exported   quantizers in the PyTorch graph, exported by ``torch.export``
"""

import copy
import itertools
import warnings

import onnx
import torch
from deploy.architectures import statically_quantized
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

SIZE = (3, 96, 96)


class Residual(nn.Module):
    """after(body(x) + skip(x))"""

    def __init__(self, body, skip=None, after=None):
        super().__init__()
        self.body, self.skip = body, skip or nn.Identity()
        self.after = after or nn.Identity()

    def forward(self, x):
        return self.after(self.body(x) + self.skip(x))


class SqueezeExcite(nn.Module):
    """x hard_sigmoid(w2 relu(w1 mean(x)))"""

    def __init__(self, c, reduced):
        super().__init__()
        self.mean = nn.AdaptiveAvgPool2d(1)
        self.one, self.relu = nn.Conv2d(c, reduced, 1), nn.ReLU()
        self.two, self.gate = nn.Conv2d(reduced, c, 1), nn.Hardsigmoid()

    def forward(self, x):
        return x * self.gate(self.two(self.relu(self.one(self.mean(x)))))


def conv(c, o, k=3, stride=1, groups=1, act=nn.ReLU):
    layers = [nn.Conv2d(c, o, k, stride, k // 2, groups=groups, bias=False)]
    return nn.Sequential(*layers, nn.BatchNorm2d(o), *([act()] if act else []))


def even(v):
    """Round to a multiple of 8, at most a tenth down (arXiv:1905.02244's code)."""
    rounded = max(8, int(v + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * v else rounded


def inverted(c, wide, o, *, k=3, stride=1, act=nn.ReLU6, squeeze=False):
    layers = [] if wide == c else [conv(c, wide, 1, act=act)]
    layers.append(conv(wide, wide, k, stride, wide, act))
    if squeeze:
        layers.append(SqueezeExcite(wide, even(wide // 4)))
    body = nn.Sequential(*layers, conv(wide, o, 1, act=None))
    return Residual(body) if stride == 1 and c == o else body


def mobilenet_v2():
    layers, c = [conv(3, 32, stride=2, act=nn.ReLU6)], 32
    rows = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1),
            (6, 160, 3, 2), (6, 320, 1, 1)]  # fmt: skip
    for factor, o, repeats, stride in rows:
        for i in range(repeats):
            layers.append(inverted(c, c * factor, o, stride=1 if i else stride))
            c = o
    layers.append(conv(c, 1280, 1, act=nn.ReLU6))
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, 1000)]
    return nn.Sequential(*layers, *head)


def resnet18():
    layers, c = [conv(3, 64, 7, 2), nn.MaxPool2d(3, 2, 1)], 64
    for o, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        for s in (stride, 1):
            body = nn.Sequential(conv(c, o, 3, s), conv(o, o, act=None))
            skip = None if c == o else conv(c, o, 1, s, act=None)
            layers.append(Residual(body, skip, nn.ReLU()))
            c = o
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 1000)]
    return nn.Sequential(*layers, *head)


def mobilenet_v3_small():
    relu, swish = nn.ReLU, nn.Hardswish
    rows = [(3, 16, 16, True, relu, 2), (3, 72, 24, False, relu, 2),
            (3, 88, 24, False, relu, 1), (5, 96, 40, True, swish, 2),
            (5, 240, 40, True, swish, 1), (5, 240, 40, True, swish, 1),
            (5, 120, 48, True, swish, 1), (5, 144, 48, True, swish, 1),
            (5, 288, 96, True, swish, 2), (5, 576, 96, True, swish, 1),
            (5, 576, 96, True, swish, 1)]  # fmt: skip
    layers, c = [conv(3, 16, stride=2, act=swish)], 16
    for k, wide, o, squeeze, act, stride in rows:
        options = {"k": k, "stride": stride, "act": act, "squeeze": squeeze}
        layers.append(inverted(c, wide, o, **options))
        c = o
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(576, 1024), swish()]
    return nn.Sequential(*layers, conv(c, 576, 1, act=swish), *head,
                         nn.Linear(1024, 1000))  # fmt: skip


NETWORKS = {f.__name__: f for f in (mobilenet_v2, resnet18, mobilenet_v3_small)}


def random_network(name, seed=0):
    """Return a network in inference, norms measured on noise and folded."""
    torch.manual_seed(seed)
    network = NETWORKS[name]()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the mean of what it has seen
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.3)
    with torch.no_grad():
        for _ in range(2):
            network(torch.randn(8, *SIZE))
    network.eval()
    for module in list(network.modules()):
        if isinstance(module, nn.Sequential):
            fold_norms(module)
    return network


def fold_norms(layers):
    """Replace Conv2d, BatchNorm2d by one Conv2d."""
    names = list(layers._modules)
    for first, second in itertools.pairwise(names):
        if isinstance(layers._modules[second], nn.BatchNorm2d):
            pair = layers._modules[first], layers._modules[second]
            layers._modules[first] = fuse_conv_bn_eval(*pair)
            layers._modules[second] = nn.Identity()


def to_onnx_floats(network, path):
    """Export by torch.export; the input is called x."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network, (torch.randn(1, *SIZE),), path, dynamo=True, verbose=False,
            input_names=["x"], external_data=False,
        )  # fmt: skip
    return onnx.load(path)


def static(rng, folder, name, **kind):
    """Quantize the exported float network by ``quantize_static``."""
    model = to_onnx_floats(random_network(name), folder / "torch.onnx")
    return statically_quantized(rng, folder, model, **kind)


class Quantized(nn.Module):
    """Dequantize(Quantize(x)) of uint8 codes, the range seen so far as its grid."""

    def __init__(self):
        super().__init__()
        self.low, self.high, self.measure = 0.0, 0.0, True

    def forward(self, x):
        if self.measure:
            self.low = min(self.low, float(x.min()))
            self.high = max(self.high, float(x.max()))
            return x
        scale = (self.high - self.low) / 255
        zero = round(-self.low / scale)
        ops = torch.ops.quantized_decomposed
        args = (scale, zero, 0, 255, torch.uint8)
        return ops.dequantize_per_tensor(ops.quantize_per_tensor(x, *args), *args)


class QuantizedWeights(nn.Module):
    """A layer whose weights pass int8 codes, a scale per output channel."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer
        w = layer.weight.detach()
        scale = w.abs().reshape(len(w), -1).max(dim=1).values / 127
        self.register_buffer("scale", scale)
        self.register_buffer("zero", torch.zeros(len(w), dtype=torch.int64))

    def forward(self, x):
        ops = torch.ops.quantized_decomposed
        args = (self.scale, self.zero, 0, -127, 127, torch.int8)
        q = ops.quantize_per_channel(self.layer.weight, *args)
        w = ops.dequantize_per_channel(q, *args)
        if isinstance(self.layer, nn.Linear):
            return nn.functional.linear(x, w, self.layer.bias)
        a = self.layer
        window = (a.stride, a.padding, a.dilation, a.groups)
        return nn.functional.conv2d(x, w, a.bias, *window)


#: layers that an activation behind them is computed with
FUSED = (nn.ReLU, nn.ReLU6)


def with_quantizers(network):
    """Insert a quantizer behind the image and every layer, save before a ReLU."""
    traced = fx.symbolic_trace(copy.deepcopy(network))
    modules = dict(traced.named_modules())
    for node in list(traced.graph.nodes):
        layer = modules.get(node.target) if node.op == "call_module" else None
        if node.op == "output" or isinstance(layer, nn.Identity | nn.Flatten):
            continue
        if isinstance(layer, nn.Conv2d | nn.Linear):
            traced.set_submodule(node.target, QuantizedWeights(layer))
        readers = [through_identities(user, modules) for user in node.users]
        if any(isinstance(modules.get(r.target), FUSED) for r in readers
               if r.op == "call_module"):  # fmt: skip
            continue
        name = f"codes_{node.name}"
        traced.add_submodule(name, Quantized())
        with traced.graph.inserting_after(node):
            pair = traced.graph.call_module(name, (node,))
        node.replace_all_uses_with(pair, lambda user, p=pair: user is not p)
    traced.recompile()
    return traced


def through_identities(node, modules):
    """Return the first node behind that is no Identity."""
    while node.op == "call_module" and isinstance(modules[node.target], nn.Identity):
        node = next(iter(node.users))
    return node


def exported(folder, name):
    """Export a network with quantizers that have seen noise."""
    from torch.ao.quantization.fx import _decomposed  # noqa: F401 - registers its operators

    network = with_quantizers(random_network(name))
    with torch.no_grad():
        network(torch.randn(4, *SIZE))
    for module in network.modules():
        if isinstance(module, Quantized):
            module.measure = False
    return to_onnx_floats(network, folder / "quantized.onnx")
