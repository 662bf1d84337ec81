"""What a history does not hold and a check of it needs: `NAME.asked.json` beside `NAME.json`.

Arguments and time-outs of local activities, the policies and the fleet under which gates have judged. And what has been
accepted since: a baseline that goes before the history's own. It is written by `record` and by `check --accept` only.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from runbooks.base import Model
from runbooks.fleet import Fleet
from runbooks.policy import Policy
from worker.errors import OperatorError

ENDING = ".asked.json"


class BadHistory(OperatorError):
    """A file that is no history, or what stands beside it is not readable; the text names it."""


class Beside(Model):
    """Event ids are keys. `policies` are by the reference that verdicts name: a later version may compute another."""

    asked: dict[int, dict[str, Any]] = Field(default_factory=dict)
    verdicts: dict[int, dict[str, str]] = Field(default_factory=dict, description="Accepted since: gate → outcome.")
    policies: dict[str, Policy] = Field(default_factory=dict)
    fleet: Fleet | None = None

    def ruled_by(self, given: Beside) -> Beside:
        """The same with these policies and this fleet, which go before its own."""
        fleet = given.fleet or self.fleet
        return self.model_copy(update={"policies": {**self.policies, **given.policies}, "fleet": fleet})


def path_beside(history: Path) -> Path:
    """Where it is."""
    return history.with_name(history.stem + ENDING)


def read_beside(history: Path) -> Beside | None:
    """None when there is none. BadHistory when it cannot be read."""
    path = path_beside(history)
    if not path.exists():
        return None
    try:
        return Beside.model_validate_json(path.read_text())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise BadHistory(f"{path}: {where}: {first['msg']}") from None


def write_beside(history: Path, kept: Beside) -> None:
    """One line per event, policy and fleet, so that a diff of it can be read. With every default: a later one may differ."""
    data = kept.model_dump(mode="json")
    parts = [
        f'"{name}": {{\n' + ",\n".join(f"{_line(str(k))}: {_line(v)}" for k, v in data[name].items()) + "\n}"
        for name in ("asked", "verdicts", "policies")
        if data[name]
    ]
    if kept.fleet is not None:
        parts.append(f'"fleet": {_line(data["fleet"])}')
    if not parts:
        path_beside(history).unlink(missing_ok=True)
        return
    path_beside(history).write_text("{\n" + ",\n".join(parts) + "\n}\n")


def _line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)
