"""What keeps the four packages what they are."""

from __future__ import annotations

import ast
from importlib.metadata import distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OURS = {"workflows", "activities", "runbooks", "worker"}
NOT_IN_WORKFLOWS = {
    "datetime.now", "http", "httpx", "io", "logging", "os", "pathlib", "random", "requests", "secrets",
    "socket", "sqlalchemy", "subprocess", "threading", "time", "uuid", "yaml", "jinja2", "worker",
}  # fmt: skip
"""What would make a replay differ or reach out. The parts of the workflows are passed through the sandbox (ADR 0003)."""


def test_no_other_distribution_owns_one_of_our_import_names() -> None:
    """PyPI has packages called workflows, runbooks and worker; beside us one of them would win."""
    owners = {
        (dist.name, str(file))
        for dist in distributions()
        if dist.name != "interlock-remediation"
        for file in dist.files or []
        if file.parts[0] in OURS or file.parts[0].removesuffix(".py") in OURS
    }

    assert owners == set()


@pytest.mark.parametrize("path", sorted((ROOT / "workflows").glob("*.py")), ids=lambda p: p.name)
def test_a_workflow_module_imports_no_clock_no_chance_and_no_io(path: Path) -> None:
    """A workflow decides; time comes from workflow.now()."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = (
            [a.name for a in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        )  # fmt: skip
        found |= {n for name in names for n in (name, name.split(".")[0])}
        if (
            isinstance(node, ast.Attribute)
            and node.attr in {"now", "utcnow", "today"}
            and isinstance(node.value, ast.Name)
        ):
            found |= {"datetime.now"} if node.value.id in {"datetime", "date"} else set()

    assert found & NOT_IN_WORKFLOWS == set()


def test_every_part_of_a_workflow_is_named_in_the_plugin() -> None:
    """Otherwise the worker stops at its start."""
    from worker.plugin import PARTS

    files = {p.stem for p in (ROOT / "workflows").glob("*.py")}

    assert set(PARTS) == files - {"__init__", "remediation", "guard"}


def test_every_test_says_what_it_shows() -> None:
    """Test docstrings are sentences."""
    silent = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
        if not ast.get_docstring(node)
    ]

    assert silent == []
