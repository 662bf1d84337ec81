"""The README's table of gates is the gates' own word, and each names what it was learnt from."""

from __future__ import annotations

import re

import pytest

from runbooks.facts import Unknown
from runbooks.gate_table import ASKABLE, NO_FACT, gate_id, table, told, unknown_does, with_table
from runbooks.gates.question import Gate
from runbooks.safety import GATES, judge
from tests.runbooks.gate_lab import facts, policy, question
from tests.write_readme import README

LEARNT = re.compile(
    r"\b(oai|anthropic|gcp)-20\d\d-\d\d(-\d\d)?\b|\b(NVSentinel|gonka|node-operation-controller) #\d+|our inference"
)
"""A published post-mortem, a user's complaint, or the honest word that it is neither."""


def test_the_readme_has_the_table_of_these_gates() -> None:
    """When this fails: `python -m tests.write_readme`."""
    text = README.read_text(encoding="utf-8")
    assert with_table(text) == text


@pytest.mark.parametrize("gate", GATES, ids=gate_id)
def test_each_gate_says_what_it_wants_and_from_what_it_was_learnt(gate: Gate) -> None:
    """One sentence that holds by itself, and then the incident."""
    wants, why = told(gate)
    assert len(wants) > 20
    assert LEARNT.search(why), f"{gate_id(gate)}: {why}"
    assert "|" not in wants + why


def test_the_table_has_a_row_for_each_gate_in_their_order() -> None:
    """Sixteen of them."""
    rows = table().splitlines()[2:]
    assert [row.split(" | ")[0] for row in rows] == [f"| G{n}" for n in range(1, 17)]


def test_a_text_without_a_place_for_the_table_is_an_error() -> None:
    """Never a README that silently keeps its old one."""
    with pytest.raises(ValueError, match="gates: end"):
        with_table("# Interlock")


@pytest.mark.parametrize("gate", GATES, ids=gate_id)
def test_what_the_table_says_about_an_unknown_is_what_the_gate_does(gate: Gate) -> None:
    """Denies, or asks where policy lists it, or needs no fact at all."""
    name = gate_id(gate)
    lost = ("evidence_at", "fault", "before", "pools", "guard", "verifier", "skew_s", "control")
    nothing = facts(**dict.fromkeys(lost, Unknown(why="x")))
    listing = judge(question(policy=policy(ask_on_unknown=ASKABLE)), nothing)
    found = next(g.outcome for g in listing.gates if g.gate == name)
    if name in NO_FACT or name == "G15":  # an isolation is no change: G15 has a table of its own
        assert found == "allow"
    else:
        assert found == ("ask" if unknown_does(gate).startswith("denies, or asks") else "deny")
