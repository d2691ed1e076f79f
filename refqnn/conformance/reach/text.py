"""Integers and floats as text that C compilers and Verilog's $readmemh read exactly."""

import math
import re

from refqnn._types import Array

C_TYPES = {
    **{f"i{n}": f"int{8 * n}_t" for n in (1, 2, 4, 8)},
    **{f"u{n}": f"uint{8 * n}_t" for n in (1, 2, 4, 8)},
    "f4": "float",
    "f8": "double",
    "b1": "uint8_t",
}


def c_type(array: Array) -> str:
    """Return the type of <stdint.h>, float or double, of the elements of an array.

    >>> import numpy as np
    >>> c_type(np.zeros(1, np.int8))
    'int8_t'
    """
    return C_TYPES[array.dtype.kind + str(array.dtype.itemsize)]


def c_number(value: float) -> str:
    """Return a number in C; floats in hexadecimal, which is exact.

    The smallest integer of a width has no literal of its own.

    >>> c_number(3), c_number(0.5), c_number(float("inf"))
    ('3', '0x1.0000000000000p-1', 'INFINITY')
    >>> c_number(-5), c_number(-(2**31)), c_number(2**32)
    ('-5', '(-2147483647 - 1)', '4294967296')
    """
    if isinstance(value, int):
        for bits, suffix in ((32, ""), (64, "LL")):
            if value == -(1 << (bits - 1)):
                return f"({value + 1}{suffix} - 1)"
        return str(int(value))
    if math.isnan(value):
        return "NAN"
    if math.isinf(value):
        return "INFINITY" if value > 0 else "-INFINITY"
    return value.hex()


def hex_words(array: Array) -> list[str]:
    """Return the bits of every element, row-major, most significant digit first.

    >>> import numpy as np
    >>> hex_words(np.array([1, -1], np.int8))
    ['01', 'ff']
    """
    n = array.dtype.itemsize
    words = array.astype(array.dtype.newbyteorder(">")).tobytes()
    return [words[i : i + n].hex() for i in range(0, len(words), n)]


def identifier(name: str) -> str:
    """Return a name as one of C and of files: letters, digits, underscores.

    >>> identifier("layers.stem.w"), identifier("0x")
    ('layers_stem_w', '_0x')
    """
    plain = re.sub(r"\W", "_", name, flags=re.ASCII)
    return f"_{plain}" if plain[:1].isdigit() or not plain else plain
