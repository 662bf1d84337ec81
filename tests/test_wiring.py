"""Everything that is referenced is registered, and everything that is registered is used."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from runbooks.levers import LEVERS
from runbooks.library import load_library
from runbooks.safety import GATES

ROOT = Path(__file__).parent.parent


def defined() -> dict[str, str]:
    """Activity name → `Class.method` of every activity that is defined."""
    out = {}
    for path in (ROOT / "activities").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.ClassDef):
                continue
            for item in node.body:
                for mark in getattr(item, "decorator_list", []):
                    if isinstance(mark, ast.Call) and getattr(mark.func, "attr", "") == "defn":
                        out[str(ast.literal_eval(mark.keywords[0].value))] = f"{node.name}.{item.name}"  # type: ignore[attr-defined]
    return out


def test_every_activity_is_registered_and_called() -> None:
    """An activity that no worker has would hang its case; one that nobody calls is dead."""
    wiring = (ROOT / "worker" / "wiring.py").read_text()
    called = "".join(p.read_text() for p in (ROOT / "workflows").glob("*.py"))
    registered = re.findall(r"^        \w+\.(\w+),$", wiring, re.MULTILINE)

    for name, where in defined().items():
        assert where.split(".")[1] in registered, f"{name} is not registered in worker/wiring.py"
        assert where in called, f"{name} is called by no workflow"


def test_every_lever_and_gate_has_its_line_in_the_readme() -> None:
    """The README is what a newcomer believes."""
    readme = (ROOT / "README.md").read_text()

    for lever in LEVERS:
        assert f"`{lever}`" in readme
    for gate in GATES:
        assert f"| {gate.__name__.split('_')[0].upper()} |" in readme
    for row in load_library(None).taxonomy.classes:
        assert f"| `{row.id}` | {row.definition} |" in readme
