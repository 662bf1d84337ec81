"""Mutants of a source file: each is one function (or module constant) with one small change. Pure; nothing is written.

What is changed: comparisons (their negation and their bound), and/or and each of their operands, not, conditions, integer
and float constants, outcome words, texts, arithmetic, dropped statements, early returns, dropped keyword arguments,
elements of displays, filters of comprehensions, min/max and any/all, dropped calls of abs, set and sorted.
"""

from __future__ import annotations

import ast
import copy
import dataclasses
import gc
import re
from collections.abc import Callable, Iterator
from functools import partial

OUTCOMES = ("allow", "ask", "hold", "deny")
BOUND: dict[type[ast.cmpop], type[ast.cmpop]] = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt}
NOT: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.GtE, ast.LtE: ast.Gt, ast.Gt: ast.LtE, ast.GtE: ast.Lt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult,
}  # fmt: skip
OTHER_NAME = {"min": "max", "max": "min", "any": "all", "all": "any"}
UNWRAPPED = frozenset({"abs", "set", "sorted"})
Unit = ast.FunctionDef | ast.Assign | ast.AnnAssign


@dataclasses.dataclass(frozen=True)
class Mutant:
    """One change. `path` names the function or constant in its module."""

    file: str
    path: str
    line: int
    what: str
    build: Callable[[], Unit] = dataclasses.field(compare=False, repr=False)
    """The changed function or assignment, ready to be compiled: made when it is wanted, since there are thousands."""
    number: int = 0

    @property
    def key(self) -> str:
        """What it is called in equivalent.yaml: stable while the function is, wherever in the file it stands."""
        return f"{self.file}::{self.path}: {self.what}" + (f" ({self.number})" if self.number else "")

    def __str__(self) -> str:
        return f"{self.file}:{self.line} {self.path}: {self.what}"


def parsed(source: str) -> ast.Module:
    """Python 3.11 may say "AST constructor recursion depth mismatch" when a collection runs meanwhile; asked again it does
    not."""
    for _ in range(4):
        try:
            return ast.parse(source)
        except SystemError:
            gc.collect()
    return ast.parse(source)


