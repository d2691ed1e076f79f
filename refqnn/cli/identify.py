"""``refqnn identify``: the variants that gave these outputs to a file of probes."""

from argparse import Namespace

from refqnn.cli.options import CONFORMS, MISMATCH, NOTHING, Answer, Parser


def arguments(command: Parser) -> None:
    """Add the options."""
    command.add_argument("probes", help="file that refqnn probe has written")
    text = "NAME in an .npz, or 0000/NAME for calls; - for standard input"
    command.add_argument("outputs", help=text)


def run(options: Namespace) -> Answer:
    """Say which variants a file of outputs leaves."""
    from refqnn.cli.inputs import read_arrays
    from refqnn.conformance.judge.identify_files import identify_files
    from refqnn.files import Unreadable

    outputs = read_arrays(options.outputs)
    try:
        identified = identify_files(options.probes, outputs)
    except (OSError, ValueError) as error:
        raise Unreadable(str(error)) from error
    code = CONFORMS if identified.explained else MISMATCH
    code = code if identified.probes else NOTHING
    return identified.as_dict() | {"exit_code": code}, str(identified)
