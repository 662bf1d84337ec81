"""Adding a lever is a list of edits, and mypy names those that were forgotten: shown with arms that are missing."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("runbooks", "activities", "workflows")
CONFIG = """\
[mypy]
strict = True
plugins = pydantic.mypy
enable_error_code = ignore-without-code, exhaustive-match
[mypy-pynvml.*,envoy.*]
ignore_missing_imports = True
"""
MODEL = '''class DefragCache(Model):
    """Only in this test."""

    lever: Literal["defrag_cache"] = "defrag_cache"
    pool: Name


'''
ARMS = {
    ("runbooks/levers.py", "kind"),
    ("runbooks/levers.py", "takes_back_whole"),
    ("runbooks/levers.py", "direction"),
    ("runbooks/reach.py", "pools_touched"),
    ("runbooks/reach.py", "envelope_of"),
    ("runbooks/increments.py", "plan_change"),
    ("runbooks/cluster_increments.py", "plan_cluster_change"),
    ("runbooks/levers.py", "is_change"),
    ("workflows/levers.py", "apply"),
    ("workflows/levers.py", "read_back"),
}
"""Every function with a match over all levers, or over those of clusters and nodes: what a new one has to be told to."""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the packages, to forget something in."""
    root = tmp_path_factory.mktemp("tree")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    (root / "mypy.ini").write_text(CONFIG, encoding="utf-8")
    return root


def mypy(root: Path) -> str:
    """What mypy says of the copy: its levers, and all that is reached from where they are moved. The second look is quick."""
    run = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", "mypy.ini", "--cache-dir", ".cache", "workflows", "runbooks"],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return run.stdout + run.stderr


def around(root: Path, place: str) -> tuple[str, str]:
    """File and function of a `file.py:line`."""
    name, _, line = place.rpartition(":")
    above = (root / name).read_text(encoding="utf-8").splitlines()[: int(line)]
    found = [m.group(1) for text in above if (m := re.match(r"(?:async )?def (\w+)", text))]
    return name, found[-1]


def test_a_lever_that_is_only_in_the_union_is_an_error_at_every_arm_that_it_lacks(tree: Path) -> None:
    """The copy has no error; with a model in the union and nowhere else, mypy names exactly the missing arms."""
    clean = mypy(tree)
    assert "Success" in clean, clean
    levers = tree / "runbooks" / "levers.py"
    text = levers.read_text(encoding="utf-8")
    with_model = text.replace("class Page(Model):", MODEL + "class Page(Model):", 1)
    with_union = with_model.replace(
        "NodeStep = ResetGpu | RebootNode\n", "NodeStep = ResetGpu | RebootNode | DefragCache\n"
    )
    assert with_union != with_model != text
    levers.write_text(with_union, encoding="utf-8")

    said = mypy(tree)

    errors = re.findall(r"^(\S+?:\d+): error: (.*?)\s+\[([\w-]+)\]$", said, re.MULTILINE)
    missing = {around(tree, place) for place, _, code in errors if code in ("exhaustive-match", "arg-type")}
    assert missing == ARMS, said
    assert all("DefragCache" in text for _, text, _ in errors), said
