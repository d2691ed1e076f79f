"""A pack for simulations of hardware: one file of words an argument, a test bench.

    ARGUMENT.hex       one word a line, two's complement (IEEE 754 for floats), in the
                       smallest of 8, 16, 32, 64 bits that holds every value
    cases.csv          argument or output, case, first line, lines, shape
    words.json         width, signedness and number of the words of every file
    FAMILY_tb.sv       reads the files with $readmemh, writes a word a result
    FAMILY_cocotb.py   the same for cocotb

Line i of every file of an elementwise family is call i, scalars repeated; the arguments
of other families stand one after another. What must or may be refused is left out: a
chip has no way to refuse. The results come back as one word a line, or as csv whose
last column is a decimal number.
"""

import csv
import io
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

import numpy as np

from refqnn._types import Array
from refqnn.conformance.choices.families import REFUSED, Inputs, family_of, stack
from refqnn.conformance.reach.packs import Case, Pack
from refqnn.conformance.reach.stream import split
from refqnn.conformance.reach.text import hex_words
from refqnn.files import Unreadable, read_text, write_json, write_text

WIDTHS = (8, 16, 32, 64)
#: a digit that a simulator prints where a bit is unknown or not driven
UNKNOWN = re.compile(r"[xXzZ?]")


class Words(NamedTuple):
    """The words of one file: integers, or floats as they are."""

    values: Array
    width: int
    signed: bool

    @property
    def kind(self) -> dict[str, Any]:
        """Width, signedness and number of words, for ``words.json``."""
        return {
            "width": self.width,
            "signed": self.signed,
            "float": self.values.dtype.kind == "f",
            "words": len(self.values),
        }


def words_of(arrays: Sequence[Any]) -> Words:
    """Join arrays in the smallest width that holds every value.

    Words are signed, as arithmetic that mixes them is in Verilog, but where every array
    is of an unsigned dtype.

    >>> words_of([np.array([1, 100]), 3]).width, words_of([-1, 200]).width
    (8, 16)
    """
    parts = [np.ravel(np.asarray(a)) for a in arrays]
    flat = np.concatenate(parts)
    if flat.dtype.kind == "f":
        return Words(flat, 8 * flat.dtype.itemsize, signed=True)
    signed = any(part.dtype.kind != "u" for part in parts)
    low, high = (int(flat.min()), int(flat.max())) if flat.size else (0, 0)
    bits = max(high.bit_length(), (-low - 1).bit_length() if low < 0 else 0) + signed
    width = next(w for w in WIDTHS if bits <= w)
    return Words(flat.astype(f"{'i' if signed else 'u'}{width // 8}"), width, signed)


def sound_cases(pack: Pack) -> list[Case]:
    """Return the cases that every implementation answers."""
    return [c for c in pack.cases if c.result != "invalid" and not c.may_be_refused]


def calls_of(pack: Pack) -> Iterator[Inputs]:
    """Yield the calls in the order of the lines: elements, or whole cases."""
    of = family_of(pack.family)
    for case in sound_cases(pack):
        yield from (call.inputs for call in split(of, case.name, case.inputs))


def argument_words(pack: Pack) -> dict[str, Words]:
    """Return the words of every argument, over all calls."""
    calls = list(calls_of(pack))
    if not calls:
        raise ValueError(f"{pack.family} has no case without a refusal")
    return {name: words_of([call[name] for call in calls]) for name in calls[0]}


def result_words(pack: Pack) -> Words:
    """Return the right results, output after output of every case; 0 for refusals."""
    outputs = [o for case in sound_cases(pack) for o in case.outputs.values()]
    return words_of([np.where(np.asarray(o) == REFUSED, 0, o) for o in outputs])


def as_pack(family: str, calls: Sequence[Inputs]) -> Pack:
    """Return calls as the cases of a pack, those of an elementwise family as one.

    The outputs are those of refqnn: of a file of probes they say how many results
    there are, and how wide.
    """
    of = family_of(family)
    whole = [stack(list(calls))] if of.stacks else list(calls)
    cases = (
        Case(f"{i:04d}", call, of.evaluate(of.default, **call), "exact", ())
        for i, call in enumerate(whole)
    )
    return Pack(family, "refqnn", of.default, tuple(cases))


def probe_answers(family: str, pack: Pack, words: Array) -> dict[str, Array]:
    """Return the results to probes under the names that ``identify_files`` reads."""
    outputs = named_outputs(pack, words)
    if not family_of(family).stacks:
        return outputs
    return {name.partition("/")[2]: array for name, array in outputs.items()}


def write(pack: Pack, folder: str | os.PathLike[str]) -> list[str]:
    """Write the files; return their names. The folder is made.

    Raises ValueError for a family without integers or floats as arguments.
    """
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    arguments = argument_words(pack)
    texts = {
        f"{name}.hex": "".join(f"{word}\n" for word in hex_words(words.values))
        for name, words in arguments.items()
    }
    texts["cases.csv"] = index(pack)
    texts |= benches(pack, arguments)
    for name, text in texts.items():
        write_text(target / name, text)
    kinds = {name: words.kind for name, words in arguments.items()}
    kinds["results"] = result_words(pack).kind
    write_json(target / "words.json", kinds)
    return [*texts, "words.json"]


