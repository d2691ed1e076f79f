"""Print the ratio table of the README: our twins against PyTorch and onnxruntime.

Both sides compute the same thing, are compared before they are timed, and take turns
within one process, on the same number of threads; each case has a process of its own,
whose thread pools serve nothing else. A ratio is the median over rounds of our time
divided by theirs; above 1 we are slower.

    python tests/benchmarks/ratios.py [--threads 2] [--rounds 15] [--case NAME] [--json]
    python tests/benchmarks/ratios.py --threads 1 --check

With one thread the time of the thread is taken, which load from other processes hardly
moves. ``--check`` compares with ``bounds.json``, by kind of CPU: a ratio has become
worse where even the lower quartile of its rounds exceeds the bound.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numba
import numpy as np
from threadpoolctl import threadpool_limits

import refqnn
from refqnn import deploy, fast, ops
from refqnn.core import Run, named_params, zero_grads
from refqnn.fast import tiles
from refqnn.networks import resnet
from refqnn.nn import SGD, evaluate
from refqnn.papers import dfs, quantnas

N = 128
BOUNDS = Path(__file__).with_name("bounds.json")


def ratio(ours, theirs, *, rounds):
    """Return the median over rounds of time(ours) / time(theirs), and its quartiles."""
    for warm in (ours, theirs, ours, theirs):
        warm()
    seen = sorted(clock(ours) / clock(theirs) for _ in range(rounds))
    return statistics.median(seen), seen[rounds // 4], seen[-rounds // 4 - 1]


def clock(call):
    """Return the fastest of two or more calls, as many as fit into a fifth of a second.

    The first ones share the cores with idle threads of the other side that still spin.
    """
    now = time.thread_time if numba.get_num_threads() == 1 else time.perf_counter
    times = []
    while len(times) < 2 or sum(times) < 0.2:
        start = now()
        call()
        times.append(now() - start)
    return min(times)


def convolutions(rounds):
    """Float 3x3 convolutions of ResNet-20, forward and both backwards."""
    torch = imported_torch()
    rng = np.random.default_rng(0)
    for c, size in ((16, 32), (32, 16), (64, 8)):
        x = rng.standard_normal((N, c, size, size), np.float32)
        w = rng.standard_normal((c, c, 3, 3), np.float32)
        y, cache = fast.ops.conv2d(x, w, padding=1)
        tx, tw, tdy = (torch.tensor(a) for a in (x, w, y))
        close(y, torch.conv2d(tx, tw, padding=1), 1e-3)
        settings = (None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1)
        masks = [True, True, False]

        def theirs(a=(tdy, tx, tw, *settings, masks)):
            return torch.ops.aten.convolution_backward(*a)

        grads = fast.ops.conv2d_backward(y, cache)
        for mine, other in zip(grads[:2], theirs()[:2], strict=True):
            close(mine, other, 1e-3 * float(other.abs().max()))
        yield (
            f"conv 3x3, {c} channels, {size}x{size}, forward",
            ratio(
                lambda x=x, w=w: fast.ops.conv2d(x, w, padding=1),
                lambda tx=tx, tw=tw: torch.conv2d(tx, tw, padding=1),
                rounds=rounds,
            ),
        )
        yield (
            f"conv 3x3, {c} channels, {size}x{size}, backward",
            ratio(
                lambda y=y, cache=cache: fast.ops.conv2d_backward(y, cache),
                theirs,
                rounds=rounds,
            ),
        )


def training_step(rounds, bits):
    """One ResNet-20 step, batch 128 at 32x32: forward, loss, backward, SGD."""
    torch = imported_torch()
    from torch_mirror import Mirror

    rng = np.random.default_rng(0)
    network = resnet(20, in_channels=3, weight_bits=bits, activation_bits=bits, rng=rng)
    images = rng.integers(0, 256, (N, 3, 32, 32), dtype=np.uint8)
    labels = rng.integers(0, 10, N)
    mirror = Mirror(network)
    t_images, t_labels = torch.tensor(images), torch.tensor(labels)
    optimiser = SGD(
        named_params(network), momentum=0.9, nesterov=True, weight_decay=5e-4
    )
    t_optimiser = torch.optim.SGD(
        mirror.params.values(), lr=1e-4, momentum=0.9, nesterov=True, weight_decay=5e-4
    )

    def forward_backward():
        zero_grads(network)
        logits, cache = network.forward(images, Run(training=True, backend=fast))
        loss, loss_cache = fast.ops.softmax_cross_entropy(logits, labels)
        network.backward(
            fast.ops.softmax_cross_entropy_backward(1.0, loss_cache), cache
        )
        return loss

    def ours():
        forward_backward()
        optimiser.step(1e-4)

    def t_forward_backward():
        t_optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(mirror(t_images), t_labels)
        loss.backward()
        return loss

    def theirs():
        t_forward_backward()
        t_optimiser.step()

    loss, t_loss = forward_backward(), t_forward_backward()
    np.testing.assert_allclose(loss, t_loss.item(), rtol=1e-3 if bits is None else 2e-2)
    if bits is None:
        for name, param in named_params(network).items():
            grad = mirror.params[name].grad.numpy()
            off = np.linalg.norm(param.grad - grad)
            assert off <= 1e-2 * np.linalg.norm(grad), (name, off)
    label = "float" if bits is None else f"{bits}-bit quantization-aware"
    yield f"training step, ResNet-20, {label}", ratio(ours, theirs, rounds=rounds)


def integer_convolution(rounds, threads):
    """Integer 3x3 convolution with requantization against QLinearConv."""
    rng = np.random.default_rng(0)
    for c, size in ((16, 32), (32, 16), (64, 8), (64, 32)):
        x = rng.integers(0, 256, (N, c, size, size), dtype=np.uint8)
        # seven bits: without VNNI, onnxruntime adds two products in a saturating int16
        w = rng.integers(-63, 64, (c, c, 3, 3), dtype=np.int8)
        real = 1 / (64 * np.sqrt(c * 9) * 32)
        multiplier, shift = refqnn.integer.quantize_multiplier(real)

        def ours(x=x, w=w, multiplier=multiplier, shift=shift):
            return fast.fused.conv2d_requantize(
                x,
                w,
                x_zero_point=128,
                padding=1,
                multiplier=multiplier,
                shift=shift,
                zero_point=128,
                q_min=0,
                q_max=255,
                rounding="float32_half_even",
            )

        session = qlinear_conv(x, w, real, threads)

        def theirs(session=session, x=x):
            return session.run(None, {"x": x})[0]

        off = np.abs(ours().astype(int) - theirs().astype(int))
        assert off.max() <= 1, off.max()
        assert np.mean(off > 0) < 1e-3, np.mean(off > 0)
        yield (
            f"integer conv 3x3, {c} channels, {size}x{size}, requantized",
            ratio(ours, theirs, rounds=rounds),
        )


def qlinear_conv(x, w, real, threads):
    """Return an onnxruntime session of one QLinearConv."""
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    constants = {
        "x_scale": np.float32(1),
        "x_zero": np.uint8(128),
        "w": w,
        "w_scale": np.float32(1),
        "w_zero": np.int8(0),
        "y_scale": np.float32(1 / real),
        "y_zero": np.uint8(128),
    }
    node = helper.make_node("QLinearConv", ["x", *constants], ["y"], pads=[1, 1, 1, 1])
    kind = TensorProto.UINT8
    graph = helper.make_graph(
        [node],
        "conv",
        [helper.make_tensor_value_info("x", kind, x.shape)],
        [helper.make_tensor_value_info("y", kind, None)],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def integer_networks(rounds, threads):
    """A deployed 4-bit ResNet-20 against its own forms in onnxruntime."""
    import onnxruntime

    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (N, 3, 32, 32), dtype=np.uint8)
    network = resnet(20, in_channels=3, weight_bits=4, activation_bits=4, rng=rng)
    network.forward(images, Run(training=True, backend=fast))
    options = {"finer_bias": False, "requantize": "float32_half_even"}
    integer = deploy.deploy(network, image_size=(32, 32), **options)
    for form in ("qoperator", "qdq"):
        setting = onnxruntime.SessionOptions()
        setting.intra_op_num_threads, setting.log_severity_level = threads, 4
        session = onnxruntime.InferenceSession(
            deploy.to_onnx(integer, form=form).SerializeToString(),
            setting,
            providers=["CPUExecutionProvider"],
        )
        name = session.get_inputs()[0].name
        for batch in (1, N):
            x = images[:batch]

            def theirs(session=session, name=name, x=x):
                return session.run(None, {name: x})[0]

            ours = integer.forward(x, fast)
            same = np.mean(ours.argmax(axis=1) == theirs().argmax(axis=1))
            assert same >= 0.99, same
            yield (
                f"ResNet-20 of integers, {form}, batch {batch}",
                ratio(lambda x=x: integer.forward(x, fast), theirs, rounds=rounds),
            )


def binary_convolution(rounds):
    """Packed binary convolution against our float one on the same +-1 values."""
    rng = np.random.default_rng(0)
    for c, size in ((64, 32), (128, 16), (256, 16)):
        x = rng.choice(np.array([-1, 1], np.int8), (64, c, size, size))
        w = rng.choice(np.array([-1, 1], np.int8), (c, c, 3, 3))
        xb, wb = refqnn.integer.pack_bits(x), refqnn.integer.pack_bits(w)
        xf, wf = x.astype(np.float32), w.astype(np.float32)

        def packed(xb=xb, wb=wb, c=c):
            return fast.integer.xnor_conv2d(xb, wb, channels=c)

        def plain(xf=xf, wf=wf):
            return fast.ops.conv2d(xf, wf)[0]

        np.testing.assert_array_equal(packed(), plain())
        yield (
            f"packed binary conv 3x3, {c} channels, against our float",
            ratio(packed, plain, rounds=rounds),
        )


def definition_and_twin(rounds):
    """The NumPy definition against its Numba twin."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((32, 32, 16, 16), np.float32)
    w = rng.standard_normal((32, 32, 3, 3), np.float32)
    close(fast.ops.conv2d(x, w, padding=1)[0], ops.conv2d(x, w, padding=1)[0], 1e-3)
    yield (
        "conv 3x3, 32 channels, twin against definition",
        ratio(
            lambda: fast.ops.conv2d(x, w, padding=1),
            lambda: ops.conv2d(x, w, padding=1),
            rounds=rounds,
        ),
    )


