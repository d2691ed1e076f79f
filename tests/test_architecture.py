"""The rules of the house, read from the source: imports, twins, tables, headings.

Every rule is a function from source text to complaints, so that each can be shown to
reject a planted violation.
"""

import ast
import importlib.util
import inspect
import itertools
import re
import subprocess
import sys

import pytest
from parsed import PACKAGE, ROOT, nodes, sources

from refqnn import moved

#: left may be imported by right, never back; equal ranks do not import each other
RANK = {
    "_types": 0,
    "moved": 0,
    "prompt": 0,
    "files": 1,
    "core": 1,
    "geometry": 1,
    "data": 1,
    "plots": 1,
    "ops": 2,
    "integer": 2,
    "quantizers": 3,
    "nn": 4,
    "shapes": 5,
    "networks": 5,
    "cost": 6,
    "deploy": 7,
    "studies": 8,
    "testing": 8,
    "papers": 9,
    "conformance": 10,
    "cli": 11,
    "__main__": 12,
    "pytest_plugin": 12,
}
LEAVES = ("data", "plots")
#: rooms of the package that may import the laws; all others leave them to tests
LAWFUL = ("testing", "conformance", "pytest_plugin")
#: modules that the map of CONTRIBUTING.md names in the sentence below it, or not at all
OFF_THE_MAP = ("moved", "testing", "__main__", "pytest_plugin", *LEAVES)
DEFINITIONS = ("ops", "integer", "quantizers")
#: rooms that may choose the compiled side
CHOOSERS = ("deploy", "studies", "papers", "cli")
MAY_FAST_IMPORT = ("_types", "core", "geometry", "fast", *DEFINITIONS)
MOST_STATEMENTS = 40


def room(module):
    """Return the first name after ``refqnn``; "" for the package itself."""
    parts = [part for part in module.split(".") if part != "__init__"]
    return parts[1] if len(parts) > 1 else ""


def imported(source):
    """Yield every module that a source imports, at any depth of nesting."""
    for node in nodes(source):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            if node.module == "refqnn":
                rooms = [a.name for a in node.names if a.name in (*RANK, "fast")]
                yield from (f"refqnn.{name}" for name in rooms)
            else:
                yield node.module


def allowed(importer, target):
    """Say whether one room may import another."""
    if target in {importer, ""}:
        return True
    if importer == "":
        return target == "moved"
    if importer == "fast":
        return target in MAY_FAST_IMPORT
    if target == "fast":
        return importer in CHOOSERS
    if importer in LEAVES:  # a figure of a quantizer runs it
        return target in {"_types", "files"} or (importer, target) == ("plots", "core")
    lawful = target != "testing" or importer in LAWFUL
    return lawful and RANK[target] < RANK[importer]


def backward_arrows(modules):
    """Return every import between rooms that runs back."""
    return [
        f"{name} imports {target}"
        for name, source in modules.items()
        for target in imported(source)
        if target.split(".")[0] == "refqnn" and not allowed(room(name), room(target))
    ]


def unranked(modules):
    """Return the rooms whose place in the order of imports nobody has stated."""
    return sorted({room(name) for name in modules} - {"", "fast", *RANK})


def order_of(text):
    """Return [room, ...] by columns of the map of imports, the line of arrows."""
    line = next(line for line in text.splitlines() if line.count(" <- ") > 3)
    return [column.strip().split(", ") for column in line.split(" <- ")]


def off_the_map(modules, text):
    """Return rooms of the tree that the map lacks, the reverse, and wrong orders."""
    columns = order_of(text)
    listed = [name for column in columns for name in column]
    wanted = {room(name) for name in modules} - {"", "fast", *OFF_THE_MAP}
    backwards = [
        f"{right} before {left}"
        for before, after in itertools.pairwise(columns)
        for left in before
        for right in after
        if RANK.get(left, 0) >= RANK.get(right, 99)
    ]
    return sorted(wanted ^ set(listed)) + backwards


