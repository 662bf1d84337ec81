"""Old histories replay on this version and are decided the same; each kind of change that matters is noticed."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio import workflow
from temporalio.client import WorkflowHistory
from temporalio.common import RetryPolicy

from runbooks import chain, safety
from runbooks.gates.question import Gate, say
from runbooks.guard import GuardState
from runbooks.people import TellRequest
from runbooks.plan import CheckRequest
from tests.histories import FOLDER, NAMES
from worker.histories import check, files_of, read
from worker.histories_beside import ENDING, Beside, read_beside
from worker.histories_compare import NOT_HELD, Checked
from worker.histories_judge import judge_again
from worker.histories_scrub import clean
from workflows import casefile, increments, levers, steps
from workflows.casefile import CaseFile
from workflows.one_step import OneStep

KEPT = files_of([FOLDER])
HOW = "if that is as it should be: interlock histories check tests/histories --accept"
Patch = pytest.MonkeyPatch


async def decided(name: str, upto: int | None = None) -> Checked:
    """One kept history, or its first events, with what stands beside it, under the code of this process."""
    path = FOLDER / f"{name}.json"
    history = read(path)
    part = WorkflowHistory(history.workflow_id, history.events[:upto])
    return await check(name, part, read_beside(path))


async def lines(name: str) -> list[str]:
    """What differs."""
    return [d.line() for d in (await decided(name)).differences]


# --- what is kept --------------------------------------------------------------------------------------------------


def test_every_scenario_has_a_history() -> None:
    """An empty folder would replay without a complaint."""
    assert {p.stem for p in KEPT} == NAMES
    assert {p.name.removesuffix(ENDING) for p in FOLDER.glob(f"*{ENDING}")} <= NAMES


def test_no_case_is_longer_than_2000_events() -> None:
    """The bound of the design: a replay stays quick and the server's limits far away."""
    lengths = {p.stem: len(json.loads(p.read_text())["events"]) for p in KEPT}

    assert max(lengths.values()) <= 2000, lengths


@pytest.mark.parametrize("path", KEPT, ids=lambda p: p.stem)
def test_a_kept_history_names_no_machine_and_holds_no_secret(path: Path) -> None:
    """It was scrubbed when it was recorded, and scrubbing it once more changes nothing."""
    text = path.read_text()

    assert clean(text) == text


@pytest.mark.parametrize("path", KEPT, ids=lambda p: p.stem)
async def test_a_kept_history_replays_and_is_decided_the_same(path: Path) -> None:
    """A case that was opened by the last release goes on under this one: its commands, what is in them, its verdicts."""
    found = await decided(path.stem)

    assert [d.line() for d in found.differences] == [], HOW
    assert found.compared == len(found.then) > 0
    assert NOT_HELD not in found.unseen


async def test_a_history_that_breaks_off_anywhere_is_no_difference() -> None:
    """Of a case that is open, or was terminated: what was never sent is not missed."""
    whole = len(read(FOLDER / "takeover-hand-back.json").events)
    for upto in range(3, whole - 20, 7):
        found = await decided("takeover-hand-back", upto)
        assert [d.line() for d in found.differences] == [], upto


# --- what is noticed -----------------------------------------------------------------------------------------------


async def test_a_command_of_another_kind_breaks_the_replay_off_and_its_event_is_named(tmp_path: Path) -> None:
    """The replay itself: with a recorded activity renamed it must fail, in one line."""
    data = json.loads((FOLDER / "engine-hang-restored.json").read_text())
    first = next(e for e in data["events"] if "activityTaskScheduledEventAttributes" in e)
    first["activityTaskScheduledEventAttributes"]["activityType"]["name"] = "something_else"
    path = tmp_path / "renamed.json"
    path.write_text(json.dumps(data))

    found = await check("renamed", read(path))

    (one,) = found.differences
    assert one.event == int(first["eventId"])
    assert "TMPRL1100" in one.line()


async def test_a_step_that_is_dropped_is_noticed(monkeypatch: Patch) -> None:
    """Nobody is told that a decision is wanted: the commands after it are in another place."""

    async def silent(*_: Any) -> None:
        return None

    monkeypatch.setattr(CaseFile, "page_briefly", silent)

    (one,) = await lines("engine-crash-rejected")
    assert "the replay breaks off" in one


