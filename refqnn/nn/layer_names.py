"""Names of layers in PyTorch: residual networks, MobileNetV2, layers in a row.

    network             PyTorch (torchvision)              refqnn
    residual            conv1, bn1, relu                   stem, stem_norm, stem_relu
      (S, B from 1, 0)  layerS.B.convK, .bnK, .reluK       stageS_block(B+1).convK ...
                        layerS.B.downsample.0, .1          ... .shortcut.layers.conv ...
    inverted residual   features.0.0, .1, .2               stem, stem_norm, stem_relu
      (t = 6)           features.I.conv.0.0, .1, .2        ... .expand and what follows
                        features.I.conv.1.0, .1, .2        ... .depthwise ...
                        features.I.conv.2, .3              ... .project, .project_norm
    in a row            features.0, features.1, ...        every layer, quantizers not
    each                fc, or classifier.1 behind         classifier
                        inverted blocks, or classifier

Other spellings are read, too: ``shortcut`` for ``downsample``, ``linear``, ``head``,
``classifier`` for the last layer, the prefixes of wrappers (``module.``), batch norms
inside the convolution they follow (``conv1.bn``, torch.ao), and our own names.
"""

import re
from collections.abc import Iterable
from typing import Any

from refqnn.core import named_modules
from refqnn.nn.layers import AvgPool2d, Conv2d, Flatten, Linear, MaxPool2d, ReLU, ReLU6
from refqnn.nn.norms import BatchNorm2d

BLOCK = r"layers\.stage(\d+)_block(\d+)"
INSIDE = BLOCK + r"\.(?:body\.layers\.)?"
RESIDUAL = (
    (r"layers\.stem", "conv1"),
    (r"layers\.stem_norm", "bn1"),
    (r"layers\.stem_relu", "relu"),
    (r"layers\.classifier", "fc"),
    (INSIDE + r"conv(\d)", "layer{0}.{1}.conv{2}"),
    (INSIDE + r"(?:norm(\d)|conv(\d)_norm)", "layer{0}.{1}.bn{2}"),
    (INSIDE + r"(?:relu(\d)|conv(\d)_relu)", "layer{0}.{1}.relu{2}"),
    (BLOCK + r"\.after\.layers\.relu", "layer{0}.{1}.relu"),
    (BLOCK + r"\.shortcut\.layers\.conv", "layer{0}.{1}.downsample.0"),
    (BLOCK + r"\.shortcut\.layers\.norm", "layer{0}.{1}.downsample.1"),
    (BLOCK, "layer{0}.{1}"),
)
ALIASES = (
    (r"^(?:(?:module|model|_orig_mod|net|network|backbone)\.)+", ""),
    (r"\.shortcut\.", ".downsample."),
    (r"\.parametrizations\.(weight|bias)\.original$", r".\1"),
    (r"^linear\.", "fc."),
    (r"(^|\.)conv(\d)\.bn\.", r"\1bn\2."),
    (r"\.downsample\.0\.bn\.", ".downsample.1."),
    (r"(\.conv\.\d|^features\.\d+)\.0\.bn\.", r"\1.1."),
)
#: the layers that have a place in a network of PyTorch
KINDS = (Conv2d, Linear, BatchNorm2d, ReLU, ReLU6, MaxPool2d, AvgPool2d, Flatten)
LAST = ("fc", "linear", "head", "classifier.1", "classifier")
INVERTED = r"layers\.((?:row|stage)\d+_block\d+)"


def canonical(name: str) -> str:
    """Spell a name of a file as torchvision does.

    >>> canonical("module.layer1.0.shortcut.0.weight")
    'layer1.0.downsample.0.weight'
    >>> canonical("layer1.0.conv2.bn.running_mean")
    'layer1.0.bn2.running_mean'
    """
    for pattern, form in ALIASES:
        name = re.sub(pattern, form, name)
    return name


def layer_names(network: Any) -> dict[str, str]:
    """Map our layers, and the blocks they are in, to their names in PyTorch.

    A layer of no known layout keeps its own name.
    """
    ours = [name for name, part in named_modules(network) if isinstance(part, KINDS)]
    if any(re.match(INVERTED + r"\.(?:body\.)?layers\.depthwise$", n) for n in ours):
        return inverted_names(ours)
    if any(re.match(BLOCK, name) for name in ours):
        blocks = {m[0]: None for m in map(re.compile(BLOCK).match, ours) if m}
        return {name: residual_name(name) or name for name in [*ours, *blocks]}
    names = {name: f"features.{i}" for i, name in enumerate(ours)}
    return names | {n: "classifier" for n in ours if n == "layers.classifier"}


def residual_name(name: str) -> str | None:
    """Name a layer or a block of a residual network; None for any other.

    >>> residual_name("layers.stage2_block1.norm1")
    'layer2.0.bn1'
    """
    for pattern, form in RESIDUAL:
        match = re.fullmatch(pattern, name)
        if match:
            stage, block, *place = [g for g in match.groups() if g] or ("", "1")
            return form.format(stage, int(block) - 1, *place)
    return None


def inverted_names(ours: Iterable[str]) -> dict[str, str]:
    """Name the layers of MobileNetV2: a number for every block, in order.

    A block whose input is not widened has no ``expand``: its names begin one earlier.

    >>> inverted_names(["layers.stem", "layers.row1_block1.layers.depthwise_norm"])
    {'layers.stem': 'features.0.0', 'layers.row1_block1.layers.depthwise_norm': \
'features.1.conv.0.1', 'layers.row1_block1': 'features.1'}
    """
    parts = {"": "0", "norm": "1", "relu": "2"}
    names: dict[str, str] = {}
    blocks: dict[str, str] = {}
    ours = list(ours)
    for name in ours:
        match = re.match(INVERTED, name)
        if match:
            block = f"features.{len(blocks) + 1}"
            block = blocks.setdefault(match[0], block)
            layer, _, part = name.rpartition(".")[2].partition("_")
            first = any(re.match(re.escape(match[0]) + r"\..*expand$", n) for n in ours)
            at = ("expand", "depthwise", "project").index(layer) - (not first)
            place = f"{at + (part == 'norm')}"
            if layer != "project":
                place = f"{at}.{parts[part]}"
            names[name] = f"{block}.conv.{place}"
            continue
        layer, _, part = name.removeprefix("layers.").partition("_")
        if layer in {"stem", "last"}:
            names[name] = f"features.{0 if layer == 'stem' else len(blocks) + 1}."
            names[name] += parts[part]
        else:
            names[name] = "classifier.1" if layer == "classifier" else name
    return names | blocks


def spellings(network: Any) -> dict[str, str]:
    """Map every name under which a layer or block may stand in a file to ours."""
    names = layer_names(network)
    known = {ours: ours for ours in names} | {there: n for n, there in names.items()}
    if "layers.classifier" in names:
        known = dict.fromkeys(LAST, "layers.classifier") | known
    return known
