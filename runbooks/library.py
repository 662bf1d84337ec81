"""The library: taxonomy, indicators and runbooks of one catalogue folder, read together and consistent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel

from runbooks.base import Model
from runbooks.detection import Detection, TargetKind
from runbooks.fleet import Fleet
from runbooks.indicators import Dialect
from runbooks.loader import CatalogError, load
from runbooks.policy import Policy
from runbooks.schema import Runbook
from runbooks.taxonomy import Taxonomy

SHIPPED = Path(__file__).parent / "catalog"
"""The catalogue that comes with Interlock."""


class Library(Model):
    """Everything that planning needs to know, as read at one moment. `runbooks` is by file name."""

    taxonomy: Taxonomy
    dialects: dict[str, Dialect]
    runbooks: dict[str, Runbook]

    def pick(self, failure_class: str, kind: TargetKind) -> tuple[str, Runbook] | None:
        """File name and runbook for this class on a target of this kind, or None."""
        for name, runbook in self.runbooks.items():
            if runbook.failure_class == failure_class and kind.value in runbook.applies_to:
                return name, runbook
        return None


def load_library(folder: Path | None = None) -> Library:
    """Reads a catalogue folder; the shipped one when none is given. Raises CatalogError naming file, line and field."""
    root = folder or SHIPPED
    taxonomy = load(root / "taxonomy.yaml", Taxonomy)
    dialects: dict[str, Dialect] = {}
    for path in files(root / "indicators"):
        dialect = load(path, Dialect)
        if dialect.dialect in dialects:
            raise CatalogError([f"{path}:1: dialect: {dialect.dialect} is defined in another file too; keep one"])
        dialects[dialect.dialect] = dialect
    runbooks: dict[str, Runbook] = {}
    owner: dict[tuple[str, str], str] = {}
    for path in files(root / "runbooks"):
        runbook = load(path, Runbook)
        if taxonomy.get(runbook.failure_class) is None:
            raise CatalogError(
                [f"{path}:1: class: there is no failure class {runbook.failure_class!r} in the taxonomy"]
            )
        for kind in runbook.applies_to:
            first = owner.setdefault((runbook.failure_class, kind), path.name)
            if first != path.name:
                twice = f"{first} is for {runbook.failure_class} on {kind} too; take {kind} out of one"
                raise CatalogError([f"{path}:1: applies_to: {twice}"])
        runbooks[path.name] = runbook
    return Library(taxonomy=taxonomy, dialects=dialects, runbooks=runbooks)


def load_policy(path: Path | None = None) -> Policy:
    """Reads a policy file; the shipped, careful one when none is given. Raises CatalogError."""
    return load(path or SHIPPED / "policy.yaml", Policy)


def files(folder: Path) -> list[Path]:
    """The YAML files of a catalogue folder, sorted by name. Raises CatalogError when there is none."""
    found = sorted(folder.glob("*.yaml"))
    if not found:
        raise CatalogError([f"{folder}: there is no .yaml file in this folder"])
    return found


MODELS: dict[str, type[BaseModel]] = {
    "detection": Detection,
    "fleet": Fleet,
    "indicators": Dialect,
    "policy": Policy,
    "runbook": Runbook,
    "taxonomy": Taxonomy,
}


def json_schemas() -> dict[str, dict[str, Any]]:
    """The JSON Schema of each kind of file that people write, by name, for editors and for other tools."""
    return {name: model.model_json_schema(by_alias=True) for name, model in MODELS.items()}
