"""The shipped catalogue with the waits of a demo: what is measured and in which order stays as shipped."""

from __future__ import annotations

import shutil
from pathlib import Path

import yaml

from worker.settings import CATALOG

SOAK_S, DEADLINE_S, EVERY_S, CLEAR_S = 4.0, 60.0, 1.0, 6.0
"""Shipped: a soak of 20 s, a deadline of 10 minutes, a reading every 10 s, and 2 minutes without the fault."""
RUNBOOK = "infra_node_down_node.yaml"


def quick_catalog(folder: Path) -> Path:
    """A copy of the catalogue in `folder` whose runbook of a failed node waits for seconds."""
    shutil.copytree(CATALOG, folder)
    path = folder / "runbooks" / RUNBOOK
    book = yaml.safe_load(path.read_text())
    for step in book["steps"]:
        if "verify" in step:
            step["verify"] |= {"soak_s": SOAK_S, "deadline_s": DEADLINE_S, "every_s": EVERY_S}
            step["restore"] |= {"clear_for_s": CLEAR_S, "every_s": EVERY_S}
    path.write_text(yaml.safe_dump(book, sort_keys=False))
    return folder
