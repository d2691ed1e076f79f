"""``refqnn probe``: the inputs that separate all variants of a family."""

import tempfile
from argparse import Namespace
from pathlib import Path

from refqnn.cli.options import Answer, Parser, add_family, add_output, check_writable


def arguments(command: Parser) -> None:
    """Add the options."""
    add_family(command)
    add_output(command, "file to write, or - (FAMILY_probes.npz)")


def run(options: Namespace) -> Answer:
    """Write the inputs to a file or to standard output."""
    from refqnn.cli.inputs import send
    from refqnn.conformance.judge.identify_files import write_probes

    if options.output == "-":
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "p.npz")
            probes = write_probes(options.family, path)
            send(path.read_bytes(), json=options.json)
        return {"probes": probes}, ""
    path = Path(options.output or f"{options.family}_probes.npz")
    check_writable(path)
    probes = write_probes(options.family, path)
    return {"probes": probes, "file": str(path)}, f"wrote {path}: {probes} probes"