async def test_a_wait_for_people_that_is_always_over_is_noticed(monkeypatch: Patch) -> None:
    """The approval is asked for, and its answer not waited for."""

    async def at_once(one: OneStep, *_: Any) -> None:
        one.case.approvals = {}

    monkeypatch.setattr(steps, "ask", at_once)

    found = await lines("approval-expired")
    assert any("the replay breaks off" in line for line in found), found


async def test_a_changed_argument_is_noticed_with_its_path(monkeypatch: Patch) -> None:
    """The replay alone passes: the activity is of the same type in the same place."""

    def loud(**fields: Any) -> TellRequest:
        return TellRequest(**{**fields, "title": fields["title"].upper()})

    monkeypatch.setattr(casefile, "TellRequest", loud)

    (first, *_) = await lines("engine-crash-rejected")
    assert first.startswith("engine-crash-rejected: event 15: activity tell arguments[0].title: ")
    assert '"Approval asked: isolate_endpoint' in first
    assert '→ "APPROVAL ASKED: ISOLATE_ENDPOINT' in first


async def test_a_changed_argument_of_a_local_activity_is_noticed(monkeypatch: Patch) -> None:
    """No history holds it: it is beside."""

    def watching(**fields: Any) -> CheckRequest:
        return CheckRequest(**{**fields, "observe": True})

    monkeypatch.setattr(increments, "CheckRequest", watching)

    found = await lines("engine-hang-restored")
    assert found[0].endswith("local activity check arguments[0].observe: false → true"), found
    assert len(found) == 6, "one for each check"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"start_to_close_timeout": timedelta(seconds=11)}, "start_to_close_s: 10.0 → 11.0"),
        ({"heartbeat_timeout": timedelta(seconds=3)}, "heartbeat_s: 0.0 → 3.0"),
        ({"schedule_to_close_timeout": timedelta(seconds=90)}, "schedule_to_close_s: 0.0 → 90.0"),
        ({"retry_policy": RetryPolicy(maximum_attempts=2)}, "retry.attempts: 0 → 2"),
        ({"retry_policy": RetryPolicy(initial_interval=timedelta(seconds=9))}, "retry.initial_s: 0.5 → 9.0"),
        ({"task_queue": "elsewhere"}, 'task_queue: "interlock" → "elsewhere"'),
        ({"summary": "words"}, 'summary: "Write the record" → "words"'),
    ],
    ids=lambda v: next(iter(v)) if isinstance(v, dict) else v.split(".")[0],
)
async def test_changed_options_of_an_activity_are_noticed(monkeypatch: Patch, change: Any, said: str) -> None:
    """Time-outs, retries, queue and words of whatever is done remotely."""
    run = workflow.execute_activity_method

    def changed(*args: Any, **options: Any) -> Any:
        return run(*args, **{**options, **change})

    monkeypatch.setattr(workflow, "execute_activity_method", changed)

    found = await lines("self-resolved")
    assert any(said in line for line in found), found
    assert not any("breaks off" in line for line in found), "the replay alone sees nothing of it"


async def test_a_changed_timeout_of_a_local_activity_is_noticed(monkeypatch: Patch) -> None:
    """Facts, gates and Guard get eight seconds."""
    monkeypatch.setattr(increments, "CHECK", {**increments.CHECK, "start_to_close_timeout": timedelta(seconds=80)})

    found = await lines("engine-hang-restored")
    assert "local activity check start_to_close_s: 8.0 → 80.0" in found[0]
    assert "schedule" not in "".join(found)


async def test_a_changed_timeout_of_an_act_is_noticed(monkeypatch: Patch) -> None:
    """The acting activity, which is dispatched elsewhere."""
    monkeypatch.setattr(levers, "ACT", {**levers.ACT, "start_to_close_timeout": timedelta(seconds=99)})

    found = await lines("engine-hang-restored")
    assert [line.rpartition("activity ")[2] for line in found] == ["apply_traffic start_to_close_s: 15.0 → 99.0"] * 2


async def test_a_changed_length_of_a_timer_is_noticed(monkeypatch: Patch) -> None:
    """Both kinds: a wait that something may end, and a pause between two ticks."""
    wait, pause = CaseFile.wait, CaseFile.pause

    async def longer(self: CaseFile, seconds: float, *more: Any) -> bool:
        return await wait(self, seconds + 1, *more)

    async def shorter(self: CaseFile, seconds: float, summary: str) -> None:
        await pause(self, seconds / 2, summary)

    monkeypatch.setattr(CaseFile, "wait", longer)
    monkeypatch.setattr(CaseFile, "pause", shorter)

    found = await lines("engine-hang-restored")
    assert {line.partition("fires_after_s: ")[2] for line in found} == {"0.5 → 0.25", "0.5 → 1.5", "0.1 → 1.1"}, found


