"""A small file in place of many: `generate: {seed: …, count: …}` stands for that many synthetic incidents."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field

from runbooks.base import Model
from runbooks.incident import Incident
from runbooks.loader import build, read
from worker.synthetic import generate
from worker.synthetic_shares import PAPER


class Generate(Model):
    """Which incidents. The same two numbers give the same incidents in every release that has the same generator."""

    seed: int = Field(ge=0, le=2**31)
    count: int = Field(default=PAPER, ge=1, le=10_000)


class SyntheticSet(Model):
    """The whole file."""

    generate: Generate


def is_synthetic_set(path: Path) -> bool:
    """Whether the file is such a one. CatalogError: it is no YAML, or cannot be read."""
    data = read(path).data
    return isinstance(data, dict) and set(data) == {"generate"}


def expand(path: Path) -> list[Incident]:
    """The incidents that the file stands for. CatalogError: one line per mistake, with file, line, field and the fix."""
    wanted = build(read(path), SyntheticSet).generate
    return [made.incident for made in generate(wanted.seed, wanted.count, _processes(wanted.count))]


def _processes(count: int) -> int:
    """To start one takes as long as to make a dozen incidents."""
    return min(os.cpu_count() or 1, max(count // 24, 1))


def as_yaml(incident: Incident) -> str:
    """The incident as a file; what is as by default is left out."""
    data: dict[str, Any] = incident.model_dump(mode="json", exclude_defaults=True)
    return yaml.dump(data, Dumper=_Plain, sort_keys=False, width=120, allow_unicode=True)


class _Plain(yaml.SafeDumper):
    """Without anchors: the loader refuses them."""

    def ignore_aliases(self, data: Any) -> bool:
        """Never."""
        return True


def write(seed: int, count: int, out: Path) -> list[Path]:
    """One file each into `out`, which is made. OSError: it cannot be written."""
    out.mkdir(parents=True, exist_ok=True)
    paths = []
    for made in generate(seed, count):
        path = out / f"{made.incident.incident}.yaml"
        path.write_text(as_yaml(made.incident), encoding="utf-8")
        paths.append(path)
    return paths
