"""A module of PyTorch beside a network: agreement, and the first layer that differs."""

import copy
import math

import numpy as np
import pytest
from refusals import refuses

from refqnn.core import named_modules, walk
from refqnn.networks import resnet
from refqnn.nn import load_state_dict
from refqnn.testing import compare_module

torch = pytest.importorskip("torch", reason="needs the optional package torch")
F = torch.nn.functional


class Step(torch.nn.Module):
    """A learned step, as ports of LSQ write it."""

    def __init__(self, low, high, *, batch):
        super().__init__()
        self.low, self.high, self.batch = low, high, batch
        self.s = torch.nn.Parameter(torch.tensor(0.1))

    def forward(self, x):
        count = x[0].numel() if self.batch else x.numel()
        g = 1 / math.sqrt(count * self.high)
        s = self.s * g + (self.s - self.s * g).detach()
        u = x / s
        ends = (torch.full_like(u, self.low), torch.full_like(u, self.high))
        c = torch.where(u <= self.low, ends[0], torch.where(u >= self.high, ends[1], u))
        return s * (c + (c.round() - c).detach())


class QConv(torch.nn.Conv2d):
    def __init__(self, *args, **options):
        super().__init__(*args, bias=False, **options)
        self.quan_w_fn = Step(-8, 7, batch=False)

    def forward(self, x):
        return F.conv2d(x, self.quan_w_fn(self.weight), None, self.stride, self.padding)


class Block(torch.nn.Module):
    def __init__(self, i, o, stride):
        super().__init__()
        self.conv1 = QConv(i, o, 3, stride=stride, padding=1)
        self.bn1, self.act1 = torch.nn.BatchNorm2d(o), Step(0, 15, batch=True)
        self.conv2 = QConv(o, o, 3, padding=1)
        self.bn2, self.act2 = torch.nn.BatchNorm2d(o), Step(0, 15, batch=True)
        self.downsample = torch.nn.Identity()
        if stride > 1:
            conv = QConv(i, o, 1, stride=stride)
            self.downsample = torch.nn.Sequential(conv, torch.nn.BatchNorm2d(o))

    def forward(self, x):
        h = self.act1(F.relu(self.bn1(self.conv1(x))))
        return self.act2(F.relu(self.bn2(self.conv2(h)) + self.downsample(x)))


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(1, 4, 3, padding=1, bias=False)
        self.bn1, self.act = torch.nn.BatchNorm2d(4), Step(0, 15, batch=True)
        for i, (inputs, outputs) in enumerate([(4, 4), (4, 8), (8, 16)], 1):
            setattr(self, f"layer{i}", torch.nn.Sequential(
                Block(inputs, outputs, 1 if i == 1 else 2)))  # fmt: skip
        self.fc = torch.nn.Linear(16, 10)

    def forward(self, x):
        h = self.act(F.relu(self.bn1(self.conv1(x))))
        return self.fc(self.layer3(self.layer2(self.layer1(h))).mean((2, 3)))


@pytest.fixture(scope="module")
def both():
    torch.manual_seed(0)
    module = Net()
    with torch.no_grad():
        for name, part in module.named_modules():
            if isinstance(part, QConv):
                part.quan_w_fn.s.fill_(2 * part.weight.abs().mean() / math.sqrt(7))
            if isinstance(part, torch.nn.BatchNorm2d):
                part.bias.uniform_(-0.3, 0.3)
                part.weight.uniform_(0.5, 1.5)
            if name.endswith("act2"):
                part.s.fill_(0.2)
    network = resnet(
        8, width=0.25, method="lsq", weight_bits=4, activation_bits=4, shortcut="B",
        rng=np.random.default_rng(0),
    )  # fmt: skip
    load_state_dict(network, {k: v.numpy() for k, v in module.state_dict().items()})
    return module, network


IMAGES = np.random.default_rng(1).integers(0, 256, (6, 1, 12, 12)).astype(np.uint8)


def turned(module, name, change):
    """A copy whose part ``name`` gives what ``change`` makes of its gradient."""

    class Change(torch.autograd.Function):
        @staticmethod
        def forward(_ctx, y):
            return y.clone()

        @staticmethod
        def backward(_ctx, dy):
            return change(dy)

    return replaced(module, name, lambda self, x: Change.apply(plain_of(self)(self, x)))


def plain_of(part):
    return type(part).__mro__[1].forward


def replaced(module, name, forward):
    """A copy whose part ``name`` has another forward."""
    other = copy.deepcopy(module)
    part = other.get_submodule(name)
    part.__class__ = type("Replaced", (type(part),), {"forward": forward})
    return other


@pytest.mark.parametrize("training", [True, False])
def test_both_sides_agree(both, training):
    module, network = both
    before = {name: leaf.value.copy() for name, leaf in walk(network)}
    result = compare_module(module, network, IMAGES, training=training)
    assert result.agrees, str(result)
    kinds = [row.kind for row in result.rows]
    assert kinds.count("value") == 62
    assert kinds.count("output") == kinds.count("gradient of output") == 37
    assert kinds.count("gradient") == len(list(module.parameters()))
    for name, leaf in walk(network):
        np.testing.assert_array_equal(leaf.value, before[name])
    assert all(p.grad is None for p in module.parameters())
    assert "gradient: 44 of 44 agree" in str(result)


