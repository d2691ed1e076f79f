"""OpenVINO, Brevitas, JAX, ExecuTorch and TVM as functions of arrays."""

from functools import cache
from typing import Any

import numpy as np

from refqnn._types import Array, Float, Int
from refqnn.conformance.carry.runtimes_onnx import model, whole_type
from refqnn.conformance.choices.kinds import Inputs


def openvino(one: Any, feeds: dict[str, Array]) -> list[Array]:
    """Run a node of ONNX in OpenVINO on the CPU, in float32, one thread."""
    import openvino as ov

    core = ov.Core()
    settings = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    run = core.compile_model(core.read_model(model(one, feeds)), "CPU", settings)
    results = run({each.any_name: feeds[each.any_name] for each in run.inputs})
    return [np.array(value) for value in results.values()]


def brevitas_quantizer(q_min: int, q_max: int) -> tuple[Any, int]:
    """Return IntQuant, which rounds to the nearest, and its number of bits."""
    import torch
    from brevitas.core.function_wrapper import RoundSte, TensorClamp
    from brevitas.core.quant import IntQuant

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
    import torch

    quantizer, bits = brevitas_quantizer(q_min, q_max)
    grid = (torch.tensor(np.array(v, np.float32)) for v in (scale, zero_point, bits))
    return np.asarray(quantizer.to_int(*grid, torch.tensor(np.array(x))))


def brevitas_fake_quantize(
    x: Float, scale: Any, zero_point: Any, q_min: int, q_max: int, dy: Float
) -> tuple[Array, ...]:
    """Call IntQuant and its backward pass; the scale is learned."""
    import torch

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
    """Compute clip(round(x / scale) + zero_point) to int8 with jax.jit."""
    import jax
    import jax.numpy as jnp

    whole_type(np.empty(0, np.int8), q_min, q_max)

    def quantize(x: Any, s: Any, z: Any) -> Any:
        return jnp.clip(jnp.round(x / s) + z, q_min, q_max).astype(jnp.int8)

    return np.asarray(jax.jit(quantize)(x, np.float32(scale), np.int32(zero_point)))


@cache
def executorch_method(operator: str, shape: tuple[int, ...]) -> tuple[Any, ...]:
    """Lower one operator of PT2E to the portable kernels, its grid an argument.

    The method, then what it reads from and does not keep alive itself.
    """
    import executorch.kernels.quantized  # noqa: F401 - registers the kernels
    import torch
    from executorch.exir import EdgeCompileConfig, to_edge
    from executorch.runtime import Runtime

    called = getattr(torch.ops.quantized_decomposed, operator).tensor

    def forward(_self: Any, x: Any, s: Any, z: Any) -> Any:
        return called(x, s, z, -128, 127, torch.int8)

    module: Any = type("Module", (torch.nn.Module,), {"forward": forward})()
    dtype = torch.float32 if operator.startswith("quantize") else torch.int8
    grid = torch.ones((), dtype=torch.float64), torch.ones((), dtype=torch.int64)
    exported = torch.export.export(module, (torch.zeros(shape, dtype=dtype), *grid))
    unchecked = EdgeCompileConfig(_check_ir_validity=False)
    program = to_edge(exported, compile_config=unchecked).to_executorch()
    content = program.buffer
    loaded = Runtime.get().load_program(content)
    return loaded.load_method("forward"), loaded, content


def executorch_call(operator: str, x: Array, scale: Any, zero_point: Any) -> Array:
    """Run one operator on one grid."""
    import torch

    step = torch.tensor(float(scale), dtype=torch.float64)
    given = [torch.tensor(np.array(x)), step, torch.tensor(int(zero_point))]
    method, *_ = executorch_method(operator, x.shape)
    return np.array(method.execute(given)[0])


def executorch_quantize(
    x: Float, scale: Any, zero_point: Any, q_min: int, q_max: int
) -> Array:
    """Call quantized_decomposed.quantize_per_tensor to int8."""
    whole_type(np.empty(0, np.int8), q_min, q_max)
    return executorch_call("quantize_per_tensor", x, scale, zero_point)


def executorch_dequantize(q: Int, scale: Any, zero_point: Any) -> Array:
    """Call quantized_decomposed.dequantize_per_tensor of int8."""
    whole_type(q, -128, 127)
    return executorch_call("dequantize_per_tensor", q, scale, zero_point)


@cache
def tvm_machine(operator: str, shape: tuple[int, ...]) -> Any:
    """Compile one operator of Relax for the CPU, its grid an argument."""
    import tvm
    from tvm import relax

    types = "float32" if operator == "quantize" else "int8", "float32", "int8"
    given = [
        relax.Var(name, relax.TensorType(sizes, dtype))
        for name, sizes, dtype in zip("xsz", (shape, (), ()), types, strict=True)
    ]
    wanted = "int8" if operator == "quantize" else "float32"
    builder = relax.BlockBuilder()
    with builder.function("main", given):
        with builder.dataflow():
            y = getattr(relax.op, operator)(*given, axis=-1, out_dtype=wanted)
            y = builder.emit_output(builder.emit(y))
        builder.emit_func_output(y)
    compiled = tvm.compile(builder.get(), target="llvm")
    return relax.VirtualMachine(compiled, tvm.cpu())["main"]


def tvm_call(operator: str, *arrays: Any) -> Array:
    """Run one operator on one grid."""
    import tvm

    machine = tvm_machine(operator, np.shape(arrays[0]))
    given = [tvm.runtime.tensor(np.array(v, order="C")) for v in arrays]
    return np.asarray(machine(*given).numpy())


def tvm_quantize(
    x: Float, scale: Any, zero_point: Any, q_min: int, q_max: int
) -> Array:
    """Call relax.op.quantize to int8."""
    whole_type(np.empty(0, np.int8), q_min, q_max)
    return tvm_call("quantize", x, np.asarray(scale, np.float32), np.int8(zero_point))


def tvm_dequantize(q: Int, scale: Any, zero_point: Any) -> Array:
    """Call relax.op.dequantize of int8."""
    whole_type(q, -128, 127)
    return tvm_call("dequantize", q, np.asarray(scale, np.float32), np.int8(zero_point))


def fits_float32(call: Inputs) -> bool:
    """Say whether no sum of products needs more than the 24 bits of float32."""
    x = call["x"].astype(np.int64) - call["x_zero_point"]
    if "w" in call:
        w = call["w"].reshape(len(call["w"]), -1).astype(np.int64)
        w = w - np.reshape(call["w_zero_point"], (-1, 1))
    else:
        w = call["y"].swapaxes(-1, -2).astype(np.int64) - call["y_zero_point"]
    return bool(np.abs(x).max() * np.abs(w).sum(axis=-1).max() < 2**24)
