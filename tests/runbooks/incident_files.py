"""A small incident file, and how tests edit it."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

from runbooks.incident_read import read_incident
from runbooks.loader import CatalogError
from worker.incidents_skeleton import SKELETON

Data = dict[str, Any]
Edit = Callable[[Data], object]
STARTS = "2025-01-31T10:00:00Z"
PLAIN: Data = yaml.safe_load(SKELETON.replace(STARTS, f'"{STARTS}"'))  # plain YAML would make a date of it


def data(edit: Edit) -> Data:
    """The skeleton as data, edited."""
    made = deepcopy(PLAIN)
    edit(made)
    return made


def write(folder: Path, edit: Edit, name: str = "mine.yaml") -> Path:
    """The file of it."""
    path = folder / name
    path.write_text(yaml.safe_dump(data(edit), sort_keys=False), encoding="utf-8")
    return path


def mistakes(folder: Path, edit: Edit) -> list[str]:
    """What reading it says, without the folder: `mine.yaml:LINE: field: sentence`."""
    path = write(folder, edit)
    try:
        read_incident(path)
    except CatalogError as error:
        return [p.removeprefix(f"{folder}/") for p in error.problems]
    return []
