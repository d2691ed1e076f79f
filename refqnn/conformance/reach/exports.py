"""A pack in the formats of others: C header, hex words, csv, safetensors."""

from refqnn.conformance.reach.packs import Pack
from refqnn.conformance.reach.text import c_number, c_type, hex_words


def export(pack: Pack, kind: str) -> bytes:
    """Return a pack as ``c-header``, ``hex``, ``csv`` or ``safetensors``."""
    if kind not in FORMATS:
        raise ValueError(f"format must be one of {list(FORMATS)}, got {kind!r}")
    made: bytes = FORMATS[kind](pack)
    return made


def c_header(pack: Pack) -> bytes:
    """Write one ``static const`` array an entry, its length beside it."""
    guard = f"REFQNN_{pack.family.upper()}_H"
    lines = [f"#ifndef {guard}", f"#define {guard}", "#include <stdint.h>"]
    lines.append("#include <math.h>")
    for name, array in pack.arrays().items():
        symbol = f"case_{name.replace('/', '_')}"
        values = ", ".join(c_number(v) for v in array.ravel().tolist())
        lines.append(f"enum {{ {symbol}_size = {array.size} }};")
        lines.append(f"static const {c_type(array)} {symbol}[] = {{{values}}};")
    return ("\n".join([*lines, "#endif"]) + "\n").encode()


def hexadecimal(pack: Pack) -> bytes:
    """Write a comment with the name, then one word a line, high digits first."""
    lines = []
    for name, array in pack.arrays().items():
        lines.append(f"// {name} {array.dtype.name} {list(array.shape)}")
        lines += hex_words(array)
    return ("\n".join(lines) + "\n").encode()


def csv(pack: Pack) -> bytes:
    """Write one line a number: array, index, value."""
    lines = ["array,index,value"]
    for name, array in pack.arrays().items():
        lines += [f"{name},{i},{v!r}" for i, v in enumerate(array.ravel().tolist())]
    return ("\n".join(lines) + "\n").encode()


def safetensors(pack: Pack) -> bytes:
    """Return the arrays in the safetensors format; raise without its package."""
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