def routed_step(rounds):
    """DFS's training step against the same network's at 8 bits: three candidates.

    In the soft mode every candidate is undone, the most that a step can cost.
    """
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (64, 3, 32, 32), np.uint8)
    labels = rng.integers(0, 10, 64)
    network = dfs.routed_resnet(14, in_channels=3, rng=rng)

    def step(objective):
        zero_grads(network)
        objective(network, images, labels, Run(training=True, backend=fast))

    joint, static = dfs.Joint(target=0.2), dfs.Forced(1)
    for mode in ("straight_through", "soft"):
        network.gate_mode = mode
        yield (
            f"DFS step, {mode}, ResNet-14, against its 8-bit step",
            ratio(lambda: step(joint), lambda: step(static), rounds=rounds),
        )


def subnet_evaluation(rounds):
    """A QuantNAS subnet, calibrated and evaluated, against its evaluation alone.

    Divided by 1 + calibration images / evaluation images.
    """
    rng = np.random.default_rng(0)
    space = quantnas.Space(size=14)
    net = quantnas.supernet(space, scales="predicted", rng=rng)
    seen = rng.integers(0, 256, (256, 1, 14, 14), np.uint8)
    images = rng.integers(0, 256, (512, 1, 14, 14), np.uint8)
    labels = rng.integers(0, 10, 512)
    quantnas.initialise(net, seen[:64], backend=fast)
    for name, genotype in (
        ("largest", quantnas.largest(space)),
        ("smallest", quantnas.smallest(space)),
    ):
        network = quantnas.plain(net, quantnas.calibrate(net, genotype, seen))
        found = ratio(
            lambda g=genotype: quantnas.accuracy(
                net, g, seen, images, labels, backend=fast
            ),
            lambda n=network: evaluate(n, images, labels, backend=fast),
            rounds=rounds,
        )
        yield (
            f"{name} subnet, 256 images to calibrate, 512 to evaluate",
            [value / (1 + len(seen) / len(images)) for value in found],
        )


