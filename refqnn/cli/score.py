"""``refqnn score``: variants and mistakes that vectors do not detect."""

from argparse import Namespace
from pathlib import Path

from refqnn.cli.options import CONFORMS, MISMATCH, NOTHING, Answer, Parser


def arguments(command: Parser) -> None:
    """Add the options."""
    command.add_argument("pack", help="a pack, or a folder of somebody else's goldens")


def run(options: Namespace) -> Answer:
    """List the variants that a pack, or somebody else's goldens, do not detect."""
    if Path(options.pack, "manifest.json").exists():
        return score_pack(options.pack)
    return score_goldens(options.pack)


def score_pack(path: str) -> Answer:
    """List the variants that a pack does not detect, and the mistakes it cannot see."""
    from refqnn.conformance.reach import pack_files, packs
    from refqnn.conformance.reach.blindness import blindness

    pack = pack_files.read(path)
    detected, missed = packs.score(pack)
    calls = [case.inputs for case in pack.cases]
    blind = blindness(pack.family, calls, from_files=True)
    lines = [f"{detected} / {detected + len(missed)} variants detected"]
    lines += [
        f"missed: {', '.join(f'{a} = {v}' for a, v in m.items())}" for m in missed
    ]
    code = MISMATCH if missed or blind.unseen else CONFORMS
    answer = {"detected": detected, "missed": missed} | blind.as_dict()
    return answer | {"exit_code": code}, "\n".join([*lines, str(blind)])


def score_goldens(path: str) -> Answer:
    """List the variants that the goldens below a folder do not detect."""
    from refqnn.conformance.reach import goldens

    suite = goldens.read(path)
    scores = goldens.score(suite)
    seen = all(s.detected == s.others and not s.unexplained for s in scores)
    code = (CONFORMS if seen else MISMATCH) if scores else NOTHING
    answer = {
        "scores": [s.as_dict() for s in scores],
        "unread": dict(suite.unread),
        "exit_code": code,
    }
    lines = [*map(str, scores), suite.reasons()]
    return answer, "\n".join(line for line in lines if line)
