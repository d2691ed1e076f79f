"""Read the inputs of commands: networks, images, outputs of other implementations."""

import sys
from pathlib import Path

from refqnn import data
from refqnn._types import Array
from refqnn.deploy import IntegerNetwork
from refqnn.files import Absent, Unreadable, parse_npz, read_headed, read_npz
from refqnn.files.reading import open_file
from refqnn.networks import build
from refqnn.nn import Sequential
from refqnn.nn import checkpoint as checkpoints

#: bytes that standard input may hold
LARGEST_INPUT = 1 << 28


def load_either(path: Path) -> Sequential | IntegerNetwork:
    """Return the integer network or the checkpoint's network that a file holds."""
    header, _ = read_headed(path, None)
    if str(header.get("format")).startswith("refqnn integer network"):
        return IntegerNetwork.load(path)
    return load_network(path)


def load_network(path: Path) -> Sequential:
    """Return the network of a checkpoint."""
    content = checkpoints.load(path)
    try:
        network = build(content.config)
        checkpoints.restore(network, content)
    except ValueError as error:
        raise Unreadable(f"{path}: {error}") from error
    return network


def is_tflite(path: Path) -> bool:
    """Say whether a file is a TFLite model, by its name or the identifier in it."""
    if path.suffix == ".tflite":
        return True
    with open_file(path) as file:
        return file.read(8)[4:] == b"TFL3"


def load_data(folder: Path | None) -> data.Dataset:
    """Read the images of an npz file or a folder; None: those embedded."""
    if folder is None:
        return data.embedded()
    if not folder.exists():
        raise Absent(f"there is no {folder}")
    return data.read_dataset(folder)


def read_input() -> bytes:
    """Return the bytes of standard input; raise Unreadable if closed or endless."""
    if sys.stdin is None:
        raise Unreadable("standard input is closed")
    content = sys.stdin.buffer.read(LARGEST_INPUT + 1)
    if len(content) > LARGEST_INPUT:
        raise Unreadable(f"standard input has more than {LARGEST_INPUT} bytes")
    return content


def text_lines() -> list[str]:
    """Return the lines of standard input; raise Unreadable for what is no text."""
    try:
        return read_input().decode("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise Unreadable(f"standard input is no UTF-8 text: {error}") from error


def read_arrays(path: str) -> dict[str, Array]:
    """Return the arrays of an ``.npz`` file, of a folder of them or of standard input.

    An array NAME of CASE.npz in a folder is called CASE/NAME.
    """
    if path == "-":
        return parse_npz(read_input(), "standard input")
    if Path(path).is_dir():
        return {
            f"{file.stem}/{name}": array
            for file in sorted(Path(path).glob("*.npz"))
            for name, array in read_npz(file).items()
        }
    return read_npz(path)


def send(content: bytes, *, json: bool) -> None:
    """Write bytes to standard output; raise where an answer in JSON wants it, too."""
    if json:
        raise ValueError("--json and --output - both want standard output")
    if sys.stdout is None:
        raise ValueError("standard output is closed")
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()
