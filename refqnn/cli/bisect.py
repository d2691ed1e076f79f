"""``refqnn bisect``: the first tensor that another implementation has differently."""

from argparse import Namespace
from pathlib import Path

from refqnn.cli.options import Answer, Parser


def arguments(command: Parser) -> None:
    """Add the options."""
    command.epilog = (
        "Exit code 0: what was compared is equal; 1: not; 3: nothing was compared; "
        "4: a file cannot be read."
    )
    add = command.add_argument
    add("reference", type=Path, help="what refqnn trace has written")
    add("other", type=Path, help="arrays under the same names (.npz)")
    same = "compare values whatever the dtypes"
    add("--any-dtype", action="store_true", help=same)


def run(options: Namespace) -> Answer:
    """Compare two traces, tensor by tensor in execution order."""
    from refqnn.conformance import Trace, bisect

    reference, other = map(Trace.load, (options.reference, options.other))
    bisection = bisect(reference, other, any_dtype=options.any_dtype)
    return bisection.as_dict() | {"exit_code": bisection.exit_code}, str(bisection)
