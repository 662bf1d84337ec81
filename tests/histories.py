"""Histories of scenarios, kept in `tests/histories/`: a later version must replay them (invariant 8 of the design).

    make histories        records them anew, when a change of the workflows is meant to end old cases

Machine names and folders are taken out: a history tells what a case did, not where.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from temporalio.client import WorkflowHandle, WorkflowHistory

ROOT = Path(__file__).parent.parent
FOLDER = Path(__file__).parent / "histories"


def clean(text: str) -> str:
    """The history without this machine."""
    data = json.loads(text)
    _scrub(data)
    return json.dumps(data, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _scrub(node: Any) -> None:
    if isinstance(node, list):
        for item in node:
            _scrub(item)
    if not isinstance(node, dict):
        return
    for key, value in node.items():
        if key == "identity":
            node[key] = "somebody@somewhere" if value else value
        elif key in ("stackTrace", "binaryChecksum", "buildId"):
            node[key] = ""
        elif isinstance(value, str):
            node[key] = re.sub(r"/(?:tmp|work|root|home)/[^\s\"':]+", "/somewhere", value)
        else:
            _scrub(value)


async def keep(handle: WorkflowHandle[Any, Any], name: str) -> None:
    """Writes the history of a finished case to the folder."""
    history: WorkflowHistory = await handle.fetch_history()
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{name}.json").write_text(clean(history.to_json()))
