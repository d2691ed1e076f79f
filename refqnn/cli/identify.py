"""``refqnn identify``: the variants that gave these outputs to a file of probes."""

from argparse import Namespace
from pathlib import Path
from typing import Any

from refqnn.cli.options import (
    CONFORMS,
    MISMATCH,
    NOTHING,
    Answer,
    Parser,
    add_words,
    is_words,
    width_of,
)


def arguments(command: Parser) -> None:
    """Add the options."""
    text = "file that refqnn probe has written, or its folder (--format hex)"
    command.add_argument("probes", help=text)
    text = (
        "NAME in an .npz, or 0000/NAME for calls; - for standard input; words in the "
        "order of the results: .hex, or the last column of a .csv"
    )
    command.add_argument("outputs", help=text)
    add_words(command)


def run(options: Namespace) -> Answer:
    """Say which variants a file of outputs leaves."""
    from refqnn.cli.inputs import read_arrays
    from refqnn.conformance.judge.identify_files import identify_files
    from refqnn.files import Unreadable

    probes = Path(options.probes)
    probes = probes / "probes.npz" if probes.is_dir() else probes
    words = is_words(options.outputs)
    outputs = read_results(probes, options) if words else read_arrays(options.outputs)
    try:
        identified = identify_files(probes, outputs)
    except ValueError as error:
        raise Unreadable(str(error)) from error
    code = CONFORMS if identified.explained else MISMATCH
    code = code if identified.probes else NOTHING
    return identified.as_dict() | {"exit_code": code}, str(identified)


def read_results(probes: Path, options: Namespace) -> dict[str, Any]:
    """Return the words of a simulation as answers to a file of probes."""
    from refqnn.conformance.judge.identify_files import probe_calls, read_header
    from refqnn.conformance.reach import hardware

    header = read_header(probes)
    pack = hardware.as_pack(header["family"], probe_calls(header))
    kind = width_of(options, hardware.result_words(pack).kind)
    words = hardware.read_words(options.outputs, **kind)
    return hardware.probe_answers(header["family"], pack, words)
