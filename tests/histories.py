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


CHOSEN = {
    "test_a_reject_ends_the_step_and_pages_and_nothing_was_touched": "engine-crash-rejected",
    "test_a_request_that_nobody_answers_ends_pages_and_takes_no_late_decision": "approval-expired",
    "test_takeover_stops_acting_keeps_what_stands_and_hand_back_goes_on": "takeover-hand-back",
    "test_abort_takes_back_what_stands_and_closes": "aborted",
    "test_a_run_that_is_started_with_garbage_closes_as_refused_and_people_are_told_why": "refused-input",
    "test_an_alert_that_no_rule_knows_is_unknown_and_only_pages": "unknown-paged",
    "test_an_alert_that_resolves_before_anything_is_done_closes_without_an_act": "self-resolved",
    "test_observe_mode_decides_and_records_and_touches_nothing": "observed",
    "test_a_fault_that_cannot_be_seen_now_is_held_and_then_told_to_people": "held-then-paged",
    "test_a_case_of_a_held_domain_is_queued_and_gets_its_turn_by_news_not_by_asking_again": "queued",
    "test_a_case_that_is_cancelled_in_temporal_is_recorded_and_its_change_can_be_undone_by_hand": "cancelled",
    "test_a_hung_engine_is_isolated_unattended_verified_and_restored_when_it_goes_on": "engine-hang-restored",
    "test_a_pool_that_lost_engines_is_rerouted_in_increments_after_approval_and_ramped_back": "engine-crash-approved-restored",
}
"""Test → the scenario's name."""
running = ""
"""The test that runs, while histories are recorded."""


async def keep_chosen(handle: WorkflowHandle[Any, Any]) -> None:
    """Keeps a case of the test that runs, when it is a chosen one. The first case of a test is its scenario."""
    name = CHOSEN.get(running)
    if name is not None and not (FOLDER / f"{name}.json").exists():
        await keep(handle, name)


def clean(text: str) -> str:
    """The history without this machine."""
    data = json.loads(text)
    _scrub(data)
    return json.dumps(data, indent=0, sort_keys=True, ensure_ascii=False) + "\n"


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
            gone = re.sub(r"/(?:tmp|work|root|home)/[^\s\"':]+", "/somewhere", value)
            node[key] = re.sub(r"\b\d+@[\w.-]+", "somebody@somewhere", gone)  # a sticky queue's name
        else:
            _scrub(value)


async def keep(handle: WorkflowHandle[Any, Any], name: str) -> None:
    """Writes the history of a finished case to the folder."""
    history: WorkflowHistory = await handle.fetch_history()
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{name}.json").write_text(clean(history.to_json()))
