"""Incident files on disk: which there are in what was named, and what `interlock incident check` says of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from runbooks.incident import Incident
from runbooks.incident_check import check_incident
from runbooks.incident_read import read_incident
from runbooks.library import Library
from runbooks.loader import CatalogError
from runbooks.policy import Policy
from worker.synthetic_spec import is_synthetic_set


class Checked(NamedTuple):
    """One file. `incident` None: it cannot be read, and `errors` say why."""

    path: Path
    incident: Incident | None
    errors: tuple[str, ...]
    warnings: tuple[str, ...]


def files_in(paths: Sequence[Path]) -> list[Path]:
    """The files as named; of folders every .yaml and .yml file, those in folders within as well. CatalogError: there is none."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix in (".yaml", ".yml") and p.is_file())
            if not inside:
                raise CatalogError([f"{path}: there is no .yaml file in this folder"])
            found += inside
        elif not path.exists():
            raise CatalogError([f"{path}: there is no such file"])
        else:
            found.append(path)
    return list(dict.fromkeys(found))


def check_files(paths: Sequence[Path], library: Library, policy: Policy) -> Iterator[Checked]:
    """Each file by itself, and whether two incidents have one name. Specifications of synthetic sets are passed over."""
    names: dict[str, Path] = {}
    for path in paths:
        try:
            if _is_set(path):
                continue
            document, incident = read_incident(path)
        except CatalogError as error:
            yield Checked(path, None, tuple(f"error: {p}" for p in error.problems), ())
            continue
        lines = [(f.severity, f.line(document)) for f in check_incident(incident, library, policy)]
        first = names.setdefault(incident.incident, path)
        if first != path:
            lines.append(
                ("error", f"error: {document.at(('incident',))}: {first} has this name too; give each its own")
            )
        yield Checked(
            path,
            incident,
            tuple(line for severity, line in lines if severity == "error"),
            tuple(line for severity, line in lines if severity == "warning"),
        )


def _is_set(path: Path) -> bool:
    """False as well for what is no YAML: read_incident says better why."""
    try:
        return is_synthetic_set(path)
    except CatalogError:
        return False
