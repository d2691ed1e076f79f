"""Ways to damage a file: its bytes, the arrays of an archive, the values of JSON."""

import gzip
import json
import zipfile

import numpy as np

from refqnn import files
from refqnn.deploy.formats.store import digest

#: what a value of JSON becomes
VALUES = (
    None,
    True,
    False,
    0,
    -1,
    1,
    3,
    2**31,
    2**63,
    10**400,
    -(2**70),
    0.5,
    -0.0,
    float("nan"),
    float("inf"),
    1e300,
    "",
    "x",
    "layers.stem",
    "\x00\x1b[31m",
    [],
    {},
    [1],
    [[1, [2]], {"a": None}],
    {"array": "nowhere"},
    {"kind": "Sum", "fields": {}},
    {"x": {"y": [1, 2, 3]}},
)


def bytes_of(content, rng):
    """Truncate, flip, overwrite, repeat, leave out or swap bytes."""
    data = bytearray(content)
    size = max(len(data), 1)
    begin, end = sorted(rng.integers(0, size + 1, 2))
    kind = rng.integers(0, 8)
    if kind == 0:
        return bytes(data[:begin])
    if kind == 1:
        return bytes(data[:begin] + data[end:])
    if kind == 2:
        return bytes(data[:end] + data[begin:])
    if kind == 3:
        data[begin:end] = bytes(end - begin)
    elif kind == 4:
        data[begin:begin] = rng.bytes(int(rng.integers(1, 40)))
    elif kind == 5:
        data[begin : begin + 4] = rng.choice([b"\xff" * 4, b"\0" * 4, b"PK\3\4"])
    else:
        for i in rng.integers(0, size, rng.integers(1, 6)):
            data[i : i + 1] = bytes([int(rng.integers(0, 256))])
    return bytes(data)


def places(value, place=()):
    """Yield the path of every value inside a value of JSON, itself included."""
    yield place
    inner = value.items() if isinstance(value, dict) else ()
    inner = enumerate(value) if isinstance(value, list) else inner
    for key, each in inner:
        yield from places(each, (*place, key))


def json_of(text, rng):
    """Replace, remove, add, repeat or nest one value, or damage the text."""
    if rng.random() < 0.2:
        return bytes_of(text.encode(), rng).decode("latin-1")
    value = json.loads(text)
    every = list(places(value))
    place = every[int(rng.integers(0, len(every)))]
    new = VALUES[int(rng.integers(0, len(VALUES)))]
    if rng.random() < 0.05:
        new = "DEEP"
    if not place:
        value = new
    else:
        outer = value
        for key in place[:-1]:
            outer = outer[key]
        kind, key = rng.random(), place[-1]
        if kind < 0.7:
            outer[key] = new
        elif kind < 0.85:
            del outer[key]
        elif isinstance(outer, dict):
            outer["another"] = new
        else:
            outer.insert(key, outer[key])
    deep = ("[" * 100_000) if rng.random() < 0.5 else "[" * 80 + "]" * 80
    return json.dumps(value).replace('"DEEP"', deep)


def array_of(array, rng):
    """Replace an array by one of another dtype, shape or with other values."""
    if array.dtype.kind == "U":
        return (np.ones(3), array[None], np.array("x"))[int(rng.integers(0, 3))]
    kinds = (
        lambda: array.astype(rng.choice(["f8", "i8", "u1", "f2", "?", "i4"])),
        lambda: array.astype("U8"),
        lambda: array.astype("c16"),
        lambda: array.astype([("a", "i4"), ("b", "f4")]),
        lambda: array[..., :-1] if array.ndim else array[None],
        lambda: array.reshape(-1),
        lambda: array[None],
        lambda: np.zeros((0, *array.shape), array.dtype),
        lambda: np.zeros((), array.dtype),
        lambda: np.concatenate([array.reshape(-1)] * 2),
        lambda: extreme(array, rng),
        lambda: extreme(array, rng),
        lambda: array.byteswap().view(array.dtype.newbyteorder()),
    )  # fmt: skip
    return kinds[int(rng.integers(0, len(kinds)))]()


