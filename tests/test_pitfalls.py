"""docs/temporal-pitfalls.md: what bit us once has a home in the code and a test, and both are still there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in (ROOT / "docs" / "temporal-pitfalls.md").read_text().splitlines()
    if line.startswith("| ") and not line.startswith("| What happens")
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:40])
def test_each_pitfall_has_a_home_and_a_test_that_exist(row: list[str]) -> None:
    """Three cells; each file and each test function is there."""
    _, home, tested = row
    homes, tests = re.findall(r"`([\w/]+\.py)`", home), re.findall(r"`([\w/]+\.py)(?:::(\w+))?`", tested)
    assert homes
    assert tests
    for path in homes:
        assert (ROOT / path).is_file(), path
    for path, name in tests:
        assert re.search(rf"def {name or 'test_'}", (ROOT / path).read_text()), f"{path}::{name}"
