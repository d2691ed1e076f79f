"""OpenVINO, Brevitas and JAX as functions of arrays."""

from typing import Any

import numpy as np

from refqnn._types import Array, Float
from refqnn.conformance.carry.runtimes_onnx import model, whole_type


def openvino(one: Any, feeds: dict[str, Array]) -> list[Array]:
    """Run a node of ONNX in OpenVINO on the CPU, in float32, one thread."""
    import openvino as ov  # noqa: PLC0415

    core = ov.Core()
    settings = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    made = core.compile_model(core.read_model(model(one, feeds)), "CPU", settings)
    results = made({each.any_name: feeds[each.any_name] for each in made.inputs})
    return [np.array(value) for value in results.values()]


def brevitas_quantizer(q_min: int, q_max: int) -> tuple[Any, int]:
    """Return IntQuant, which rounds to the nearest, and its number of bits."""
    import torch  # noqa: PLC0415
    from brevitas.core.function_wrapper import RoundSte, TensorClamp  # noqa: PLC0415
    from brevitas.core.quant import IntQuant  # noqa: PLC0415

    bits, signed = int(q_max - q_min).bit_length(), q_min < 0
    if (q_min, q_max) != (-int(signed) << (bits - 1), (1 << (bits - signed)) - 1):
        raise ValueError(f"IntQuant has no range {q_min} .. {q_max}")
    quantizer = IntQuant(
        narrow_range=False,
        signed=signed,
        input_view_impl=torch.nn.Identity(),
        float_to_int_impl=RoundSte(),
        tensor_clamp_impl=TensorClamp(),
    )
    return quantizer, bits


def brevitas_quantize(
    x: Float, scale: Any, zero_point: Any, q_min: int, q_max: int
) -> Array:
    """Call IntQuant.to_int."""
    import torch  # noqa: PLC0415

    quantizer, bits = brevitas_quantizer(q_min, q_max)
    grid = (torch.tensor(np.array(v, np.float32)) for v in (scale, zero_point, bits))
    return np.asarray(quantizer.to_int(*grid, torch.tensor(np.array(x))))


def brevitas_fake_quantize(
    x: Float, scale: Any, zero_point: Any, q_min: int, q_max: int, dy: Float
) -> tuple[Array, ...]:
    """Call IntQuant and its backward pass; the scale is learned."""
    import torch  # noqa: PLC0415

    quantizer, bits = brevitas_quantizer(q_min, q_max)
    leaf = torch.tensor(np.array(x), requires_grad=True)
    step = torch.tensor(np.array(scale, np.float32), requires_grad=True)
    zero, width = (torch.tensor(float(v)) for v in (zero_point, bits))
    y = quantizer(step, zero, width, leaf)
    torch.autograd.backward(y, torch.tensor(np.array(dy)))  # type: ignore[no-untyped-call, unused-ignore]
    return np.asarray(y.detach()), np.asarray(leaf.grad), np.asarray(step.grad)


def jax_quantize(
    x: Float, scale: Any, zero_point: Any, q_min: int, q_max: int
) -> Array:
    """Compile clip(round(x / scale) + zero_point) to int8 with jax.jit."""
    import jax  # noqa: PLC0415
    import jax.numpy as jnp  # noqa: PLC0415

    whole_type(np.empty(0, np.int8), q_min, q_max)

    def quantize(x: Any, s: Any, z: Any) -> Any:
        return jnp.clip(jnp.round(x / s) + z, q_min, q_max).astype(jnp.int8)

    return np.asarray(jax.jit(quantize)(x, np.float32(scale), np.int32(zero_point)))
