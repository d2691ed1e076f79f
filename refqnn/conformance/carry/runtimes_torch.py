"""Operators of PyTorch as functions of arrays."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from refqnn._types import Array, Float, Int
from refqnn.conformance.carry.runtimes_onnx import whole_type


def torch_quantize(x: Float, scale: Any, zero_point: int, *_: int) -> Array:
    """Call torch.quantize_per_tensor to qint8."""
    import torch

    q = torch.quantize_per_tensor(
        torch.from_numpy(x), float(scale), int(zero_point), torch.qint8
    )
    return np.asarray(q.int_repr())


def torch_fake_quantize(*args: Any) -> tuple[Array, ...]:
    """Call torch.fake_quantize_per_tensor_affine and its backward; scales are fixed."""
    import torch

    x, scale, zero_point, q_min, q_max, dy = args
    leaf = torch.from_numpy(np.array(x)).requires_grad_()
    y = torch.fake_quantize_per_tensor_affine(
        leaf, float(scale), int(zero_point), q_min, q_max
    )
    torch.autograd.backward(y, torch.from_numpy(np.array(dy)))  # type: ignore[no-untyped-call, unused-ignore]
    return np.asarray(y.detach()), np.asarray(leaf.grad), np.zeros(())


def torch_learnable(*args: Any) -> tuple[Array, ...]:
    """Call torch._fake_quantize_learnable_per_tensor_affine and its backward."""
    import torch

    x, scale, zero_point, q_min, q_max, dy = args
    leaf = torch.from_numpy(np.array(x)).requires_grad_()
    step = torch.tensor([float(scale)], requires_grad=True)
    zero = torch.tensor([float(zero_point)])
    learnable = torch._fake_quantize_learnable_per_tensor_affine  # noqa: SLF001 - what QAT with learned scales calls
    y = learnable(leaf, step, zero, q_min, q_max, 1.0)
    torch.autograd.backward(y, torch.from_numpy(np.array(dy)))  # type: ignore[no-untyped-call, unused-ignore]
    return np.asarray(y.detach()), np.asarray(leaf.grad), np.asarray(step.grad)[0]


def torch_max_pool2d(x: Int, kernel: int, stride: int, padding: int) -> Array:
    """Call torch max_pool2d on codes held in float32."""
    import torch

    plane = torch.from_numpy(x.astype(np.float32))
    y = torch.nn.functional.max_pool2d(plane, kernel, stride, padding)
    return np.asarray(y)


def torch_avg_pool2d(
    x: Int, kernel: int, stride: int, padding: int, zero_point: int
) -> Array:
    """Call torch avg_pool2d on quint8 codes, 128 above int8 ones."""
    import torch

    shift = 128 if x.dtype == np.int8 else 0
    codes = torch.from_numpy((x.astype(np.int16) + shift).astype(np.uint8))
    q = torch._make_per_tensor_quantized_tensor(codes, 1.0, zero_point + shift)  # noqa: SLF001 - the only way to set codes
    y = torch.nn.functional.avg_pool2d(q, kernel, stride, padding)
    return np.asarray(y.int_repr()).astype(np.int64) - shift


def torch_sum(kind: str, x: Int, y: Int, *grids: Any) -> Array:
    """Call torch.ops.quantized.add or mul."""
    import torch

    sx, zx, sy, zy, s, z, q_min, q_max = grids
    whole_type(x, q_min, q_max)
    both = [np.ascontiguousarray(v) for v in np.broadcast_arrays(x, y)]
    a, b = (
        torch._make_per_tensor_quantized_tensor(torch.from_numpy(v), scale, zero)  # noqa: SLF001 - the only way to set codes
        for v, scale, zero in zip(both, (sx, sy), (zx, zy), strict=True)
    )
    y = getattr(torch.ops.quantized, kind)(a, b, float(s), int(z)).int_repr()
    return np.asarray(y)


def torch_resize(mode: str, x: Int, size: Any) -> Array:
    """functional.interpolate of uint8 planes, corners not aligned."""
    import torch

    if x.dtype != np.uint8:
        raise ValueError(f"PyTorch resizes codes of uint8, got {x.dtype}")
    planes = torch.from_numpy(np.ascontiguousarray(x))
    sizes = [int(side) for side in size]
    y = torch.nn.functional.interpolate(planes, size=sizes, mode=mode)
    return np.asarray(y.numpy())


def torch_concat(x: Int, y: Int, *grids: Any) -> Array:
    """Call torch.ops.quantized.cat along the last axis."""
    import torch

    sx, zx, sy, zy, s, z, q_min, q_max = grids
    whole_type(x, q_min, q_max)
    both = [
        torch._make_per_tensor_quantized_tensor(torch.from_numpy(v.copy()), scale, zero)  # noqa: SLF001 - the only way to set codes
        for v, scale, zero in ((x, sx, zx), (y, sy, zy))
    ]
    q = torch.ops.quantized.cat(both, -1, float(s), int(z))
    return np.asarray(q.int_repr())


def torch_lstm_cell(*args: Float) -> tuple[Array, ...]:
    """Call torch.lstm_cell in float64."""
    import torch

    x, h, c, *weights = (torch.from_numpy(np.array(a)) for a in args)
    return tuple(np.asarray(y) for y in torch.lstm_cell(x, (h, c), *weights))


def torch_batch_norm(*args: Any) -> tuple[Array, ...]:
    """Call torch batch_norm in training."""
    import torch

    *arrays, momentum, eps = args
    x, gamma, beta, mean, var = (torch.from_numpy(np.array(a)) for a in arrays)
    y = torch.nn.functional.batch_norm(x, mean, var, gamma, beta, True, momentum, eps)
    return np.asarray(y), np.asarray(mean), np.asarray(var)


def torch_loss(logits: Float, labels: Int, label_smoothing: float) -> tuple[Array, ...]:
    """Call torch cross_entropy and its backward."""
    import torch

    leaf = torch.from_numpy(np.array(logits)).requires_grad_()
    loss = torch.nn.functional.cross_entropy(
        leaf, torch.from_numpy(np.array(labels)), label_smoothing=label_smoothing
    )
    loss.backward()  # type: ignore[no-untyped-call, unused-ignore]
    return np.asarray(loss.detach()), np.asarray(leaf.grad)


def torch_sgd(
    value: Float,
    grads: Float,
    lrs: Sequence[float],
    momentum: float,
    weight_decay: float,
    dampening: float,
    nesterov: bool,
) -> Array:
    """Call torch.optim.SGD step by step."""
    import torch

    leaf = torch.nn.Parameter(torch.from_numpy(np.array(value)))
    optimiser = torch.optim.SGD(
        [leaf],
        lr=1.0,
        momentum=momentum,
        weight_decay=weight_decay,
        dampening=dampening,
        nesterov=nesterov,
    )
    steps = []
    for grad, lr in zip(grads, lrs, strict=True):
        optimiser.param_groups[0]["lr"] = float(lr)
        leaf.grad = torch.from_numpy(np.array(grad))
        optimiser.step()
        steps.append(np.array(leaf.detach()))
    return np.stack(steps)
