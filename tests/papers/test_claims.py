"""The claims: what decides each exists, and no verdict says more than it may."""

import re
from pathlib import Path

import pytest

from refqnn.papers.claims import FILE, VERDICTS, Claim, faults, read_claims
from refqnn.papers.guided_study import Guiding
from refqnn.papers.qil_pruning_study import PRUNED
from refqnn.papers.qil_study import FINE
from refqnn.studies.study import MODULES

ROOT = Path(__file__).parent.parent.parent
CLAIMS = read_claims()


def test_no_verdict_says_more_than_its_evidence():
    assert [*faults(CLAIMS)] == []


def planted(**changes):
    """Give a claim that may hold, with some columns changed."""
    fields = [
        "1",
        "P",
        "c",
        "r",
        "dfs_tradeoff",
        "5",
        "10000",
        "1.0",
        "0.5",
        "-",
        "holds",
    ]
    return Claim(*fields, "")._replace(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n": "4"}, "'holds' needs more than n = 4"),
        ({"n": "3", "standard_error": ""}, "needs more than n = 3"),
        ({"test_images": "1000"}, "needs more than n = 5"),
        ({"n": "4", "verdict": VERDICTS[1]}, "'does not hold in this regime' needs"),
        ({"verdict": "agrees"}, "verdict must be of"),
        ({"verdict": "undecided"}, "'undecided' must say 'needs N seeds, H h (STUDY)'"),
        ({"verdict": VERDICTS[3]}, "'cannot be tested here' must say what is missing"),
    ],
)
def test_faulty_claims_are_named(changes, message):
    (fault,) = faults([planted(**changes)])
    assert message in fault


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"n": "exact", "effect": "", "standard_error": ""},
        {"n": "1", "test_images": "1000", "effect": "-2.6"},
        {"test_images": ""},
        {"test_images": "1001"},
        {"n": "1", "verdict": "undecided", "missing": "needs 5 seeds, 2 h (skipnet)"},
    ],
)
def test_claims_with_evidence_pass(changes):
    assert [*faults([planted(**changes)])] == []


def test_what_decides_a_claim_exists():
    for claim in CLAIMS:
        is_test = claim.study.startswith("tests/")
        assert (ROOT / claim.study).exists() if is_test else claim.study in MODULES


def test_regimes_and_test_images_are_those_of_the_studies():
    """Of studies of one setting: what claims.csv says is what they train with."""
    one = Guiding()
    (alexnet, eighth), (small, depth) = PRUNED.items()
    assert (alexnet, small) == ("AlexNet, small", f"ResNet-{depth.args[0]}")
    said = {
        "guided_training": f"ResNet-{one.depth} x 1/{1 / one.width:g} at "
        f"{one.bits}/{one.bits}, {one.epochs} epochs",
        "qil_table": "ResNet-8",
        "qil_pruning": f"AlexNet x 1/{1 / eighth.keywords['width']:g}",
    }
    for claim in CLAIMS:
        assert said.get(claim.study, "") in claim.regime
        if claim.study == "guided_training":
            assert claim.test_images == str(one.test_images)
        if claim.study == "qil_table" and "epochs" in claim.regime:
            assert f"{FINE.epochs} epochs from float" in claim.regime


def test_a_claim_stands_once_in_a_regime():
    keys = [(claim.number, claim.claim, claim.regime) for claim in CLAIMS]
    assert len(set(keys)) == len(keys)
    numbers = [int(claim.number) for claim in CLAIMS]
    assert set(numbers) == set(range(1, max(numbers) + 1))


def test_intervals_hold_their_effects():
    for claim in CLAIMS:
        if claim.interval and claim.effect:
            low, high = map(float, claim.interval.split(" to "))
            assert low <= float(claim.effect) <= high, claim


def test_pages_cite_claims_that_there_are():
    """README.md of the papers says "claim N" or "claims N, M"."""
    text = FILE.with_name("README.md").read_text(encoding="utf-8")
    cited = {
        int(n)
        for group in re.findall(
            r"[Cc]laims? ([0-9]+(?:(?:, | and | to )[0-9]+)*)", text
        )
        for n in re.findall("[0-9]+", group)
    }
    assert cited <= {int(claim.number) for claim in CLAIMS}
    assert len(cited) > 20
