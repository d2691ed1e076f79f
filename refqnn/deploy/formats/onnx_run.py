"""Run an ONNX model in onnxruntime and show every tensor on the way."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from refqnn._types import Array
from refqnn.deploy.formats.onnx_graph import package

#: makes products of u8 and s8 exact on processors without VNNI
PRECISION = {"session.x64quantprecision": "1"}


def onnx_trace(
    made: Any,
    x: Array,
    names: Iterable[str],
    *,
    entries: Mapping[str, str] | None = None,
    optimize: bool = True,
) -> dict[str, Array]:
    """Return tensors of a model by name, in the order of ``names``, computed at once.

    x: the input of the model; names that the model does not have are left out

    ``entries`` are entries of the session's configuration. Tensors that are shown are
    computed: a runtime cannot fuse them away, so ask for those needed. Raises
    ValueError where onnxruntime is not installed.
    """
    ort = package("onnxruntime")
    shown = package("onnx").ModelProto()
    shown.CopyFrom(made)
    known = {v.name for v in shown.graph.output}
    outputs = {output for node in shown.graph.node for output in node.output}
    source = shown.graph.input[0].name
    wanted = [name for name in names if name in outputs]
    empty = package("onnx.helper").make_empty_tensor_value_info
    shown.graph.output.extend(empty(name) for name in wanted if name not in known)
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    for key, value in (entries or {}).items():
        options.add_session_config_entry(key, value)
    if not optimize:
        off = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.graph_optimization_level = off
    session = ort.InferenceSession(
        shown.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    # without a name, a session returns every output
    tensors = session.run(wanted, {source: np.ascontiguousarray(x)}) if wanted else []
    return ({source: x} if source in set(names) else {}) | dict(
        zip(wanted, tensors, strict=True)
    )
