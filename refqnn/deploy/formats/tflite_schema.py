"""The parts of TensorFlow Lite's schema that integer networks need, as tables.

Fields stand in the order of the published schema.fbs, whose slots they are. A kind is

    i1 u1 b1 i4 u4 f4 u8    a number, its bytes behind the letter; b1 is a bool
    [i4], str, Name, [Name]    numbers, text, a table, tables
    *    a table whose kind the number before it says (a union); "-" is not read

A number has the default 0, or the one behind "=".
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from refqnn._types import Array

IDENTIFIER = b"TFL3"
#: one table of a file a line: its name and its fields
SCHEMA = """
Model version:u4 operator_codes:[OperatorCode] subgraphs:[SubGraph] description:str
  buffers:[Buffer]
OperatorCode deprecated_builtin_code:i1 custom_code:str version:i4=1 builtin_code:i4
SubGraph tensors:[Tensor] inputs:[i4] outputs:[i4] operators:[Operator] name:str
Tensor shape:[i4] type:i1 buffer:u4 name:str quantization:QuantizationParameters
  is_variable:b1 sparsity:- shape_signature:[i4]
QuantizationParameters min:[f4] max:[f4] scale:[f4] zero_point:[i8] details_type:u1
  details:- quantized_dimension:i4
Operator opcode_index:u4 inputs:[i4] outputs:[i4] builtin_options_type:u1
  builtin_options:*
Buffer data:[u1] offset:u8 size:u8
Conv2DOptions padding:i1 stride_w:i4 stride_h:i4 fused_activation_function:i1
  dilation_w_factor:i4=1 dilation_h_factor:i4=1 quantized_bias_type:i1
DepthwiseConv2DOptions padding:i1 stride_w:i4 stride_h:i4 depth_multiplier:i4
  fused_activation_function:i1 dilation_w_factor:i4=1 dilation_h_factor:i4=1
Pool2DOptions padding:i1 stride_w:i4 stride_h:i4 filter_width:i4 filter_height:i4
  fused_activation_function:i1
FullyConnectedOptions fused_activation_function:i1 weights_format:i1 keep_num_dims:b1
  asymmetric_quantize_inputs:b1 quantized_bias_type:i1
SoftmaxOptions beta:f4
ConcatenationOptions axis:i4 fused_activation_function:i1
AddOptions fused_activation_function:i1 pot_scale_int16:b1=1
SubOptions fused_activation_function:i1 pot_scale_int16:b1=1
MulOptions fused_activation_function:i1
ResizeBilinearOptions new_height:- new_width:- align_corners:b1 half_pixel_centers:b1
ResizeNearestNeighborOptions align_corners:b1 half_pixel_centers:b1
ReshapeOptions new_shape:[i4]
SqueezeOptions squeeze_dims:[i4]
ReducerOptions keep_dims:b1
TransposeConvOptions padding:i1 stride_w:i4 stride_h:i4 fused_activation_function:i1
  quantized_bias_type:i1
BatchMatMulOptions adj_x:b1 adj_y:b1 asymmetric_quantize_inputs:b1
StridedSliceOptions begin_mask:i4 end_mask:i4 ellipsis_mask:i4 new_axis_mask:i4
  shrink_axis_mask:i4 offset:b1
