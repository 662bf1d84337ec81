"""`python -m tests.write_classification`: writes the tables of docs/classification.md anew, from the catalogue."""

from __future__ import annotations

from pathlib import Path

from runbooks.library import load_library
from runbooks.taxonomy_table import with_tables

PAGE = Path(__file__).parents[1] / "docs" / "classification.md"

if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8"), load_library().taxonomy), encoding="utf-8")
