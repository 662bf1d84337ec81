"""Past incidents are tests: each given file is played by the real workflows, and what it expects must hold.

The synthetic ones are not among them: they are measured (docs/synthetic-incidents.md) and some fail an expectation.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
GIVEN = [path for folder in ("past", "gates", "more") for path in sorted((HERE / folder).glob("*.yaml"))]


@pytest.fixture(scope="module")
def rows() -> dict[str, dict[str, Any]]:
    """Incident → what became of it. One process: the other core is the other lane's."""
    words = [sys.executable, "-m", "worker", "replay", "--json", "--jobs", "1", *map(str, GIVEN)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode in (0, 1), done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    assert len(found) == len(GIVEN)
    return {row["incident"]: row for row in found}


@pytest.mark.timeout(1300)  # the first of them waits for all
@pytest.mark.parametrize("path", GIVEN, ids=lambda path: path.stem)
def test_what_an_incident_expects_holds_and_nothing_is_made_worse(rows: dict[str, dict[str, Any]], path: Path) -> None:
    """No expectation fails, no constraint is broken, and no more users are failed than by doing nothing."""
    name = path.read_text().partition("incident: ")[2].partition("\n")[0]
    row = rows[name]

    assert row["expectations_failed"] == [], row
    assert row["harm"]["violations"] == []