def test_both_sides_agree_in_float32_up_to_roundings(both):
    module, network = both
    result = compare_module(
        module, network, IMAGES, dtype="float32", tolerance=1e-3, training=False
    )
    assert result.agrees, str(result)
    assert max(row.error for row in result.rows) > 1e-9
    with pytest.raises(ValueError, match="dtype must be 'float64' or 'float32'"):
        compare_module(module, network, IMAGES, dtype="float16")


@pytest.mark.parametrize(
    ("change", "mistake"),
    [
        (lambda dy: 2 * dy, "a factor of 2"),
        (lambda dy: -dy, "the sign is turned"),
        (lambda dy: 0 * dy, "it is zero"),
    ],
)
@pytest.mark.parametrize("name", ["layer2.0.bn1", "layer1.0.act2", "fc"])
def test_the_first_gradient_that_differs(both, name, change, mistake):
    module, network = both
    result = compare_module(turned(module, name, change), network, IMAGES)
    first = result.first
    assert first.kind == "gradient"
    assert first.theirs.startswith(name)
    assert mistake in first.diagnosis
    assert all(not row.diagnosis for row in result.rows if row.kind == "output")


def test_the_first_output_that_differs(both):
    module, network = both
    other = copy.deepcopy(module)
    other.layer2[0].bn2.eps = 1e-3
    first = compare_module(other, network, IMAGES).first
    assert (first.kind, first.theirs) == ("output", "layer2.0.bn2")
    other = copy.deepcopy(module)
    other.layer2[0].conv2.stride = (2, 2)
    other.layer2[0].downsample[0].stride = (4, 4)
    first = compare_module(other, network, IMAGES).first
    assert (first.kind, first.theirs) == ("output", "layer2.0.conv2")
    assert "its shape is (6, 8, 3, 3), not (6, 8, 6, 6)" in first.diagnosis


def test_values_differ_first_and_what_is_not_compared(both):
    module, network = both
    other = copy.deepcopy(module)
    with torch.no_grad():
        other.layer3[0].act1.s.mul_(2)
    other.extra = torch.nn.Parameter(torch.zeros(2))
    result = compare_module(other, network, IMAGES)
    assert (result.first.kind, result.first.theirs) == ("value", "layer3.0.act1.s")
    assert "a factor of 2" in result.first.diagnosis
    assert result.not_compared == ("extra",)
    assert not result.agrees
    del module


def test_a_gradient_of_a_step_without_its_factor(both):
    module, network = both

    def unscaled(self, x):
        u = x / self.s
        c = torch.where(
            u <= self.low,
            torch.full_like(u, self.low),
            torch.where(u >= self.high, torch.full_like(u, self.high), u),
        )
        return self.s * (c + (c.round() - c).detach())  # fmt: skip

    name = "layer1.0.conv2.quan_w_fn"
    first = compare_module(replaced(module, name, unscaled), network, IMAGES).first
    assert (first.kind, first.theirs) == ("gradient", f"{name}.s")
    weights = module.layer1[0].conv2.weight.numel()
    assert f"a factor of {math.sqrt(weights * 7):.6g}" in first.diagnosis


def test_a_step_that_is_no_parameter_has_no_gradient(both):
    module, network = both
    other = copy.deepcopy(module)
    step = other.layer1[0].act1.s.detach().clone()
    del other.layer1[0].act1.s
    other.layer1[0].act1.register_buffer("s", step)
    result = compare_module(other, network, IMAGES)
    assert result.first is None
    assert result.not_compared == ("layers.stage1_block1.quant1.s",)


def test_a_module_of_other_names_is_refused(both):
    _, network = both
    with pytest.raises(ValueError, match="no layer of the module has a counterpart"):
        compare_module(torch.nn.Sequential(torch.nn.Flatten()), network, IMAGES)
    assert dict(named_modules(network))


class Plain(torch.nn.Module):
    """Without quantizers: layers of three names, a functional ReLU."""

    def __init__(self):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(1, 4, 3, padding=1, bias=False)
        self.bn1, self.drop = torch.nn.BatchNorm2d(4), torch.nn.Dropout(0.0)
        for i, (inputs, outputs) in enumerate([(4, 4), (4, 8), (8, 16)], 1):
            block = Block(inputs, outputs, 1 if i == 1 else 2)
            for name, part in [*block.named_modules()]:
                if isinstance(part, Step):
                    block.set_submodule(name, torch.nn.Identity())
            setattr(self, f"layer{i}", torch.nn.Sequential(block))
        self.fc = torch.nn.Linear(16, 10)

    def features(self, x):
        h = F.relu(self.bn1(self.conv1(x)))
        return self.layer3(self.layer2(self.layer1(h))).mean((2, 3))

    def forward(self, x):
        return self.fc(self.drop(self.features(x)))


