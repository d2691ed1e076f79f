"""Small mistakes in a source: one changed comparison, number, call, return a mutant."""

import ast
from collections.abc import Iterator
from typing import NamedTuple

SWAPS = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.USub: ast.UAdd,
}
#: functions of which no test can tell the order of the arguments
COMMUTATIVE = ("max", "min", "np.maximum", "np.minimum")


class Mutant(NamedTuple):
    """One expression or statement of a file, and what stands in its place."""

    file: str
    line: int
    column: int
    #: the function or class around it
    within: str
    operator: str
    original: str
    changed: str

    def apply(self, source: str) -> str:
        """Return the source with the change."""
        content = source.encode()
        before = content.split(b"\n")[: self.line - 1]
        at = sum(len(line) + 1 for line in before) + self.column
        head, tail = content[:at], content[at:]
        assert tail.startswith(self.original.encode()), self
        return (
            head + self.changed.encode() + tail[len(self.original.encode()) :]
        ).decode()


def mutants(file: str, source: str) -> Iterator[Mutant]:
    """Yield every mutant of a source, in its order."""
    tree = ast.parse(source)
    for node, within in body_nodes(tree, ""):
        for operator, changed in changes(node):
            segment = ast.get_source_segment(source, node)
            text = ast.unparse(changed)
            if isinstance(node, ast.expr) and not isinstance(node, ast.Slice):
                text = f"({text})"
            yield Mutant(
                file,
                node.lineno,
                node.col_offset,
                within,
                operator,
                str(segment),
                text,
            )


def body_nodes(node: ast.AST, within: str) -> Iterator[tuple[ast.AST, str]]:
    """Yield what computes: no annotations, docstrings, decorators, texts or imports."""
    skipped: list[object] = []
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        within = f"{within}.{node.name}".lstrip(".")
        skipped += [*node.decorator_list, getattr(node, "returns", None)]
    if isinstance(node, ast.arg | ast.AnnAssign):
        skipped.append(node.annotation)
    for child in ast.iter_child_nodes(node):
        text = isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)
        no_code = ast.JoinedStr | ast.Import | ast.ImportFrom | ast.Raise | ast.Assert
        if text or child in skipped or isinstance(child, no_code):
            continue
        if isinstance(child, ast.expr | ast.stmt):
            yield child, within
        yield from body_nodes(child, within)


def changes(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:  # noqa: C901, PLR0912 - a case an operator
    """Yield the name of an operator and the changed node."""
    match node:
        case ast.Compare(left, [op], right) if type(op) in SWAPS:
            yield "comparison", ast.Compare(left, [SWAPS[type(op)]()], right)
        case ast.BinOp(left, op, right) if type(op) in SWAPS:
            yield "arithmetic", ast.BinOp(left, SWAPS[type(op)](), right)
        case ast.AugAssign(target, op, value) if type(op) in SWAPS:
            yield "arithmetic", ast.AugAssign(target, SWAPS[type(op)](), value)
        case ast.UnaryOp(ast.USub(), operand):
            yield "arithmetic", operand
        case ast.UnaryOp(ast.Not(), operand):
            yield "boolean", operand
        case ast.BoolOp(op, values):
            yield "boolean", ast.BoolOp(SWAPS[type(op)](), values)
        case ast.IfExp(test, body, orelse):
            yield "boolean", ast.IfExp(test, orelse, body)
        case ast.Constant(bool(value)):
            yield "constant", ast.Constant(not value)
        case ast.Constant(int(value) | float(value)):
            yield "constant", ast.Constant(value + 1)
            yield "constant", ast.Constant(value - 1)
        case ast.Return(value) if value is not None and not is_none(value):
            yield "return", ast.Return(ast.Constant(None))
        case ast.Slice(lower, upper, step):
            for bound in (b for b in (lower, upper) if b is not None):
                moved = ast.BinOp(bound, ast.Add(), ast.Constant(1))
                pair = (moved, upper) if bound is lower else (lower, moved)
                yield "slice", ast.Slice(*pair, step)
        case ast.Expr(ast.Call()):
            yield "dropped call", ast.Pass()
        case ast.Call(_, [first]) if not isinstance(first, ast.Starred):
            yield "dropped call", first
        case ast.Call(function, [first, second, *rest], keywords):
            name = "same" if ast.unparse(function) in COMMUTATIVE else "swapped"
            yield name, ast.Call(function, [second, first, *rest], keywords)


def is_none(node: ast.AST) -> bool:
    """Say whether a node is the constant None."""
    return isinstance(node, ast.Constant) and node.value is None
