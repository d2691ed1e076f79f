"""Every claim of the papers that this package speaks of, with the numbers on record.

    number, paper, claim     the claim, in our words; one number, several regimes
    regime                   network, images and settings it was asked in
    study                    what decides: a study of ``refqnn study``, or a test
    n                        independent trainings, mostly seeds; "exact": no sampling
    test_images              where accuracies are compared
    effect, standard_error   points of accuracy unless the claim says otherwise
    interval                 95 %, paired over seeds (``paired_interval``)
    verdict                  one of ``VERDICTS``
    missing                  what limits a claim; if undecided, "needs 5 seeds, 1.5 h
                             (STUDY)": what decides by a rule that is written there,
                             hours on two cores

A verdict other than "undecided" rests on exact arithmetic, on five seeds and more than
1 000 test images, or on an effect of more than five standard errors: the accuracy on
1 000 images has one of 1.2 points, and two kinds of CPU differ by 1.6 for one seed.
"""

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

FILE = Path(__file__).with_name("claims.csv")
VERDICTS = (
    "holds",
    "does not hold in this regime",
    "undecided",
    "cannot be tested here",
)
#: seeds and standard errors that a verdict needs, and test images that are too few
SEEDS, ERRORS, TOO_FEW_IMAGES = 5, 5, 1000


class Needs(NamedTuple):
    """Seeds, hours on two cores, and the study by whose rule a claim is decided."""

    seeds: int
    hours: float
    study: str


class Claim(NamedTuple):
    """A line of claims.csv; numbers stay as they are written, empty if unknown."""

    number: str
    paper: str
    claim: str
    regime: str
    study: str
    n: str
    test_images: str
    effect: str
    standard_error: str
    interval: str
    verdict: str
    missing: str

    def may_be_decided(self) -> bool:
        """Say whether the evidence allows a verdict.

        >>> row = Claim(*"1 P c r s 3 10000 1.5 0.2 - holds -".split())
        >>> row.may_be_decided(), row._replace(standard_error="0.4").may_be_decided()
        (True, False)
        """
        if self.n == "exact":
            return True
        measured = self.effect and self.standard_error
        if measured and abs(float(self.effect)) > ERRORS * float(self.standard_error):
            return True
        few = self.test_images and int(self.test_images) <= TOO_FEW_IMAGES
        return int(self.n) >= SEEDS and not few

    def needs(self) -> Needs | None:
        """Read what would decide the claim, from what is ``missing``.

        >>> row = Claim(*"1 P c r s 3 - 1.5 - - undecided".split(), "")
        >>> row._replace(missing="needs 10 seeds, 2.5 h (skipnet): a gate").needs()
        Needs(seeds=10, hours=2.5, study='skipnet')
        """
        said = re.match(r"needs (\d+) seeds?, ([\d.]+) h \((\w+)\)", self.missing)
        return said and Needs(int(said[1]), float(said[2]), said[3])


def read_claims() -> list[Claim]:
    """Read every claim, in the order of the file.

    >>> [claim.regime for claim in read_claims() if claim.number == "12"]
    ['ResNet-74, multiply-adds']
    """
    lines = csv.DictReader(FILE.read_text(encoding="utf-8").splitlines())
    return [Claim(**line) for line in lines]


def faults(claims: list[Claim]) -> Iterator[str]:
    """Yield what is wrong with a claim: its verdict, or that it lacks evidence."""
    for claim in claims:
        name = f"{claim.number}, {claim.regime}"
        if claim.verdict not in VERDICTS:
            yield f"{name}: verdict must be of {VERDICTS}, got {claim.verdict!r}"
        elif claim.verdict in VERDICTS[:2] and not claim.may_be_decided():
            yield f"{name}: {claim.verdict!r} needs more than n = {claim.n}"
        elif claim.verdict == VERDICTS[2] and claim.needs() is None:
            yield f"{name}: 'undecided' must say 'needs N seeds, H h (STUDY)'"
        elif claim.verdict in VERDICTS[2:] and not claim.missing:
            yield f"{name}: {claim.verdict!r} must say what is missing"