def unlisted(modules, text):
    """Return packages of the tree without a row in the map, and rows of others."""
    rows = text.partition("| room | what |")[2].partition("\n\n")[0].splitlines()
    named = {
        name for row in rows[2:] for name in re.findall(r"`(\w+)`", row.split("|")[1])
    }
    packages = {room(m) for m in modules if m.count(".") > 1} - {""}
    return sorted(packages - named) + sorted(named - {room(m) for m in modules})


def compiled_definitions(modules):
    """Return every definition that imports the compiler."""
    return [
        name
        for name, source in modules.items()
        if room(name) in (*DEFINITIONS, "core", "geometry")
        and any(target.split(".")[0] == "numba" for target in imported(source))
    ]


def unsafe_kernels(modules):
    """Return kernels whose fast-math flags go beyond reassoc and contract."""
    found = []
    for name, source in modules.items():
        exact = name.startswith("refqnn.fast.integer")
        harmless = set() if exact else {"reassoc", "contract"}
        for node in nodes(source):
            if isinstance(node, ast.keyword) and node.arg == "fastmath":
                asked = ast.literal_eval(node.value)
                if isinstance(asked, bool) or not set(asked) <= harmless:
                    found.append(f"{name}: fastmath={ast.unparse(node.value)}")
    return found


def twins_without_definition(modules):
    """Return files of ``fast`` whose path, with ``fast`` left out, does not exist."""
    return [
        name
        for name in modules
        if room(name) == "fast"
        and name.split(".")[2] in DEFINITIONS
        and name.replace("refqnn.fast.", "refqnn.") not in modules
    ]


def paperless(modules, text):
    """Return paper files, of folders too, that no row of the room's README links."""
    rows = "\n".join(line for line in text.splitlines() if line.startswith("|"))
    names = [name.split(".")[2:] for name in modules if room(name) == "papers"]
    files = ["/".join(name) + ".py" for name in names if name[-1] != "__init__"]
    return [file for file in files if f"({file})" not in rows]


def long_functions(modules):
    """Return functions of more than 40 statements, the docstring not counted."""
    found = []
    for name, source in modules.items():
        for node in nodes(source):
            if isinstance(node, ast.FunctionDef):
                statements = sum(
                    isinstance(inner, ast.stmt) for inner in ast.walk(node)
                )
                statements -= 1 + (ast.get_docstring(node) is not None)
                if statements > MOST_STATEMENTS:
                    found.append(f"{name}.{node.name}: {statements} statements")
    return found


def bad_file_names(modules):
    """Return modules named after nothing."""
    nothing = re.compile(r"(^|_)(utils?|helpers?|impl|misc|common)(_|$)")
    return [name for name in modules if any(map(nothing.search, name.split(".")))]


def texts():
    """Return the content of every text file that is under version control."""
    folders = ("refqnn", "tests", "examples")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*")]
    files += [*ROOT.glob("*.*"), *ROOT.glob(".ci/*"), *ROOT.glob(".*.yaml")]
    kinds = {".py", ".md", ".cfg", ".toml", ".cff", ".yaml", ".json", ""}
    return {
        str(path.relative_to(ROOT)): path.read_text("utf-8")
        for path in files
        if path.is_file() and path.suffix in kinds and "__pycache__" not in path.parts
    }


def machine_paths(files):
    """Return files that name a folder which exists on one machine only."""
    folders = "work|tmp|home|root|Users|mnt"
    absolute = re.compile(rf"""(?:^|[\s"'`=(:])/(?:{folders})/""", re.MULTILINE)
    return [name for name, text in files.items() if absolute.search(text)]


def incomplete(definition, fast):
    """Return public names of a definition room that its fast room lacks."""
    return sorted(public(definition) - public(fast))


def mismatched(definition, fast):
    """Return twins whose signature is not that of their definition."""
    found = []
    for name in sorted(public(definition) & public(fast)):
        here, there = getattr(definition, name), getattr(fast, name)
        if inspect.isfunction(here) and signature(here) != signature(there):
            found.append(name)
    return found


def signature(function):
    """Return names, kinds and defaults of the arguments, annotations left out."""
    given = inspect.signature(function).parameters.values()
    return [(p.name, p.kind, p.default) for p in given]


