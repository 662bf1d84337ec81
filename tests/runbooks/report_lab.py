"""What the tests of the report count: records of real cases, taken out of the committed histories, and small incident files."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from runbooks.incident import Incident
from runbooks.library import load_library
from runbooks.record import CaseRecord
from runbooks.report_rows import Row

HISTORIES = Path(__file__).parent.parent / "histories"
GROUPS: Mapping[str, str] = {c.id: c.group for c in load_library().taxonomy.classes}


@lru_cache
def closed(scenario: str) -> CaseRecord:
    """The record that a real case wrote at its close: in its history it is the input of the closing activity."""
    history = json.loads((HISTORIES / f"{scenario}.json").read_text())
    for event in history["events"]:
        activity = event.get("activityTaskScheduledEventAttributes", {})
        if activity.get("activityType", {}).get("name") == "close_case":
            (payload,) = activity["input"]["payloads"]
            return CaseRecord.model_validate_json(json.loads(base64.b64decode(payload["data"]))["record"])
    raise LookupError(f"{scenario} closed no case")


def spec(name: str = "one", **changes: Any) -> dict[str, Any]:
    """An incident file as data: one engine hangs at 5m, is seen at 7m, and people restart it at 37m."""
    truth = {
        "failure_class": "engine.hang", "group": "engine", "levers": ["restart_engine"], "detected": "7m",
        "mitigated": "37m",
    }  # fmt: skip
    data: dict[str, Any] = {
        "incident": name,
        "title": "An engine hangs",
        "kind": "synthetic",
        "sources": [{"says": "made up", "name": "us", "mark": "I"}],
        "starts": "2026-03-01T12:00:00Z",
        "lasts": "1h",
        "fleet": {
            "clusters": [{"name": "east", "nodes": 2}],
            "pools": [{"name": "chat-east", "cluster": "east", "replicas": 4}],
            "routes": [{"name": "chat", "pools": ["chat-east"], "requests_per_second": 5}],
        },
        "timeline": {
            "faults": [{"fault": "hang", "at": "5m", "pool": "chat-east", "replicas": 1}],
            "alerts": [
                {"at": "7m", "alert": "EngineHang", "target": "east/service/chat-east/endpoint/chat-east-0:8000"}
            ],
        },
        "truth": {**truth, **changes.pop("truth", {})},
        "expect": {"classes": ["engine.hang"], "outcome": ["restored"], "because": "it is the plain case"},
    }
    return data | changes


def incident(name: str = "one", **changes: Any) -> Incident:
    """The same, read."""
    return Incident.model_validate(spec(name, **changes))


def replayed(name: str = "one", **changes: Any) -> dict[str, Any]:
    """A row as `interlock replay --json` prints it: isolated, by itself, within 94 s."""
    return {
        "incident": name,
        "truth_class": "engine.hang",
        "class": "engine.hang",
        "levers": ["isolate_endpoint"],
        "refused": [],
        "outcome": "restored",
        "ttm_s": 94.0,
        "human_ttm_s": 1920.0,
        "harm": {"failed_requests": -210.0, "below_minimum_s": 0.0, "violations": []},
        "expectations_failed": [],
    } | changes


def row(name: str = "r", **changes: Any) -> Row:
    """A row of which nothing is known but what is given."""
    nothing: dict[str, Any] = {
        "name": name, "source": "case", "found_class": "engine.hang", "truth": None, "group": "engine", "automatic": None,
        "detected_after_s": None, "mitigated_after_s": None, "people_ttm_s": None, "outcome": None, "by": None,
        "mode": None, "people_s": None, "hotfix": None, "false_alarm": None,
    }  # fmt: skip
    return Row.model_validate(nothing | changes)
