"""Mistakes in YAML are one readable line with file, line and field."""

from __future__ import annotations

from pathlib import Path

import pytest

from runbooks.base import Model
from runbooks.loader import CatalogError, load, read
from runbooks.schema import Runbook


class Thing(Model):
    """Something to load."""

    name: str
    count: int = 1
    parts: tuple[int, ...] = ()
    on: bool = False


def _write(folder: Path, text: str) -> Path:
    path = folder / "thing.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "line", "field", "says"),
    [
        ("name: a\nname: b\n", 2, "name", "given twice, first on line 1"),
        ("name: a\nnmae: b\n", 2, "nmae", "there is no such field"),
        ("name: a\ncount: many\n", 2, "count", "valid integer"),
        ("name: a\nparts:\n  - 1\n  - x\n", 4, "parts[1]", "valid integer"),
        ("count: 2\n", 1, "name", "missing"),
        ("name: 3\n", 1, "name", "valid string"),
        ("name: a\non: off\n", 2, "on", "valid boolean"),
        ("name: a\ncount: '2'\n", 2, "count", "valid integer"),
        ("name: a\ncount: 1:30\n", 2, "count", "valid integer"),
    ],
)
def test_a_mistake_names_file_line_and_field(tmp_path: Path, text: str, line: int, field: str, says: str) -> None:
    """The text of the error alone is enough to find and mend the mistake."""
    path = _write(tmp_path, text)

    with pytest.raises(CatalogError) as caught:
        load(path, Thing)

    assert str(caught.value).startswith(f"{path}:{line}: {field}: ")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name: [\n", "not readable as YAML"),
        ("a: &x 1\nname: *x\n", "alias"),
        ("name: !!python/object/apply:os.getcwd []\n", "not readable as YAML"),
        ("", "empty"),
        ("name: !!binary aGk=\n", "only text, numbers"),
        ("- 1\n", "whole file"),
        ("? [a, b]\n: 1\n", "plain text"),
    ],
)
def test_what_is_not_a_plain_mapping_is_refused_in_one_line(tmp_path: Path, text: str, says: str) -> None:
    """No alias, no tag that builds objects, no other shape; the file is named."""
    path = _write(tmp_path, text)

    with pytest.raises(CatalogError) as caught:
        load(path, Thing)

    assert str(path) in str(caught.value)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """A wrong path is a catalogue error too, not a traceback."""
    with pytest.raises(CatalogError, match=r"gone\.yaml: cannot be read"):
        read(tmp_path / "gone.yaml")


def test_all_mistakes_of_a_file_are_listed(tmp_path: Path) -> None:
    """The text is the first mistake and says how many more there are; `problems` has each."""
    path = _write(tmp_path, "count: x\nwhat: 1\n")

    with pytest.raises(CatalogError) as caught:
        load(path, Thing)

    assert len(caught.value.problems) == 3
    assert str(caught.value).endswith("(and 2 more)")


def test_a_mistake_deep_in_a_runbook_is_found(tmp_path: Path) -> None:
    """Nested fields keep their line, and a validator's own words come through."""
    path = _write(
        tmp_path,
        "class: engine.hang\ntitle: t\napplies_to: [endpoint]\nsource: I\nsteps:\n"
        "  - lever: isolate_endpoint\n    verify:\n      criteria:\n        - {indicator: error_rate}\n",
    )

    with pytest.raises(
        CatalogError, match=r":9: steps\[0\]\.verify\.criteria\[0\]: criterion 'error_rate': give exactly"
    ):
        load(path, Runbook)


def test_scalars_mean_what_they_look_like(tmp_path: Path) -> None:
    """Only true and false are booleans; a leading zero and a time of day stay text; numbers are numbers."""
    path = _write(tmp_path, "a: no\nb: 007\nc: 1:30\nd: true\ne: 1e3\nf: -2\ng: 2026-01-01\nh:\ni: 0.5\n")

    assert read(path).data == {
        "a": "no", "b": "007", "c": "1:30", "d": True, "e": 1000.0, "f": -2, "g": "2026-01-01", "h": None, "i": 0.5,
    }  # fmt: skip
