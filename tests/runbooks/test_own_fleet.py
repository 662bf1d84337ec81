"""`interlock runbook check --fleet`: names that a runbook writes out are those of the site's own fleet."""

from __future__ import annotations

from pathlib import Path

import pytest

from runbooks.linting import check_runbook
from tests.runbooks import clusters as c

HOTFIX = """
class: engine.bad_output
title: Bring the fix
applies_to: [service]
source: "I"
steps:
  - lever: rollout_hotfix
    with:
      image: engine:fixed
      rings: {rings}
    verify:
      criteria:
        - {{indicator: rolled_out, above: 1.0}}
  - lever: page
    with: {{summary: "{{{{ target }}}}"}}
"""


def written(folder: Path, rings: str) -> Path:
    """The runbook with these rings."""
    path = folder / "hotfix.yaml"
    path.write_text(HOTFIX.format(rings=rings))
    return path


def test_rings_of_the_own_fleet_are_known_with_it_and_asked_for_without(tmp_path: Path) -> None:
    """The sample fleet of the check cannot know them; it says how they become known."""
    path = written(tmp_path, "[[big], [small]]")

    assert check_runbook(path, fleet=c.FLEET) == []
    assert all("the fleet has no pool 'big'" in p and "--fleet FILE" in p for p in check_runbook(path))


@pytest.mark.parametrize(
    ("rings", "says"),
    [
        ("[[]]", "a ring is empty"),
        ("[[big], [big]]", "stands in two rings"),
        ("[[small], [big]]", "the largest pool, big"),
    ],
)
def test_wrong_rings_are_one_sentence_and_no_traceback(tmp_path: Path, rings: str, says: str) -> None:
    """With the field that is wrong."""
    found = check_runbook(written(tmp_path, rings), fleet=c.FLEET)

    assert found
    assert all(says in problem and "rings" in problem for problem in found)
