"""Modules under the names they had in refqnn 0.1: each answers there, with a warning.

>>> import warnings
>>> with warnings.catch_warnings(record=True) as said:
...     warnings.simplefilter("always")
...     from refqnn.conformance.families import FAMILIES
>>> print(said[-1].message)
refqnn.conformance.families is now refqnn.conformance.choices.families
"""

import importlib
import sys
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any

#: room -> {where modules are now: their names, old and new where both differ}
MOVED = {
    "conformance": {
        "choices": "axes families semantics profiles reveal strategies tables:variants "
        "axes.axis axes.arithmetic axes.training:axes.learning "
        "axes.tensors:axes.arithmetic axes.published:axes.learning "
        "families.affine families.convolution families.fake_quantize families.gating "
        "families.gradients families.optimiser families.pooling families.published "
        "families.requantize families.training_step families.family:family "
        "families.training:families.float_layers",
        "judge": "calls compare diagnose diagnosis:diagnose identify identify_files "
        "checks check_functions:inspection reproduce structure:patterns",
        "carry": "child adapters runtimes runtimes_onnx runtimes_torch",
        "reach": "packs pack_files pack_verify goldens stream exports "
        "goldens.golden goldens.suite goldens.onnx_directories "
        "goldens.tosa_descriptors goldens.c_headers:goldens.c_source",
        "traces": "trace:record trace_bisect:bisection trace_vectors:vectors",
    },
    "conformance.choices": {
        "": "families.family:family families.adaptive:families.optimiser "
        "families.binary_step:families.training_step "
        "families.convolution_calls:families.convolution "
        "families.published_row:families.published_rows "
        "axes.tensors:axes.arithmetic axes.published:axes.learning"
    },
    "deploy": {
        "formats": "onnx_exact onnx_export onnx_graph onnx_import "
        "onnx_layer:onnx_weights onnx_layers:onnx_graph onnx_qdq onnx_read onnx_run "
        "qonnx_export store"
    },
    "networks": {
        "": "alexnet:alexnets build:from_config imagenet_resnet:imagenet_resnets "
        "mobilenetv2:mobilenets named:by_name resnet:resnets "
        "separable:separable_networks vgg:vggs"
    },
    "nn": {"": "state_dict:state_dicts"},
    "papers": {"dfs": "tradeoff:systems tradeoff_systems:systems"},
    "papers.dfs": {"": "training:two_steps"},
    "papers.haq": {"": "search:searches"},
    "papers.quantnas": {"": "training:sandwich runs:study supernet:elastic_network"},
    "papers.pareto": {"": "training:single_training"},
    "ops": {"": "linear:fully_connected softmax:exponential"},
    "integer": {"": "linear:fully_connected requantize:rescale"},
    "quantizers": {
        "": "affine:affine_grid balanced:balanced_quantization binary:binary_weights "
        "fixed_point:fixed_point_weights lq:lq_nets lsq:learned_step_size "
        "min_max:min_max_grid pact:parameterized_clipping sawb:statistics_aware "
        "syq:symmetric_quantization ternary:ternary_weights ttq:trained_ternary "
        "twn:ternary_weight_networks"
    },
    "fast": {
        "": "quantizers.affine:quantizers.affine_grid "
        "quantizers.binary:quantizers.binary_weights "
        "quantizers.fixed_point:quantizers.fixed_point_weights "
        "quantizers.lsq:quantizers.learned_step_size "
        "quantizers.ternary:quantizers.ternary_weights "
        "integer.linear:integer.fully_connected integer.requantize:integer.rescale"
    },
    "": {"cli": "demo:demonstration", "studies": "sweep"},
}


class Moved(ModuleType):
    """A module under its former name: the names in it are those of the module now."""

    def __init__(self, name: str, now: str) -> None:
        super().__init__(name)
        self.now = now

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        warnings.warn(
            f"{self.__name__} is now {self.now}", DeprecationWarning, stacklevel=2
        )
        return getattr(importlib.import_module(self.now), name)


def other_half(module: str, now: str) -> Callable[[str], Any]:
    """Make the ``__getattr__`` of a module whose other half is now a file of its own.

    >>> import warnings
    >>> with warnings.catch_warnings(record=True) as said:
    ...     warnings.simplefilter("always")
    ...     from refqnn.quantizers.haq import kmeans
    >>> print(said[-1].message)
    refqnn.quantizers.haq.kmeans is now refqnn.quantizers.haq_kmeans.kmeans
    """

    def answer(name: str) -> Any:
        value = (
            None
            if name.startswith("_")
            else vars(importlib.import_module(now)).get(name)
        )
        if value is None:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        warnings.warn(
            f"{module}.{name} is now {now}.{name}", DeprecationWarning, stacklevel=2
        )
        return value

    return answer


def join_names(*parts: str) -> str:
    """Join the names of packages that are not empty.

    >>> join_names("refqnn", "", "sweep")
    'refqnn.sweep'
    """
    return ".".join(part for part in parts if part)


def register() -> None:
    """Make every former name importable."""
    for room, places in MOVED.items():
        for place, modules in places.items():
            for module in modules.split():
                old, _, new = module.partition(":")
                name = join_names("refqnn", room, old)
                now = join_names("refqnn", room, place, new or old)
                sys.modules.setdefault(name, Moved(name, now))
