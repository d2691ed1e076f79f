"""What every layer and every network must obey, and small networks to ask it of."""

import numpy as np

from refqnn.core import Run, named_buffers, named_params, zero_grads
from refqnn.networks import resnet

#: name -> options of a ResNet with 8 layers that a reader could compute by hand
TINY = {
    "float": {},
    "float, option B": {"shortcut": "B"},
    "3 channels": {"in_channels": 3},
    "weights 1 bit": {"weight_bits": 1},
    "weights 2 bit": {"weight_bits": 2},
    "weights 4 bit": {"weight_bits": 4},
    "activations 4 bit": {"activation_bits": 4},
    "4 bit": {"weight_bits": 4, "activation_bits": 4},
    "4 bit, option B": {"weight_bits": 4, "activation_bits": 4, "shortcut": "B"},
    "2 bit": {"weight_bits": 2, "activation_bits": 2},
}


def tiny(rng, *, width=0.13, dtype="float64", classes=3, **options):
    """Return a ResNet-8 with 2, 4 and 8 channels and norms away from the identity."""
    network = resnet(8, width=width, classes=classes, dtype=dtype, rng=rng, **options)
    for name, param in named_params(network).items():
        if name.endswith(("gamma", "beta", ".b")):
            param.value = param.value + rng.normal(0, 0.3, param.value.shape)
            param.value = param.value.astype(dtype)
    return network


def pixels(rng, *, n=3, channels=1, size=8, dtype=np.uint8):
    """Return random 8-bit images, as floats where a derivative is wanted."""
    return rng.integers(0, 256, (n, channels, size, size)).astype(dtype)


def check_gradients(module, x, run, rng, *, step=1e-6, bound=1e-6):
    """Check dx and every parameter's gradient against the derivative along a direction.

    The pass is recorded once and replayed with its rounding residuals held. x and the
    parameters are float64.
    """
    recording = run.recording()
    y, cache = module.forward(x, recording)
    dy = rng.standard_normal(y.shape)
    zero_grads(module)
    dx = module.backward(dy, cache)

    def loss(value):
        return np.sum(dy * module.forward(value, run.replaying(recording.tape))[0])

    params = named_params(module)
    along = rng.standard_normal(x.shape) * max(np.abs(x).max(), 1) / 10
    slope = (loss(x + step * along) - loss(x - step * along)) / (2 * step)
    compare("dx", slope, np.sum(dx * along), bound)
    for name, param in params.items():
        compare(name, *slopes(param, lambda: loss(x), rng, step), bound)


def slopes(param, loss, rng, step):
    """Return the numerical and the claimed derivative along a random direction."""
    value, along = param.value, rng.standard_normal(param.value.shape)
    param.value = value + step * along
    above = loss()
    param.value = value - step * along
    below = loss()
    param.value = value
    return (above - below) / (2 * step), np.sum(param.grad * along)


def check_direction(module, x, run, rng, *, step, bound):
    """Check all gradients of a deep network at once: the slope along one direction."""
    recording = run.recording()
    y, cache = module.forward(x, recording)
    dy = rng.standard_normal(y.shape)
    zero_grads(module)
    module.backward(dy, cache)
    params = list(named_params(module).values())
    values = [param.value for param in params]
    along = [rng.standard_normal(v.shape) * (np.abs(v).mean() + 0.1) for v in values]
    ends = []
    for way in (step, -step):
        for param, value, part in zip(params, values, along, strict=True):
            param.value = value + way * part
        ends.append(np.sum(dy * module.forward(x, run.replaying(recording.tape))[0]))
    claimed = sum(np.sum(p.grad * a) for p, a in zip(params, along, strict=True))
    compare("all", (ends[0] - ends[1]) / (2 * step), claimed, bound)


def compare(name, numerical, claimed, bound):
    """Compare two derivatives; a derivative of zero would show nothing."""
    assert claimed != 0, f"{name}: no gradient arrives"
    np.testing.assert_allclose(
        claimed, numerical, rtol=bound, atol=30 * bound, err_msg=name
    )


def check_backward_adds(module, x, run, rng):
    """Check that a second backward doubles every gradient, and that x is left alone."""
    before = x.copy()
    y, cache = module.forward(x, run)
    dy = rng.standard_normal(y.shape).astype(y.dtype)
    zero_grads(module)
    first_dx = module.backward(dy, cache)
    once = {name: p.grad.copy() for name, p in named_params(module).items()}
    np.testing.assert_array_equal(module.backward(dy, cache), first_dx)
    for name, param in named_params(module).items():
        np.testing.assert_array_equal(param.grad, 2 * once[name], err_msg=name)
    np.testing.assert_array_equal(x, before)
    assert not np.shares_memory(x, y)


def check_batch_independence(network, x, run, *, bound):
    """Check that in eval an image's output does not depend on its company."""
    together, _ = network.forward(x, run)
    alone = np.concatenate(
        [network.forward(x[i : i + 1], run)[0] for i in range(len(x))]
    )
    np.testing.assert_allclose(alone, together, rtol=0, atol=bound)


def state_of(network):
    """Return copies of every parameter and buffer."""
    params = {f"param {k}": p.value.copy() for k, p in named_params(network).items()}
    buffers = {f"buffer {k}": b.value.copy() for k, b in named_buffers(network).items()}
    return params | buffers


def check_same_state(have, want):
    """Check that two states are equal, bit for bit."""
    assert have.keys() == want.keys()
    for name, array in want.items():
        np.testing.assert_array_equal(have[name], array, err_msg=name, strict=True)


def calibrated(network, x, *, backend=None):
    """Return the network after one pass in training mode, so that ranges are known."""
    options = {} if backend is None else {"backend": backend}
    network.forward(x, Run(training=True, rng=np.random.default_rng(0), **options))
    return network