def plain(change=lambda _: None, forward=None):
    """A module with what is changed in it, and the network of its values."""
    torch.manual_seed(0)
    module = Plain()
    change(module)
    if forward:
        module.__class__ = type("Changed", (Plain,), {"forward": forward})
    tensors = {k: v.numpy() for k, v in module.state_dict().items()}
    network = resnet(8, width=0.25, shortcut="B", rng=np.random.default_rng(0))
    load_state_dict(network, tensors)
    return module, network


def shares_a_layer(module):
    module.layer1[0].conv2 = module.layer1[0].conv1


def shares_weights(module):
    module.layer1[0].conv2.weight = module.layer1[0].conv1.weight


@pytest.mark.parametrize("change", [shares_a_layer, shares_weights])
def test_shared_weights_have_the_sum_of_our_gradients(change):
    module, network = plain(change)
    result = compare_module(module, network, IMAGES)
    assert result.agrees, str(result)
    both = [row for row in result.rows if " + " in row.ours]
    assert [row.theirs for row in both] == ["layer1.0.conv1.weight"]
    kinds = [row.kind for row in result.rows]
    assert kinds.count("gradient") == 28
    assert kinds.count("output") == kinds.count("gradient of output") == 22
    wrong = turned(module, "layer1.0.conv1", lambda dy: 2 * dy)
    assert not compare_module(wrong, network, IMAGES).agrees


def test_dropout_is_chance_in_training_and_none_in_evaluation():
    module, network = plain(lambda module: setattr(module.drop, "p", 0.5))
    with pytest.raises(ValueError, match=r"answers by chance.*: drop \(Dropout\)"):
        compare_module(module, network, IMAGES)
    assert compare_module(module, network, IMAGES, training=False).agrees
    module, network = plain(forward=lambda self, x: F.dropout(Plain.forward(self, x)))
    refuses("no module of that name", compare_module, module, network, IMAGES)


@pytest.mark.parametrize(
    ("forward", "message"),
    [
        (lambda self, x: (Plain.forward(self, x), None), r"logits \(N, K\), gives tup"),
        (lambda self, x: {"y": Plain.forward(self, x)}, r"logits \(N, K\), gives dict"),
        (lambda self, x: Plain.forward(self, x).sum(), r"gives torch.Size\(\[\]\)"),
        (lambda self, x: Plain.forward(self, x).detach(), "no gradient leads from"),
        (
            lambda self, x: Plain.forward(self, x.float()),
            "raises: .* need dtype='float32'",
        ),
    ],
)
def test_what_gives_no_logits_is_refused(forward, message):
    module, network = plain(forward=forward)
    refuses(message, compare_module, module, network, IMAGES)


@pytest.mark.parametrize(
    ("forward", "diagnosis"),
    [
        (lambda self, x: Plain.forward(self, x).softmax(1), "it is a softmax"),
        (lambda self, x: Plain.forward(self, x) * math.nan, "it is not finite"),
        (lambda self, x: 2 * Plain.forward(self, x), "a factor of 2"),
    ],
)
def test_logits_that_differ_behind_the_last_layer(forward, diagnosis):
    module, network = plain(forward=forward)
    first = compare_module(module, network, IMAGES).first
    assert (first.kind, first.theirs) == ("logits", "module")
    assert diagnosis in first.diagnosis


def test_a_missing_relu_is_said_to_lie_behind_the_last_that_agrees():
    def forward(self, x):
        h = self.layer1(self.bn1(self.conv1(x)))
        return self.fc(self.layer3(self.layer2(h)).mean((2, 3)))

    module, network = plain(forward=forward)
    result = compare_module(module, network, IMAGES)
    assert result.first.theirs == "layer1.0.conv1"
    assert "the last output before it, of bn1, agrees" in str(result)


def test_parameters_that_are_frozen_are_not_compared():
    module, network = plain(lambda module: module.layer1.requires_grad_(False))
    result = compare_module(module, network, IMAGES, labels=[0, 1, 2, 3, 4, 5])
    assert result.first is None
    assert len(result.not_compared) == 6
    assert all("stage1_block1" in name for name in result.not_compared)


def test_wrong_questions_are_named(both):
    module, network = both
    for wrong in (Net, network, lambda x: x):
        with pytest.raises(ValueError, match=r"torch_module must be a torch\.nn"):
            compare_module(wrong, network, IMAGES)
    refuses("network must be one of", compare_module, module, None, IMAGES)
    with pytest.raises(ValueError, match="tolerance must not be negative, got -1"):
        compare_module(module, network, IMAGES, tolerance=-1)
    refuses("images must be finite", compare_module, module, network, IMAGES * np.nan)
    labels = np.zeros(len(IMAGES), np.int32)
    assert compare_module(module, network, IMAGES, labels=labels).agrees