def index(pack: Pack) -> str:
    """Return ``cases.csv``: where each array of each case stands in its file."""
    of = family_of(pack.family)
    rows, lines = [], dict[str, int]()
    for case in sound_cases(pack):
        calls = list(split(of, case.name, case.inputs))
        arrays = {
            name: [np.asarray(call.inputs[name]) for call in calls]
            for name in case.inputs
        }
        arrays["results"] = [np.asarray(o) for o in case.outputs.values()]
        for name, parts in arrays.items():
            count, first = sum(part.size for part in parts), lines.get(name, 0)
            shape = np.shape((case.inputs | case.outputs).get(name, parts[0]))
            rows.append((name, case.name, first, count, "x".join(map(str, shape))))
            lines[name] = first + count
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(("array", "case", "first_line", "lines", "shape"))
    writer.writerows(rows)
    return file.getvalue()


def benches(pack: Pack, arguments: Mapping[str, Words]) -> dict[str, str]:
    """Return the skeletons of test benches, filled in for a family."""
    results = result_words(pack)
    per_call = len(results.values) == sum(1 for _ in calls_of(pack))
    drives = [f"      {n} = {n}_words[i];" for n in arguments]
    texts = {
        "family": pack.family,
        "results": str(len(results.values)),
        "width": str(results.width),
        "signed": " signed" if results.signed else "",
        "memories": "\n".join(
            f"  {logic(w)} {n}_words [0:{len(w.values) - 1}];"
            for n, w in arguments.items()
        ),
        "ports": "\n".join(f"  {logic(w)} {n};" for n, w in arguments.items()),
        "reads": "\n".join(f'    $readmemh("{n}.hex", {n}_words);' for n in arguments),
        "drives": "\n".join(drives if per_call else [NOT_PER_CALL]),
        "connections": ", ".join(f".{n}({n})" for n in arguments),
        "arguments": json.dumps(list(arguments)),
    }
    folder = resources.files("refqnn.conformance.reach") / "benches"
    return {
        f"{pack.family}_{kind}": Template(
            (folder / f"{kind}.txt").read_text("utf-8")
        ).substitute(texts)
        for kind in ("tb.sv", "cocotb.py")
    }


#: what stands in a bench in place of the drivers
NOT_PER_CALL = "      // drive what result i depends on: cases.csv says where it stands"


def logic(words: Words) -> str:
    """Return the SystemVerilog type of words.

    >>> logic(words_of([-1]))
    'logic signed [7:0]'
    """
    return f"logic{' signed' if words.signed else ''} [{words.width - 1}:0]"


def read_words(
    path: str | os.PathLike[str], *, width: int, signed: bool, floating: bool = False
) -> Array:
    """Return the numbers of a file of words, or of the last column of a csv.

    Raises Unreadable, naming the line, for a word that is wider, unknown or no number.
    """
    name = Path(path).name
    text = read_text(path)
    if width not in WIDTHS:
        raise ValueError(f"width must be one of {WIDTHS}, got {width}")
    read = decimals if name.endswith(".csv") else bits
    words = np.array(read(name, text, width, signed=signed), np.uint64)
    kind = "f" if floating else "i" if signed else "u"
    return words.astype(f"u{width // 8}").view(f"{kind}{width // 8}")


def lines_of(text: str) -> Iterator[tuple[int, str]]:
    """Yield the lines that hold something, numbered from 1; ``//`` begins a comment."""
    for number, line in enumerate(text.splitlines(), 1):
        if content := line.partition("//")[0].strip():
            yield number, content


def bits(name: str, text: str, width: int, *, signed: bool) -> list[int]:  # noqa: ARG001 - a word is its bits
    """Return the word of every line of hexadecimal digits."""
    words = []
    for number, line in lines_of(text):
        where = f"{name}, line {number}: {line[:40]!r}"
        if UNKNOWN.search(line.removeprefix("0x").removeprefix("0X")):
            raise Unreadable(f"{where} has unknown bits")
        if not re.fullmatch(r"(0[xX])?[0-9a-fA-F_]+", line):
            raise Unreadable(f"{where} is no hexadecimal word")
        words.append(int(line, 16))
        if words[-1] >> width:
            raise Unreadable(f"{where} has more than {width} bits")
    return words


def decimals(name: str, text: str, width: int, *, signed: bool) -> list[int]:
    """Return the words of the last column; a first line may hold titles."""
    low = -(1 << (width - 1)) if signed else 0
    high = low + (1 << width) - 1
    words = []
    for number, line in lines_of(text):
        field = line.split(",")[-1].strip()
        if not re.fullmatch(r"[+-]?\d+", field):
            if number == 1:
                continue
            raise Unreadable(f"{name}, line {number}: {field[:40]!r} is no integer")
        if not low <= int(field) <= high:
            raise Unreadable(f"{name}, line {number}: {field} not in [{low}, {high}]")
        words.append(int(field) & ((1 << width) - 1))
    return words


def named_outputs(pack: Pack, words: Array) -> dict[str, Array]:
    """Return the results of a simulation as outputs named ``CASE/NAME``.

    Raises Unreadable for another number of words than there are results.
    """
    places = list(results_of(pack))
    total = sum(np.size(out) for _, _, out in places)
    if len(words) != total:
        raise Unreadable(f"{len(words)} results, the pack has {total}")
    outputs, at = dict[str, Array](), 0
    for case, name, out in places:
        outputs[f"{case}/{name}"] = words[at : at + np.size(out)].reshape(np.shape(out))
        at += np.size(out)
    return outputs


def results_of(pack: Pack) -> Iterable[tuple[str, str, Array]]:
    """Yield case, name and values of every output, in the order of the results."""
    for case in sound_cases(pack):
        for name, out in case.outputs.items():
            yield case.name, name, np.asarray(out)
