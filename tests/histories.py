"""Histories of scenarios, kept in `tests/histories/`: a later version must replay them (invariant 8 of the design).

    make histories        records them anew, when a change of the workflows is meant to end old cases

To record only those that are not there yet: `python -m tests.run tests/scenarios --record-histories`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, NamedTuple

from temporalio.client import Client, WorkflowExecutionStatus, WorkflowHandle

from activities.safety import SafetyActivities
from runbooks.detection import guard_id
from runbooks.fleet import Fleet
from runbooks.policy import Policy
from worker import histories_fetch as product
from worker.histories_beside import Beside

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
    "test_a_cancel_that_is_swallowed_by_a_release_is_heard_all_the_same": "cancelled-while-denied",
    "test_a_cancel_while_a_case_takes_back_what_it_did_ends_it_with_nothing_standing": "cancelled-while-taken-back",
    "test_what_is_taken_back_by_hand_is_peoples_and_is_not_done_anew": "taken-back-by-hand",
    "test_a_hung_engine_is_isolated_unattended_verified_and_restored_when_it_goes_on": "engine-hang-restored",
    "test_a_pool_that_lost_engines_is_rerouted_in_increments_after_approval_and_ramped_back": "engine-crash-approved-restored",
    "test_a_detection_under_the_id_of_another_target_reaches_the_right_case": "forwarded",
    "test_a_halt_stops_every_act_until_it_is_resumed_by_a_verified_person": "halted-resumed",
    "test_two_people_approve_with_two_tokens_and_then_it_acts": "two-people",
    "test_an_approval_is_taken_back_while_the_approved_step_waits_for_the_domain": "approval-taken-back",
    "test_while_envoy_answers_nothing_the_facts_are_unknown_and_nothing_is_acted_on": "facts-unknown",
    "test_an_alert_of_another_time_is_denied_by_g1_and_paged": "alert-of-another-time",
    "test_a_fault_that_returns_after_restore_is_mitigated_again_until_attempts_are_used_up_then_told": "attempts-used-up",
    "test_a_step_in_two_domains_gives_the_first_back_while_another_holds_the_second": "two-domains",
    "test_more_than_policy_lets_be_out_is_not_taken_out": "denied-blast",
    "test_a_sibling_that_gives_no_token_for_a_moment_keeps_an_isolate_waiting_and_does_not_end_it": "denied-minimum",
    "test_what_cannot_be_taken_back_waits_for_a_named_person_though_its_class_is_unattended": "irreversible-expired",
    "test_a_lever_that_works_through_what_is_sick_is_not_moved": "denied-control",
    "test_requests_of_a_pool_that_declares_no_residency_go_nowhere_else_by_this_policy": "denied-placement",
    "test_a_target_that_falls_sick_while_the_faults_of_its_domain_are_one_is_not_mended_alone": "denied-correlated",
    "test_while_changes_are_frozen_no_version_is_rolled_out": "denied-freeze",
}
"""Test → the name of its first case."""
GUARDS = {
    "test_a_halt_stops_every_act_until_it_is_resumed_by_a_verified_person": "guard-halted-resumed",
    "test_a_case_of_a_held_domain_is_queued_and_gets_its_turn_by_news_not_by_asking_again": "guard-queue",
    "test_a_case_terminated_in_the_ui_while_it_holds_the_lock_leaves_people_told_and_its_change_counted": "guard-reaps",
}
"""Test → the name of its Guard."""


class Swept(NamedTuple):
    """The nth closed workflow of this id (ending in a slash: whose id begins so), in the order of starts; of those that ended
    with this outcome, if given."""

    id: str
    nth: int = 0
    outcome: str = ""


SWEPT = {
    "rebalance-nodes-restored": Swept("remediate:halt-rebalance-nodes/"),
    "rollout-hotfix-fixed": Swept("remediate:halt-rollout-hotfix/"),
    "restart-engine-fixed": Swept("remediate:halt-restart-engine/"),
    "shed-load-restored": Swept("remediate:halt-shed-load/"),
    "reroute-undone": Swept("remediate:halt-reroute-traffic/", 1),
    "increase-capacity-undone": Swept("remediate:halt-increase-capacity/", 1),
    "domain-case": Swept("remediate:storm-ask"),
    "handed-over": Swept("remediate:storm-ask/node/", 0, "handed_over"),
    "guard-halted-in-every-step": Swept("guard:halt-rebalance-nodes"),
}
"""Name → a case of a test that keeps none itself. Taken when the next test of the session keeps something."""
NAMES = {*CHOSEN.values(), *GUARDS.values(), *SWEPT}
running = ""
"""The test that runs, while histories are recorded."""
_policies: dict[str, Policy] = {}
_fleets: list[Fleet] = []


async def keep_chosen(handle: WorkflowHandle[Any, Any]) -> None:
    """Keeps a case of the test that runs, when it is a chosen one. The first case of a test is its scenario."""
    if not running:
        return
    client: Client = handle._client
    await _keep(CHOSEN.get(running), handle)
    await _keep(GUARDS.get(running), client.get_workflow_handle(guard_id("lab")))
    for name, row in SWEPT.items():
        if not (FOLDER / f"{name}.json").exists() and (found := await _nth(client, row)) is not None:
            await _keep(name, found)


async def _nth(client: Client, row: Swept) -> WorkflowHandle[Any, Any] | None:
    how = "STARTS_WITH" if row.id.endswith("/") else "="
    query = f'WorkflowId {how} "{row.id}" AND ExecutionStatus != "Running"'
    found = sorted([one async for one in client.list_workflows(query)], key=lambda w: w.start_time)
    handles = [client.get_workflow_handle(w.id, run_id=w.run_id) for w in found]
    if row.outcome:
        done = [w.status is WorkflowExecutionStatus.COMPLETED for w in found]
        handles = [h for h, d in zip(handles, done, strict=True) if d and (await h.result())["outcome"] == row.outcome]
    return handles[row.nth] if len(handles) > row.nth else None


async def _keep(name: str | None, handle: WorkflowHandle[Any, Any]) -> None:
    """Once: what is there is of an earlier release, and stays."""
    path = FOLDER / f"{name}.json"
    if name is None or path.exists():
        return
    text = (await handle.fetch_history()).to_json()
    domain = handle.id.partition(":")[2].partition("/")[0]
    fleet = next((f for f in reversed(_fleets) if domain in f.domains()), None)
    kept = await product.keep(text, path, Beside(policies=_policies, fleet=fleet))
    for difference in kept.checked.differences:
        print(difference.line())  # this code decided otherwise a moment ago: find out why before it is committed


def _note_rules() -> None:
    """A history holds neither the policy nor the fleet by which its gates have judged."""
    made = SafetyActivities.__init__

    def noted(
        self: SafetyActivities, traffic: Any, gatherer: Any, guard: Any, policy: Policy, fleet: Fleet, *a: Any, **k: Any
    ) -> None:
        _policies[policy.ref] = policy
        _fleets.append(fleet)
        made(self, traffic, gatherer, guard, policy, fleet, *a, **k)

    SafetyActivities.__init__ = noted  # type: ignore[method-assign]


if "--record-histories" in sys.argv:
    _note_rules()