def close(mine, other, tolerance):
    np.testing.assert_allclose(mine, np.asarray(other), atol=tolerance, rtol=1e-3)


def imported_torch():
    """Return PyTorch with as many threads as Numba has."""
    import torch

    torch.set_num_threads(numba.get_num_threads())
    return torch


CASES = {
    "step": lambda options: training_step(options.rounds, None),
    "quantized_step": lambda options: training_step(options.rounds, 4),
    "convolutions": lambda options: convolutions(options.rounds),
    "integers": lambda options: integer_convolution(options.rounds, options.threads),
    "networks": lambda options: integer_networks(options.rounds, options.threads),
    "binary": lambda options: binary_convolution(options.rounds),
    "routed": lambda options: routed_step(options.rounds),
    "subnet": lambda options: subnet_evaluation(options.rounds),
    "definition": lambda options: definition_and_twin(options.rounds),
}


def rows_of(case, options):
    """Return ``[[what, median, lower quartile, upper quartile], ...]`` of one case."""
    numba.set_num_threads(options.threads)
    with threadpool_limits(options.threads, user_api="blas"):
        try:
            return [[what, *seen] for what, seen in CASES[case](options)]
        except ImportError as missing:
            print(f"{case} is left out: {missing}", file=sys.stderr)
            return []


def rows_apart(case, options):
    """Return the rows of one case, measured in a process of its own."""
    command = [sys.executable, __file__, "--case", case, "--json"]
    command += ["--threads", str(options.threads), "--rounds", str(options.rounds)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


def kind_of_cpu():
    """Name the vector instructions that Numba compiles for, as ``bounds.json`` does."""
    if not tiles.has_avx512():
        return "avx2"
    return "avx512_vnni" if tiles.has_vnni() else "avx512"


def worse(rows, threads):
    """Return the rows whose lower quartile exceeds the bound of this kind of CPU."""
    bounds = json.loads(BOUNDS.read_text("utf-8"))
    mine = bounds.get(kind_of_cpu(), {}).get(f"{threads} threads", {})
    return [
        f"{what}: {low:.2f} to {high:.2f}, bound {mine[what]}"
        for what, _, low, high in rows
        if low > mine.get(what, float("inf"))
    ]


def main():
    """Print the table; exit with 1 where a bound is exceeded and a check was asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--case", choices=CASES)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    rows = []
    for case in [options.case] if options.case else CASES:
        found = (rows_of if options.case else rows_apart)(case, options)
        rows += found
        for what, middle, low, high in [] if options.json else found:
            print(f"| {what} | {middle:.2f} | {low:.2f} - {high:.2f} |", flush=True)
    if options.json:
        print(json.dumps(rows, indent=1))
    slower = worse(rows, options.threads) if options.check else []
    print("".join(f"{row}\n" for row in slower), end="", file=sys.stderr)
    sys.exit(bool(slower))


if __name__ == "__main__":
    main()
