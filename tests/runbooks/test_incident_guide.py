"""docs/incident-files.md and the JSON Schema beside it say what the models, rules and runbooks are."""

from __future__ import annotations

import re

import pytest

from runbooks.incident_check import EXAMPLES
from runbooks.incident_guide import with_parts
from runbooks.incident_schema import as_text, choices, fields, find, kinds, schema
from runbooks.library import Library
from tests.write_incident_files import GUIDE, SCHEMA

ANEW = "run `.venv/bin/python -m tests.write_incident_files`"
PLAIN_NAMES = {"fault", "name", "pool", "pools", "route", "cluster", "node", "of", "reason", "starts", "ends"}
"""What the name itself says."""


def test_the_tables_of_the_guide_are_those_of_the_code(library: Library) -> None:
    """They are generated, and must be made anew when the code changes."""
    text = GUIDE.read_text(encoding="utf-8")

    assert with_parts(text, library) == text, ANEW


def test_the_schema_beside_the_guide_is_that_of_the_models() -> None:
    """Editors check files against it, so that it must not be an old one."""
    assert SCHEMA.read_text(encoding="utf-8") == as_text(), ANEW


def test_a_guide_without_a_place_for_a_table_is_said_so(library: Library) -> None:
    """Otherwise a lost marker would silently leave a table out."""
    with pytest.raises(ValueError, match="has no lines <!-- alerts"):
        with_parts("# nothing", library)


def test_every_fault_is_in_the_table_of_sentences() -> None:
    """This table is written by hand, and a new fault must not be missing in it."""
    text = GUIDE.read_text(encoding="utf-8").partition("## Which fault")[2].partition("## Alerts")[0]
    faults = set(kinds(find(("timeline", "faults", 0)) or {}))

    assert faults == {f for f in re.findall(r"`([a-z_]+)`", text) if f in faults}
    assert "hang" in faults


def test_every_gate_is_in_the_table_of_lessons() -> None:
    """Written by hand as well: each gate that an expectation can name has its lesson."""
    text = GUIDE.read_text(encoding="utf-8").partition("Which gate is it?")[2].partition("## Common")[0]
    gates = choices(find(("expect", "refused", 0, "gate")) or {})

    assert [g for g in gates if not re.search(rf"\b{g}\b", text)] == []


def test_every_field_says_what_it_means() -> None:
    """The descriptions are the guide's text; only plain names go without one."""
    models = {**schema()["$defs"], "the file": schema()}
    silent = [
        f"{name}.{field}"
        for name, model in models.items()
        for field, node in fields(model).items()
        if field not in PLAIN_NAMES and not node.get("description")
    ]

    assert silent == []


def test_what_the_check_calls_settings_is_named_at_by_hand() -> None:
    """An author finds every setting where acts by hand are described."""
    words = str(schema()["$defs"]["ByHand"]["description"])

    assert [f for f in EXAMPLES if f not in ("image", "env", "template") and f not in words] == []