SplitOptions num_splits:i4
LeakyReluOptions alpha:f4
ShapeOptions out_type:i1
PackOptions values_count:i4 axis:i4
PadOptions
PadV2Options
TileOptions
TransposeOptions
ExpandDimsOptions
SliceOptions
QuantizeOptions
DequantizeOptions
HardSwishOptions
"""
#: operator, its code, its options and their place in the union of all options
OPERATORS = """
ADD 0 AddOptions 11
AVERAGE_POOL_2D 1 Pool2DOptions 5
CONCATENATION 2 ConcatenationOptions 10
CONV_2D 3 Conv2DOptions 1
DEPTHWISE_CONV_2D 4 DepthwiseConv2DOptions 2
DEQUANTIZE 6 DequantizeOptions 38
FULLY_CONNECTED 9 FullyConnectedOptions 8
LOGISTIC 14 - 0
MAX_POOL_2D 17 Pool2DOptions 5
MUL 18 MulOptions 21
RELU 19 - 0
RELU_N1_TO_1 20 - 0
RELU6 21 - 0
RESHAPE 22 ReshapeOptions 17
RESIZE_BILINEAR 23 ResizeBilinearOptions 15
SOFTMAX 25 SoftmaxOptions 9
TANH 28 - 0
PAD 34 PadOptions 22
TRANSPOSE 39 TransposeOptions 26
MEAN 40 ReducerOptions 27
SUB 41 SubOptions 28
SQUEEZE 43 SqueezeOptions 30
STRIDED_SLICE 45 StridedSliceOptions 32
SPLIT 49 SplitOptions 35
PADV2 60 PadV2Options 43
SLICE 65 SliceOptions 48
TRANSPOSE_CONV 67 TransposeConvOptions 49
TILE 69 TileOptions 51
EXPAND_DIMS 70 ExpandDimsOptions 52
SHAPE 77 ShapeOptions 55
PACK 83 PackOptions 59
RESIZE_NEAREST_NEIGHBOR 97 ResizeNearestNeighborOptions 74
LEAKY_RELU 98 LeakyReluOptions 75
QUANTIZE 114 QuantizeOptions 89
HARD_SWISH 117 HardSwishOptions 91
BATCH_MATMUL 126 BatchMatMulOptions 101
"""
#: types of a tensor by their numbers; those of dtypes that NumPy has are their names
TYPES = {
    0: "float32",
    1: "float16",
    2: "int32",
    3: "uint8",
    4: "int64",
    6: "bool",
    7: "int16",
    9: "int8",
    10: "float64",
    17: "int4",
}


class Field(NamedTuple):
    """One field of a table: the slot of its offset, its kind and its default."""

    slot: int
    kind: str
    default: float


class Tensor(NamedTuple):
    """A tensor of a model: its shape, type and grid; ``data`` where it is constant."""

    shape: tuple[int, ...]
    dtype: str
    #: one for all, one for each entry of ``axis``, or none for real numbers
    scale: Any = ()
    zero_point: Any = 0
    data: Array | None = None
    name: str = ""
    axis: int = 0


class Operator(NamedTuple):
    """An operator, its tensors by their numbers (-1 for one that is left out)."""

    op: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    #: fields of the operator's table of options, defaults may be left out
    options: Mapping[str, Any] = {}
    version: int = 1


class Model(NamedTuple):
    """The first graph of a file."""

    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def read_fields(words: list[str]) -> dict[str, Field]:
    """Return the fields of one table by name.

    >>> read_fields(["padding:i1", "stride_w:i4=1"])["stride_w"]
    Field(slot=1, kind='i4', default=1)
    """
    pairs = [word.split(":") for word in words]
    split = [(name, *kind.partition("=")) for name, kind in pairs]
    return {
        name: Field(slot, kind, int(default or 0))
        for slot, (name, kind, _, default) in enumerate(split)
    }


#: the fields of every table by its name
FIELDS = {
    line.split()[0]: read_fields(line.split()[1:])
    for line in SCHEMA.replace("\n  ", " ").strip().splitlines()
}
ROWS = [line.split() for line in OPERATORS.strip().splitlines()]
#: operator -> its code; code -> operator
CODES = {op: int(code) for op, code, _, _ in ROWS}
NAMES = {code: op for op, code in CODES.items()}
#: operator -> its table of options and the number of that, where it has one
OPTIONS = {op: (kind, int(number)) for op, _, kind, number in ROWS if kind != "-"}
#: what the numbers of ActivationFunctionType clamp to, in real numbers
ACTIVATIONS: Mapping[int, tuple[float, float]] = {
    0: (-np.inf, np.inf),
    1: (0.0, np.inf),
    2: (-1.0, 1.0),
    3: (0.0, 6.0),
}


def dtype_of(kind: str) -> np.dtype[Any]:
    """Return the little-endian dtype of a kind of number."""
    return np.dtype("?" if kind == "b1" else f"<{kind}")
