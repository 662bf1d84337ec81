"""The incidents that `interlock replay` is given: files as they are, and sets of synthetic ones made from their seed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from runbooks.incident import Incident
from runbooks.incident_read import read_incident
from runbooks.loader import CatalogError
from worker.incidents import files_in
from worker.synthetic_spec import expand, is_synthetic_set


def incidents_in(paths: Sequence[Path]) -> list[Incident]:
    """All of them. CatalogError with every mistake of every file."""
    found: list[Incident] = []
    problems: list[str] = []
    for path in files_in(paths):
        try:
            found += expand(path) if is_synthetic_set(path) else [read_incident(path)[1]]
        except CatalogError as error:
            problems += error.problems
    names = [i.incident for i in found]
    problems += [
        f"incident {n}: two files have this name; give each its own" for n in sorted(set(names)) if names.count(n) > 1
    ]
    if problems:
        raise CatalogError(problems)
    return found
