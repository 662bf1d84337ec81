"""The incident that `interlock incident new` prints, to be changed by a test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from runbooks.incident import Incident
from runbooks.incident_read import read_incident
from worker.incidents_skeleton import SKELETON


def incident(folder: Path, **changed: Any) -> Incident:
    """`changed`: by top-level field, merged into what the file has."""
    data: dict[str, Any] = yaml.safe_load(SKELETON)
    data["starts"] = "2025-01-31T10:00:00Z"
    for field, value in changed.items():
        data[field] = {**data.get(field, {}), **value} if isinstance(value, dict) else value
    path = folder / f"{data['incident']}.yaml"
    path.write_text(yaml.safe_dump(data, sort_keys=False))
    return read_incident(path)[1]
