"""`python -m tests.write_incident_files`: writes what docs/incident-files.md has from the code anew, and the JSON Schema beside it."""

from __future__ import annotations

from pathlib import Path

from runbooks.incident_guide import with_parts
from runbooks.incident_schema import as_text
from runbooks.library import load_library

DOCS = Path(__file__).parents[1] / "docs"
GUIDE, SCHEMA = DOCS / "incident-files.md", DOCS / "incident.schema.json"

if __name__ == "__main__":
    GUIDE.write_text(with_parts(GUIDE.read_text(encoding="utf-8"), load_library()), encoding="utf-8")
    SCHEMA.write_text(as_text(), encoding="utf-8")
