"""A history without the machine that it was recorded on, and without what looks like a secret."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

from runbooks.redact import redacted

_PATHS = re.compile(r"/(?:tmp|work|root|home)/[^\s\"':]+")
_PROCESSES = re.compile(r"\b\d+@[\w.-]+")
EMPTIED = ("stackTrace", "binaryChecksum", "buildId")


def clean(text: str) -> str:
    """The JSON of a history, scrubbed, with sorted keys, a line per value: it is read in diffs. Twice is as once.

    Workers' names and folders go; targets stay, since the case is about them. Payloads are opened for secrets only: their
    texts are bound by the hash of a record.
    """
    data = json.loads(text)
    _scrub(data)
    return json.dumps(data, indent=0, sort_keys=True, ensure_ascii=False) + "\n"


def _scrub(node: Any) -> None:
    if isinstance(node, list):
        for item in node:
            _scrub(item)
    if not isinstance(node, dict):
        return
    if set(node) == {"data", "metadata"} and "encoding" in node["metadata"]:
        _payload(node)
        return
    for key, value in node.items():
        if key == "identity":
            node[key] = "somebody@somewhere" if value else value
        elif key in EMPTIED:
            node[key] = ""
        elif isinstance(value, str):
            # A sticky queue has the name of a process.
            node[key] = _PROCESSES.sub("somebody@somewhere", _PATHS.sub("/somewhere", value))
        else:
            _scrub(value)


def _payload(node: dict[str, Any]) -> None:
    data = base64.b64decode(node["data"])
    try:
        value = json.loads(data)
        safe = redacted(value)
    except (ValueError, RecursionError):
        # Anybody may send anything: what is no JSON is looked through as a text.
        text = data.decode(errors="surrogateescape")
        if (plain := redacted(text)) != text:
            node["data"] = base64.b64encode(plain.encode(errors="surrogateescape")).decode()
        return
    if safe != value:
        node["data"] = base64.b64encode(json.dumps(safe, separators=(",", ":")).encode()).decode()
