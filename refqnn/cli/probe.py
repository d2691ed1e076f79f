"""``refqnn probe``: the inputs that separate all variants of a family."""

import tempfile
from argparse import Namespace
from pathlib import Path

from refqnn.cli.options import Answer, Parser, add_family, add_where


def arguments(command: Parser) -> None:
    """Add the options."""
    add_family(command)
    command.add_argument(
        "-o", "--output", help="file to write, or - (FAMILY_probes.npz); hex: a folder"
    )
    add_where(command)
    text = "hex: also a file of words an argument, and test benches, for simulations"
    command.add_argument("--format", choices=("npz", "hex"), default="npz", help=text)


def run(options: Namespace) -> Answer:
    """Write the inputs to a file or to standard output."""
    from refqnn.cli.inputs import send
    from refqnn.conformance.judge.identify_files import write_probes
    from refqnn.files import check_writable

    where = dict(options.where or ())
    if options.format == "hex":
        folder = options.output or f"{options.family}_probes"
        return write_words(options.family, folder, where)
    if options.output == "-":
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "p.npz")
            probes = write_probes(options.family, path, where=where)
            send(path.read_bytes(), json=options.json)
        return {"probes": probes}, ""
    path = Path(options.output or f"{options.family}_probes.npz")
    check_writable(path)
    probes = write_probes(options.family, path, where=where)
    return {"probes": probes, "file": str(path)}, f"wrote {path}: {probes} probes"


def write_words(family: str, folder: str, where: dict[str, int]) -> Answer:
    """Write probes, their words and test benches to a folder."""
    from refqnn.conformance.judge.identify_files import (
        probe_calls,
        read_header,
        write_probes,
    )
    from refqnn.conformance.reach import hardware
    from refqnn.files import check_folder

    check_folder(folder)
    path = Path(folder, "probes.npz")
    path.parent.mkdir(parents=True, exist_ok=True)
    probes = write_probes(family, path, where=where)
    pack = hardware.as_pack(family, probe_calls(read_header(path)))
    files = ["probes.npz", *hardware.write(pack, folder)]
    text = "\n".join(f"      {folder}/{name}" for name in files)
    answer = {"probes": probes, "folder": folder, "files": files}
    return answer, f"wrote {folder}: {probes} probes\n{text}"