def extreme(array, rng):
    """Set some values to the ends of the dtype, or to what is no number."""
    new = np.array(array)
    if new.dtype.kind == "f":
        values = [np.nan, np.inf, -np.inf, 0, -1, np.finfo(new.dtype).max, 1e-40]
    elif new.dtype.kind in "iu":
        info = np.iinfo(new.dtype)
        values = [info.min, info.max, 0, 1]
    else:
        return new
    if new.size:
        chosen = rng.random(new.shape) < rng.choice([0.01, 0.5, 1.0])
        new[chosen] = rng.choice(np.array(values, new.dtype))
    return new


def archive_of(content, rng):
    """Damage one member of an npz file, its header most often."""
    if rng.random() < 0.3:
        return bytes_of(content, rng)
    arrays = files.parse_npz(content, "given")
    names = list(arrays)
    header = arrays.get("json")
    if header is not None and rng.random() < 0.6:
        arrays["json"] = np.array(header_of(str(header), arrays, rng))
        return packed(arrays, rng)
    name = names[int(rng.integers(0, len(names)))]
    kind = rng.random()
    if kind < 0.1:
        del arrays[name]
    elif kind < 0.2:
        arrays[rng.choice(["another", "../x", "param/another"])] = arrays[name]
    elif kind < 0.3:
        return packed(arrays, rng, spoilt=name)
    else:
        arrays[name] = array_of(arrays[name], rng)
    if header is not None and "sha256" in str(header)[:200]:
        resign(arrays)
    return packed(arrays, rng)


def header_of(text, arrays, rng):
    """Damage the header; of an integer network its steps, with a right digest."""
    header = json.loads(text)
    if isinstance(header, dict) and "sha256" in header and rng.random() < 0.8:
        header["steps"] = json_of(header["steps"], rng)
        arrays = {k: v for k, v in arrays.items() if k != "json"}
        header["sha256"] = digest(header["steps"], arrays)
        return json.dumps(header)
    return json_of(text, rng)


def resign(arrays):
    """Write the digest of the arrays, as a program would that made the file wrongly."""
    if "json" not in arrays:
        return
    text = arrays["json"]
    try:
        header = json.loads(str(text))
        rest = {k: v for k, v in arrays.items() if k != "json"}
        header["sha256"] = digest(header["steps"], rest)
    except (ValueError, KeyError):
        return
    arrays["json"] = np.array(json.dumps(header))


def packed(arrays, rng, spoilt=None):
    """Write an archive, deflated or not, one member no array where asked."""
    import io

    content = io.BytesIO()
    kind = rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
    with zipfile.ZipFile(content, "w", int(kind)) as archive:
        for name, array in arrays.items():
            inner = io.BytesIO()
            np.save(inner, array)
            body = inner.getvalue()
            if name == spoilt:
                body = bytes_of(body[:200], rng) + body[200:]
            archive.writestr(f"{name}.npy" if rng.random() < 0.99 else name, body)
    return content.getvalue()


def lines_of(content, rng):
    """Damage one line of a file of JSON lines, or the bytes of the file."""
    if rng.random() < 0.4:
        return bytes_of(content, rng)
    lines = content.decode().splitlines()
    i = int(rng.integers(0, len(lines)))
    lines[i] = json_of(lines[i], rng)
    return ("\n".join(lines) + "\n").encode()


def text_of(content, rng):
    """Damage a file of JSON."""
    return json_of(content.decode(), rng).encode("utf-8", "surrogatepass")


def safetensors_of(content, rng):
    """Damage the header of a safetensors file, its length right; or any bytes."""
    if rng.random() < 0.4:
        return bytes_of(content, rng)
    size = int.from_bytes(content[:8], "little")
    header = json_of(content[8 : 8 + size].decode(), rng).encode()
    return len(header).to_bytes(8, "little") + header + content[8 + size :]


def gzip_of(content, rng):
    """Damage what is inside, or the compressed bytes."""
    if rng.random() < 0.5:
        return bytes_of(content, rng)
    return gzip.compress(bytes_of(gzip.decompress(content), rng), mtime=0)