async def test_what_is_told_to_the_guard_is_compared(monkeypatch: Patch) -> None:
    """A release that forgets what stands would let two cases take the same pool down."""
    monkeypatch.setattr(increments, "counted", lambda rid, standing, under_way: None)

    found = await lines("engine-hang-restored")
    assert any("signal release arguments[0].stands: {" in line for line in found), found


async def test_what_the_guard_answers_is_compared(monkeypatch: Patch) -> None:
    """A Guard that sends away whom it should let wait: the answer to an update."""
    acquire = GuardState.acquire

    def generous(self: GuardState, *question: Any) -> Any:
        answer = acquire(self, *question)
        return answer.model_copy(update={"kind": "refused"}) if answer.kind == "queued" else answer

    monkeypatch.setattr(GuardState, "acquire", generous)

    found = await lines("guard-queue")
    assert any("update answer" in line and 'answer[0].kind: "queued" → "refused"' in line for line in found), found


async def test_a_changed_search_attribute_is_noticed(monkeypatch: Patch) -> None:
    """People list cases by it."""
    show = CaseFile.show

    def misspelt(self: CaseFile, state: Any = None, waiting: str = "") -> None:
        show(self, "triage" if state == "mitigated" else state, waiting)

    monkeypatch.setattr(CaseFile, "show", misspelt)

    found = await lines("engine-hang-restored")
    assert any('InterlockState: "mitigated" → "triage"' in line for line in found), found


async def test_another_end_of_a_case_is_noticed(monkeypatch: Patch) -> None:
    """The workflow's result, which `interlock cases verify` rests on."""
    monkeypatch.setattr(chain, "hashed", lambda value: "0" * 64)

    *_, last = await lines("refused-input")
    assert last.startswith("refused-input: event 19: end complete result[0].head: "), last
    assert last.endswith(f' → "{"0" * 64}"')


# --- gates ---------------------------------------------------------------------------------------------------------


def always(gate: Gate) -> Gate:
    """The same gate, which allows whatever it is asked."""

    def allows(q: Any, f: Any) -> Any:
        return say(gate(q, f).gate, "allow", "always")

    return allows


@pytest.fixture(scope="module")
async def replayed() -> list[tuple[Checked, Beside]]:
    """Each kept history once, and what stands beside it."""
    return [(await decided(p.stem), read_beside(p) or Beside()) for p in KEPT]


@pytest.mark.parametrize("number", range(len(safety.GATES)), ids=lambda n: safety.GATES[n].__name__)
async def test_a_gate_that_has_become_always_true_is_noticed(
    monkeypatch: Patch, replayed: list[tuple[Checked, Beside]], number: int
) -> None:
    """No command changes by it, in no history: the verdicts are judged again."""
    name = safety.GATES[number].__name__.partition("_")[0].upper()
    gates = tuple(always(g) if n == number else g for n, g in enumerate(safety.GATES))
    monkeypatch.setattr(safety, "GATES", gates)

    found = []
    for one, beside in replayed:
        again = Checked(one.name, one.events, one.then, asked=one.asked)
        judge_again(again, beside, len(one.events) + 1)
        found += again.differences

    assert any(d.path == name and d.now == "allow" for d in found), f"no kept history has a no of {name}"
    assert {d.path for d in found} <= {name, "verdict"}, "nothing else differs"


async def test_a_gate_that_has_become_stricter_is_noticed(monkeypatch: Patch) -> None:
    """A minimum that was met is called crossed."""
    monkeypatch.setattr("runbooks.gates.healthy.minimum", lambda policy, endpoints: endpoints)

    found = await lines("engine-hang-restored")
    assert any("verdict of check G5: " in line and "deny" in line for line in found), found


async def test_a_verdict_of_a_policy_that_is_not_there_is_said_not_to_be_judged_again() -> None:
    """Never passed over in silence."""
    path = FOLDER / "engine-hang-restored.json"
    beside = read_beside(path)
    assert beside is not None
    found = await check("x", read(path), beside.model_copy(update={"policies": {}}))

    (ref,) = beside.policies
    assert found.judged == 0
    assert found.unseen == {f"not judged again: policy {ref} is not here, give it with --policy": 6}
