"""A pack in the formats of others: C header, hex words, csv, safetensors."""

import numpy as np

from refqnn.conformance.reach.packs import Pack


def export(pack: Pack, kind: str) -> bytes:
    """Return a pack as ``c-header``, ``hex``, ``csv`` or ``safetensors``."""
    if kind not in FORMATS:
        raise ValueError(f"format must be one of {list(FORMATS)}, got {kind!r}")
    made: bytes = FORMATS[kind](pack)
    return made


def c_header(pack: Pack) -> bytes:
    """One ``static const`` array an entry, its length beside it."""
    guard = f"REFQNN_{pack.family.upper()}_H"
    lines = [f"#ifndef {guard}", f"#define {guard}", "#include <stdint.h>"]
    lines.append("#include <math.h>")
    for name, array in pack.arrays().items():
        symbol = f"case_{name.replace('/', '_')}"
        values = ", ".join(c_number(v) for v in array.ravel().tolist())
        kind = C_NAMES[array.dtype.kind + str(array.dtype.itemsize)]
        lines.append(f"enum {{ {symbol}_size = {array.size} }};")
        lines.append(f"static const {kind} {symbol}[] = {{{values}}};")
    return ("\n".join([*lines, "#endif"]) + "\n").encode()


C_NAMES = {
    **{f"i{n}": f"int{8 * n}_t" for n in (1, 2, 4, 8)},
    **{f"u{n}": f"uint{8 * n}_t" for n in (1, 2, 4, 8)},
    "f4": "float",
    "f8": "double",
    "b1": "uint8_t",
}


def c_number(value: float) -> str:
    """Return a number in C; floats in hexadecimal, which is exact.

    >>> c_number(3), c_number(0.5), c_number(float("inf"))
    ('3', '0x1.0000000000000p-1', 'INFINITY')
    """
    if isinstance(value, bool | int):
        return str(int(value))
    if np.isnan(value):
        return "NAN"
    if np.isinf(value):
        return "INFINITY" if value > 0 else "-INFINITY"
    return value.hex()


def hexadecimal(pack: Pack) -> bytes:
    """A comment with the name, then one word a line, most significant digit first."""
    lines = []
    for name, array in pack.arrays().items():
        lines.append(f"// {name} {array.dtype.name} {list(array.shape)}")
        words = array.astype(array.dtype.newbyteorder(">")).tobytes()
        n = array.dtype.itemsize
        lines += [words[i : i + n].hex() for i in range(0, len(words), n)]
    return ("\n".join(lines) + "\n").encode()


def csv(pack: Pack) -> bytes:
    """One line a number: array, index, value."""
    lines = ["array,index,value"]
    for name, array in pack.arrays().items():
        lines += [f"{name},{i},{v!r}" for i, v in enumerate(array.ravel().tolist())]
    return ("\n".join(lines) + "\n").encode()


def safetensors(pack: Pack) -> bytes:
    """Return the arrays in the format of the safetensors package, if it is there."""
    try:
        from safetensors.numpy import save  # noqa: PLC0415
    except ImportError as error:
        raise ValueError("format safetensors needs: pip install safetensors") from error
    return bytes(save(pack.arrays()))


FORMATS = {
    "c-header": c_header,
    "hex": hexadecimal,
    "csv": csv,
    "safetensors": safetensors,
}