def public(module):
    """Return the names a package exports: no modules, nothing private."""
    return {
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }


def third_party(module):
    """Return what importing ``module`` loads besides the standard library."""
    tops = loaded(f"import {module}") - loaded("pass")
    return sorted(tops - set(sys.stdlib_module_names) - {"refqnn"})


def loaded(statement):
    """Return the top-level names of all modules that a statement imports."""
    command = [sys.executable, "-X", "importtime", "-c", statement]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    lines = [line for line in ran.stderr.splitlines() if line.startswith("import time")]
    return {line.split("|")[-1].strip().split(".")[0] for line in lines[1:]}


RULES = (
    unranked,
    backward_arrows,
    compiled_definitions,
    unsafe_kernels,
    twins_without_definition,
    long_functions,
    bad_file_names,
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_package_keeps_the_rule(rule):
    assert rule(sources()) == []


PLANTED = (
    (unranked, "refqnn.attic.x", ""),
    (backward_arrows, "refqnn.deploy.x", "import refqnn.studies"),
    (backward_arrows, "refqnn.files.x", "from refqnn.core import Run"),
    (backward_arrows, "refqnn.moved", "from refqnn import files"),
    (backward_arrows, "refqnn.studies.x", "from refqnn.papers.qil import shares"),
    (backward_arrows, "refqnn.papers.x", "from refqnn.testing import check_op"),
    (backward_arrows, "refqnn.testing.x", "from refqnn.conformance import identify"),
    (backward_arrows, "refqnn.conformance.x", "from refqnn.cli import main"),
    (backward_arrows, "refqnn.ops.x", "from refqnn.nn import Conv2d"),
    (backward_arrows, "refqnn.nn.x", "def f():\n    import refqnn.deploy"),
    (backward_arrows, "refqnn.networks.x", "from refqnn import fast"),
    (backward_arrows, "refqnn.data", "from refqnn.core import Run"),
    (backward_arrows, "refqnn.fast.ops.x", "from refqnn.nn import SGD"),
    (backward_arrows, "refqnn.__init__", "import refqnn.ops"),
    (backward_arrows, "refqnn.integer.x", "from refqnn.ops.conv import conv2d"),
    (compiled_definitions, "refqnn.integer.x", "from numba import njit"),
    (compiled_definitions, "refqnn.quantizers.x", "import numba"),
    (unsafe_kernels, "refqnn.fast.ops.x", "njit(fastmath=True)"),
    (unsafe_kernels, "refqnn.fast.ops.x", "njit(fastmath={'nnan'})"),
    (unsafe_kernels, "refqnn.fast.integer.x", "njit(fastmath={'contract'})"),
    (twins_without_definition, "refqnn.fast.ops.x", ""),
    (long_functions, "refqnn.ops.x", "def f():\n" + "    a = 1\n" * 41),
    (bad_file_names, "refqnn.ops.utils", ""),
    (bad_file_names, "refqnn.ops.conv_impl", ""),
)


@pytest.mark.parametrize(("rule", "name", "source"), PLANTED)
def test_rules_reject_planted_violations(rule, name, source):
    assert rule(sources() | {name: source})


INNOCENT = (
    (backward_arrows, "refqnn.conformance.x", "from refqnn.testing import strategies"),
    (backward_arrows, "refqnn.nn.x", "import refqnn\nfrom refqnn.core import Run"),
    (backward_arrows, "refqnn.cli", "from refqnn import data, fast, plots"),
    (compiled_definitions, "refqnn.fast.x", "from numba import njit"),
    (unsafe_kernels, "refqnn.fast.ops.x", "njit(fastmath={'reassoc', 'contract'})"),
    (twins_without_definition, "refqnn.fast.x", ""),
    (long_functions, "refqnn.ops.x", "def f():\n" + "    a = 1\n" * 40),
)


@pytest.mark.parametrize(("rule", "name", "source"), INNOCENT)
def test_rules_accept_what_is_allowed(rule, name, source):
    assert rule({name: source}) == []


def test_the_map_of_rooms_is_the_tree():
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    assert off_the_map(sources(), text) == []


def test_a_wrong_map_is_found():
    modules = {"refqnn.files.x": "", "refqnn.ops.x": "", "refqnn.nn.x": ""}
    modules |= {"refqnn.networks.x": "", "refqnn.deploy.x": "", "refqnn.fast.x": ""}
    good = "files <- ops <- nn <- networks <- deploy"
    assert off_the_map(modules, good) == []
    assert off_the_map(modules, f"{good} <- attic") == ["attic"]
    assert off_the_map(modules | {"refqnn.cli.x": ""}, good) == ["cli"]
    swapped = "files <- nn <- ops <- networks <- deploy"
    assert off_the_map(modules, swapped) == ["ops before nn"]


def test_every_room_has_a_row():
    assert unlisted(sources(), (ROOT / "docs/rooms.md").read_text("utf-8")) == []


def test_a_room_without_a_row_is_found():
    modules = {"refqnn.ops.x": "", "refqnn.nn.x": "", "refqnn.cost": ""}
    table = "| room | what |\n| --- | --- |\n| `ops`, `nn` | `x` |\n| `cost` | y |\n\n"
    assert unlisted(modules, table) == []
    assert unlisted(modules | {"refqnn.cli.x": ""}, table) == ["cli"]
    assert unlisted(modules, table.replace("ops", "sweep")) == ["ops", "sweep"]


@pytest.mark.parametrize("name", DEFINITIONS)
def test_fast_is_complete(name):
    definition = importlib.import_module(f"refqnn.{name}")
    fast = importlib.import_module(f"refqnn.fast.{name}")
    assert public(definition), "nothing is exported"
    assert incomplete(definition, fast) == []
    assert mismatched(definition, fast) == []


class Definition:
    def f(self, *, k=1): ...


class Twin:
    def f(self, *, k=2): ...


def test_missing_and_mismatched_twins_are_found():
    assert incomplete(Definition, object) == ["f"]
    assert mismatched(Definition, Twin) == ["f"]
    assert mismatched(Definition, Definition) == []


def test_no_text_names_a_folder_of_one_machine():
    assert machine_paths(texts()) == []


@pytest.mark.parametrize("path", ["home", "tmp", "work"])
def test_machine_paths_are_found(path):
    assert machine_paths({"a": f"see /{path}/x"}) == ["a"]
    assert machine_paths({"a": f"see '/{path}/x'"}) == ["a"]
    assert machine_paths({"a": f"https://example.org/{path}/x"}) == []


def test_importing_refqnn_imports_no_third_party_package():
    assert third_party("refqnn") == []


def test_a_third_party_import_is_found():
    assert "numpy" in third_party("refqnn.geometry")


def test_every_lazy_submodule_exists():
    refqnn = importlib.import_module("refqnn")
    for name in refqnn._SUBMODULES:
        assert getattr(refqnn, name).__name__ == f"refqnn.{name}"
    with pytest.raises(AttributeError, match="no attribute 'absent'"):
        _ = refqnn.absent


def test_every_paper_has_a_row():
    text = (PACKAGE / "papers" / "README.md").read_text("utf-8")
    assert paperless(sources(), text) == []


def test_a_paper_without_a_row_is_found():
    planted = {"refqnn.papers.x": "", "refqnn.papers.__init__": ""}
    assert paperless(planted, "x.py is mentioned\n| [y.py](y.py) |") == ["x.py"]
    assert paperless(planted, "| [x.py](x.py) |") == []
    planted = {"refqnn.papers.x.y": "", "refqnn.papers.x.__init__": ""}
    assert paperless(planted, "| [y.py](y.py) |") == ["x/y.py"]
    assert paperless(planted, "| [y.py](x/y.py) |") == []


def test_every_former_name_leads_to_a_module():
    former = [m for m in sys.modules.values() if isinstance(m, moved.Moved)]
    assert len(former) > 60
    lost = [m.now for m in former if importlib.util.find_spec(m.now) is None]
    assert lost == []
