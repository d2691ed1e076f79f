"""Ask every installed runtime again: python tests/conformance/who_rounds_how.py

Prints what differs from the rows of profiles.py, then writes the table of
refqnn/conformance/README.md from them.
"""

import re
import warnings
from pathlib import Path

from refqnn.conformance import identify
from refqnn.conformance.carry.runtimes import BOXES, version
from refqnn.conformance.choices.profiles import UNEXPLAINED, matrix, profiles

README = Path(__file__).parents[2] / "refqnn" / "conformance" / "README.md"


def asked_again(box):
    """Say in a line whether a runtime still answers as its row says."""
    if version(box.runtime) is None:
        return "not installed"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        answer = identify(box.call, box.family, supports=box.supports, in_process=True)
    if not answer.explained:
        known = (box.runtime, box.operator) in UNEXPLAINED
        return "none of the variants" + (", as said" if known else "")
    row = next(r for r in profiles[box.runtime].rows if r.operator == box.operator)
    now = answer.semantics.deviations(), answer.inputs
    return "as said" if now == (dict(row.deviations), row.probes) else f"now {now}"


def main():
    """Ask, print, write."""
    for box in BOXES:
        print(f"{box.runtime:18} {box.operator:44} {asked_again(box)}", flush=True)
    text = README.read_text("utf-8")
    table = f"<!-- matrix -->\n{matrix()}<!-- end -->"
    changed = re.sub(
        r"<!-- matrix -->\n.*?<!-- end -->", lambda _: table, text, flags=re.DOTALL
    )
    README.write_text(changed, "utf-8")


if __name__ == "__main__":
    main()
