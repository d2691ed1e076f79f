"""``refqnn verify``: outputs of another implementation beside a pack."""

from argparse import Namespace

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
    text = "folder that refqnn generate has written; - alone: answers to a stream"
    command.add_argument("pack", help=text)
    text = (
        "CASE/NAME in an .npz, a folder of CASE.npz, - for standard input, or words "
        "in the order of the results: .hex, or the last column of a .csv"
    )
    command.add_argument("outputs", nargs="?", help=text)
    add_words(command)


def run(options: Namespace) -> Answer:
    """Compare outputs with a pack: a file, a folder, or answers to a stream."""
    from refqnn.cli.inputs import read_arrays, text_lines
    from refqnn.conformance.reach import hardware, pack_files, pack_verify, stream

    if options.outputs is None:
        if options.pack != "-":
            raise ValueError("verify PACK OUTPUTS, or verify - for answers to a stream")
        pack, outputs = stream.read(text_lines())
    else:
        pack = pack_files.read(options.pack)
        if is_words(options.outputs):
            words = hardware.result_words(pack).kind
            values = hardware.read_words(options.outputs, **width_of(options, words))
            outputs = hardware.named_outputs(pack, values)
        else:
            outputs = read_arrays(options.outputs)
    compared = pack_verify.verify(pack, outputs)
    checked = sum(c.total for c in compared)
    good = all(c.conforms for c in compared)
    code = (CONFORMS if good else MISMATCH) if checked else NOTHING
    why = None if good or not checked else pack_verify.diagnose_pack(pack, outputs)
    answer = {
        "conforms": good and checked > 0,
        "checked": checked,
        "cases": [c.as_dict() for c in compared],
        "diagnosis": None if why is None else why.as_dict(),
        "exit_code": code,
    }
    return answer, pack_verify.report(compared, why)