def units(tree: ast.Module) -> Iterator[tuple[str, Unit]]:
    """Functions and methods by dotted path, and the module's constants. Fields of models are data and names of types
    are nothing that runs."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            yield node.name, node
        elif isinstance(node, ast.ClassDef):
            for child in node.body:
                if isinstance(child, ast.FunctionDef):
                    yield f"{node.name}.{child.name}", child
        elif (
            isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and not isinstance(node.value, ast.Subscript)
            and node.targets[0].id != "__all__"
        ):
            yield node.targets[0].id, node
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            yield node.target.id, node


def mutants_of(file: str, source: str) -> list[Mutant]:
    """All mutants of one file, in the order of its lines."""
    out: list[Mutant] = []
    for path, unit in units(parsed(source)):
        seen: dict[str, int] = {}
        for line, what, build in _changes(unit):
            seen[what] = seen.get(what, -1) + 1
            out.append(Mutant(file, path, line, what, build, seen[what]))
    return out


def _changes(unit: Unit) -> Iterator[tuple[int, str, Callable[[], Unit]]]:
    roots: list[ast.AST]
    if isinstance(unit, ast.FunctionDef):
        has_doc = ast.get_docstring(unit, clean=False) is not None
        roots = [*unit.body[1 if has_doc else 0 :], *unit.args.defaults, *(d for d in unit.args.kw_defaults if d)]
    else:
        assert unit.value is not None
        roots = [unit.value]
    last = unit.body[-1] if isinstance(unit, ast.FunctionDef) else None
    for root in roots:
        if (
            root is last
            and isinstance(root, ast.Return)
            and isinstance(root.value, ast.Constant)
            and root.value.value is None
        ):
            continue  # a function that ends returns None
        for node in _walk(root):
            for what, edit in _edits(node):
                yield getattr(node, "lineno", unit.lineno), what, partial(_apply, unit, node, edit)


def _walk(root: ast.AST) -> Iterator[ast.AST]:
    """Every node that is executed: no annotation, and no assert, which only tells the type checker."""
    if isinstance(root, ast.Assert) or (
        isinstance(root, ast.Expr) and isinstance(root.value, ast.Call) and _named(root.value) == "assert_never"
    ):
        return
    yield root
    for field, value in ast.iter_fields(root):
        if field in ("annotation", "returns", "ctx"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _walk(child)


Edit = Callable[[ast.AST], ast.AST | None]
"""From a copy of the node to what stands in its place; None: the copy was changed itself."""


def _apply(unit: Unit, node: ast.AST, edit: Edit) -> Unit:
    memo: dict[int, object] = {}
    twin = copy.deepcopy(unit, memo)
    mine = memo[id(node)]
    assert isinstance(mine, ast.AST)
    other = edit(mine)
    if other is not None:
        _replace(twin, mine, other)
    ast.fix_missing_locations(twin)
    return twin


def _replace(root: ast.AST, old: ast.AST, new: ast.AST) -> None:
    for parent in ast.walk(root):
        for field, value in ast.iter_fields(parent):
            if value is old:
                setattr(parent, field, ast.copy_location(new, old))
                return
            if isinstance(value, list):
                for at, child in enumerate(value):
                    if child is old:
                        value[at] = ast.copy_location(new, old)
                        return
    raise LookupError("the node is not in the tree")


def _text(node: ast.AST) -> str:
    return re.sub(r"\s+", " ", ast.unparse(node))[:90]


def _named(call: ast.Call) -> str:
    return (
        call.func.id
        if isinstance(call.func, ast.Name)
        else call.func.attr
        if isinstance(call.func, ast.Attribute)
        else ""
    )


def _edits(node: ast.AST) -> Iterator[tuple[str, Edit]]:
    match node:
        case ast.Compare():
            yield from _comparison(node)
        case ast.BoolOp():
            other = ast.Or if isinstance(node.op, ast.And) else ast.And
            yield f"{_text(node)} → {other.__name__.lower()}", _set("op", other())
            for at, part in enumerate(node.values):
                yield f"{_text(node)} → without {_text(part)}", _drop("values", at)
        case ast.UnaryOp(op=ast.Not() | ast.USub()):
            yield f"{_text(node)} → {_text(node.operand)}", _only("operand")
        case ast.If() | ast.IfExp():
            for word in (True, False):
                yield f"if {_text(node.test)} → if {word}", _set("test", ast.Constant(word))
        case ast.Constant():
            yield from _constant(node)
        case ast.BinOp() | ast.AugAssign():
            yield from _operation(node)
        case ast.Call():
            yield from _call(node)
        case ast.Tuple() | ast.List() | ast.Set() | ast.Dict():
            yield from _display(node)
        case ast.comprehension():
            for at, test in enumerate(node.ifs):
                yield f"for … if {_text(test)} → no filter", _drop("ifs", at)
        case ast.Return() if node.value is not None and not isinstance(node.value, ast.Constant):
            yield f"{_text(node)} → return None", _set("value", ast.Constant(None))
            yield f"{_text(node)} → dropped", _gone
        case ast.Assign() | ast.AnnAssign() | ast.Expr() | ast.Return() | ast.Continue() | ast.Break() | ast.Delete():
            yield f"{_text(node)} → dropped", _gone
        case ast.For():
            yield f"for {_text(node.target)} in {_text(node.iter)} → no round", _set("iter", ast.Tuple([], ast.Load()))
        case _:
            return


def _comparison(node: ast.Compare) -> Iterator[tuple[str, Edit]]:
    for at, op in enumerate(node.ops):
        for other in filter(None, (NOT.get(type(op)), BOUND.get(type(op)))):
            yield f"{_text(node)} → {other.__name__}", _set("ops", [*node.ops[:at], other(), *node.ops[at + 1 :]])


def _constant(node: ast.Constant) -> Iterator[tuple[str, Edit]]:
    value = node.value
    others: list[object] = []
    if isinstance(value, bool):
        others = [not value]
    elif isinstance(value, int | float):
        others = [value + 1, value - 1]
    elif isinstance(value, str):
        others = [o for o in OUTCOMES if o != value] if value in OUTCOMES else [f"{value}~"]
    for other in others:
        yield f"{value!r} → {other!r}", _set("value", other)


def _operation(node: ast.BinOp | ast.AugAssign) -> Iterator[tuple[str, Edit]]:
    other = ARITHMETIC.get(type(node.op))
    if other is not None:
        yield f"{_text(node)} → {other.__name__}", _set("op", other())
    if isinstance(node, ast.AugAssign):
        yield f"{_text(node)} → dropped", _gone
    elif isinstance(node.op, ast.BitOr):
        yield f"{_text(node)} → {_text(node.left)}", _only("left")
        yield f"{_text(node)} → {_text(node.right)}", _only("right")


def _call(node: ast.Call) -> Iterator[tuple[str, Edit]]:
    for at, keyword in enumerate(node.keywords):
        yield f"{_named(node)}(… {_text(keyword)}) → without it", _drop("keywords", at)
    name = _named(node)
    if isinstance(node.func, ast.Name) and name in OTHER_NAME:
        yield f"{name} → {OTHER_NAME[name]}", _set("func", ast.Name(OTHER_NAME[name], ast.Load()))
    if isinstance(node.func, ast.Name) and name in UNWRAPPED and len(node.args) == 1:
        yield f"{_text(node)} → {_text(node.args[0])}", _only("args")
    if isinstance(node.func, ast.Attribute) and name == "get" and len(node.args) == 2:
        yield f"{_text(node)} → no default", _drop("args", 1)


def _display(node: ast.Tuple | ast.List | ast.Set | ast.Dict) -> Iterator[tuple[str, Edit]]:
    if isinstance(getattr(node, "ctx", None), ast.Store):
        return
    if isinstance(node, ast.Dict):
        for at, key in enumerate(node.keys):
            yield f"{{…}} → without {_text(key) if key else '**'}", _drop("keys", at, "values")
    else:
        for at, part in enumerate(node.elts):
            yield f"{_text(node)} → without {_text(part)}", _drop("elts", at)


def _set(field: str, value: object) -> Edit:
    """Puts something else there."""
    return lambda node: setattr(node, field, value)


def _only(field: str) -> Edit:
    """Of the whole only this part is left."""

    def edit(node: ast.AST) -> ast.AST:
        part = getattr(node, field)
        left = part[0] if isinstance(part, list) else part
        assert isinstance(left, ast.AST)
        return left

    return edit


def _drop(field: str, at: int, *beside: str) -> Edit:
    """Drops one part, and what belongs to it; a boolean expression with one part left is that part."""

    def edit(node: ast.AST) -> ast.AST | None:
        for name in (field, *beside):
            del getattr(node, name)[at]
        left = getattr(node, field)
        return left[0] if isinstance(node, ast.BoolOp) and len(left) == 1 else None

    return edit


def _gone(_: ast.AST) -> ast.AST:
    return ast.Pass()
