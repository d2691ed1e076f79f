"""``refqnn convert``: other people's goldens as packs."""

from argparse import Namespace
from pathlib import Path

from refqnn.cli.options import CONFORMS, NOTHING, Answer, Parser


def arguments(command: Parser) -> None:
    """Add the options."""
    text = "folder of ONNX, TOSA or CMSIS-NN test data"
    command.add_argument("goldens", help=text)
    command.add_argument("-o", "--output", help="folder for the packs (packs)")


def run(options: Namespace) -> Answer:
    """Write one pack for each family and profile."""
    from refqnn.conformance.reach import goldens, pack_files
    from refqnn.files import check_folder

    root = Path(options.output or "packs")
    check_folder(root)
    suite = goldens.read(options.goldens)
    written = {}
    for pack in goldens.as_packs(suite):
        folder = root / "-".join(dict.fromkeys((pack.family, pack.profile)))
        pack_files.write(pack, folder)
        written[str(folder)] = len(pack.cases)
    lines = [f"wrote {folder}: {n} cases" for folder, n in written.items()]
    code = CONFORMS if written else NOTHING
    answer = {"packs": written, "unread": dict(suite.unread), "exit_code": code}
    return answer, "\n".join([*lines, suite.reasons()]).strip()
