"""`interlock backtest` over closed cases: what another policy would have decided, and what that would have cost."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from activities.adapters.sql import SqlJournal
from runbooks.did import Did
from runbooks.policy import ClassPolicy, Freeze, LeverPolicy, Policy
from runbooks.record import CaseRecord, sealed
from runbooks.report_case import row_of_case
from tests.runbooks.report_lab import GROUPS, closed
from tests.worker import report_cases as tales
from tests.worker.report_cases import POLICY
from worker.backtest import Read, of_journal
from worker.backtest_models import Decision, Differs
from worker.cli import app
from worker.report_read import Kept

Change = Callable[[Policy], Policy]


def dice() -> random.Random:
    return random.Random(3)


def crash(*, helped: bool = True) -> CaseRecord:
    return tales.approved(1, dice(), tales.FIRST, "engine.timeout", tales.SERVICE, better=helped)


def differing(*records: CaseRecord, b: Policy, told: list[Did] | None = None, a: Policy = POLICY) -> list[Differs]:
    """What differs, whether it can be told or not."""
    cases = [Kept(r, row_of_case(r, told or [], GROUPS), told or []) for r in records]
    found = of_journal(Read(cases, {}), a, b, tales.FLEET, "a test")
    return [*found.differ, *found.cannot_tell]


def mode(name: str, mode_: str, **more: Any) -> Policy:
    """The policy with one class changed."""
    own = POLICY.for_class(name).model_copy(update={"mode": mode_, **more})
    return POLICY.model_copy(update={"classes": {**POLICY.classes, name: own}, "version": 2})


def lever(name: str, **limits: Any) -> Policy:
    """The policy with one lever changed."""
    own = POLICY.for_lever(name).model_copy(update=limits)
    return POLICY.model_copy(update={"levers": {**POLICY.levers, name: own}, "version": 2})


def test_the_same_policy_decides_as_the_cases_went() -> None:
    """Sixty-nine cases: who acted alone acts, who asked asks, who observed observes, and what was refused is refused."""
    wanted = {
        "restored": ("acts", "asks"), "fixed": ("asks",), "observed": ("observes",), "paged": ("asks", "refused", "tells"),
        "self_resolved": ("refused", "asks"),
    }  # fmt: skip
    other = mode("infra.gpu_fault", "auto")  # of a class that never occurs
    for record in tales.weeks():
        assert differing(record, b=other) == []
        (differs,) = differing(record, b=mode(_class(record), "observe")) or [None]
        if differs is not None:
            assert differs.a.does in wanted[record.outcome or ""], record.case


def _class(record: CaseRecord) -> str:
    assert record.classification is not None
    return record.classification.failure_class


def test_a_class_that_acts_by_itself_saves_the_wait_and_says_what_did_not_help() -> None:
    """What is saved is the wait on record; an act that was taken back is a risk that is told with it."""
    good, bad = crash(), crash(helped=False)
    (saved,), (risky,) = (
        differing(good, b=mode("engine.timeout", "auto")),
        differing(bad, b=mode("engine.timeout", "auto")),
    )
    waited = row_of_case(good, [], GROUPS).asked[0].waited_s

    assert (saved.a.words(), saved.b.words()) == (
        "asks 1 of sre-oncall for recycle_connections (G7)",
        "acts recycle_connections",
    )
    assert (saved.saves_s, saved.estimated, saved.approvals, saved.risks) == (waited, False, -1, ())
    assert risky.risks == ("it did not help and was taken back, and nobody would have looked first",)


def test_what_a_person_rejected_saves_nobodys_time_by_being_done() -> None:
    """Somebody had a reason to say no, which the other policy would pass over."""
    record = tales.rejected(1, dice(), tales.FIRST, "engine.timeout", tales.SERVICE)
    (one,) = differing(record, b=mode("engine.timeout", "auto"))

    assert (one.a.answer, one.saves_s, one.risks) == ("rejected", None, ("a person had rejected it",))


def test_what_nobody_answered_saves_all_that_came_after() -> None:
    """The request expired, and people took more than half an hour by hand."""
    record = tales.expired(1, dice(), tales.FIRST, "engine.timeout", tales.SERVICE)
    (one,) = differing(record, b=mode("engine.timeout", "auto"))

    assert one.a.answer == "expired"
    assert one.saves_s == row_of_case(record, [], GROUPS).people_s
    assert one.saves_s is not None
    assert one.saves_s > 1800


def test_a_class_that_asks_costs_the_wait_that_is_usual_for_it_and_says_that_it_is_estimated() -> None:
    """Two hangs: one asked under an earlier policy, one acted alone. Without any wait on record the cost is not known."""
    alone = tales.alone(1, dice(), tales.FIRST)
    asking = mode("engine.hang", "ask")
    (one,) = differing(alone, b=asking)
    asked = tales.approved(2, dice(), tales.FIRST + timedelta(days=1), "engine.hang", tales.ENDPOINT, policy=asking)
    found = differing(alone, asked, b=asking)

    assert (one.saves_s, one.estimated, one.approvals) == (None, False, 1)
    waited = row_of_case(asked, [], GROUPS).asked[0].waited_s
    assert waited is not None
    assert [(d.saves_s, d.estimated) for d in found if d.case == alone.case] == [(-waited, True)]


def test_a_class_that_only_observed_would_have_been_as_much_earlier_as_people_took() -> None:
    """It needs somebody to have told when people did it; otherwise nothing is claimed."""
    record = tales.observed(1, dice(), tales.FIRST, "engine.hang", tales.ENDPOINT)
    did = Did(case=record.case, lever="isolate_endpoint", who="ana", at=record.opened_at + timedelta(minutes=12))
    observing, acting = mode("engine.hang", "observe"), mode("engine.hang", "auto")
    (one,) = differing(record, a=observing, b=acting, told=[did])
    (other,) = differing(record, a=observing, b=acting)

    assert (one.a.words(), one.b.words()) == ("only observes isolate_endpoint", "acts isolate_endpoint")
    assert one.saves_s == pytest.approx(720, abs=0.01)
    assert other.saves_s is None


def test_whether_a_move_that_was_never_made_would_have_asked_is_not_claimed() -> None:
    """Policy may act alone on small shares only, and how much an observed reroute would have moved is not on record."""
    (one,) = differing(tales.observed(1, dice(), tales.FIRST), b=mode("demand.surge", "auto"))

    assert one.b.words() == "cannot be told reroute_traffic (G7)"
    assert one.saves_s is None


@pytest.mark.parametrize(
    ("change", "answer", "risk"),
    [
        ({"quorum": 2}, "not_enough", "the approvals on record would not be enough"),
        ({"never": ("ana", "ben", "eva")}, "not_enough", "the approvals on record would not be enough"),
        ({"approval_ttl_s": 1.0}, "expired", "the approval on record would come too late"),
    ],
)
def test_an_approval_is_counted_by_the_other_policys_rules(change: dict[str, Any], answer: str, risk: str) -> None:
    """One on record may be too few, too late, or of somebody who may not approve."""
    (one,) = differing(crash(), b=mode("engine.timeout", "ask", **change))

    assert (one.a.answer, one.b.answer, one.risks) == ("approved", answer, (risk,))


@pytest.mark.parametrize(
    ("rule", "gate"),
    [
        (lever("isolate_endpoint", max_acts_per_hour=0), "G2"),
        (lever("isolate_endpoint", max_endpoints_down=0), "G2"),
        (lever("isolate_endpoint", max_share_down=0.1), "G2"),
        (POLICY.model_copy(update={"min_answering": 0.9}), "G5"),
    ],
)
def test_a_tighter_limit_refuses_what_helped(rule: Policy, gate: str) -> None:
    """The gate that would have refused is named, and so is what it would have cost."""
    (one,) = differing(tales.alone(1, dice(), tales.FIRST), b=rule)

    assert (one.a.does, one.b.does, one.b.gates) == ("acts", "refused", (gate,))
    assert one.risks == ("it had helped, and would be left to people",)


def test_attempts_are_counted_over_all_cases_of_the_journal() -> None:
    """The same engine three times within an hour: under one attempt an hour the second and the third are refused."""
    three = [tales.alone(10 * n, dice(), tales.FIRST + timedelta(minutes=15 * n)) for n in (1, 2, 3)]
    (first, *later) = differing(
        *three, b=lever("isolate_endpoint", attempts=1), a=lever("isolate_endpoint", attempts=5)
    )

    assert [d.case for d in (first, *later)] == [r.case for r in three[1:]]
    assert {d.b.gates for d in (first, *later)} == {("G10",)}


def test_a_freeze_of_the_other_policy_stops_changes_and_no_mitigation() -> None:
    """Weeks of mitigations within the freeze are decided alike."""
    freeze = Freeze(
        name="launch", starts=tales.FIRST - timedelta(days=1), ends=tales.FIRST + timedelta(days=90), reason="new"
    )
    frozen = POLICY.model_copy(update={"freezes": (freeze,)})

    assert differing(*tales.weeks(), b=frozen) == []


def test_what_the_record_does_not_tell_is_said_so_with_the_gate() -> None:
    """G11 saw how long a control plane took; under a shorter limit nobody knows."""
    rule = POLICY.model_copy(update={"timing": POLICY.timing.model_copy(update={"control_answer_s": 0.01})})
    (one,) = differing(tales.alone(1, dice(), tales.FIRST), b=rule)

    assert (one.a.does, one.b.does, one.b.gates) == ("acts", "cannot_tell", ("G11",))
    assert "G11" in one.b.why
    longer = POLICY.model_copy(update={"timing": POLICY.timing.model_copy(update={"control_answer_s": 60.0})})
    assert differing(tales.alone(1, dice(), tales.FIRST), b=longer) == []  # looser than what allowed it


def test_a_real_record_is_judged_as_well() -> None:
    """Of the scenario in which a person, unverified, approved a reroute; none of these policies judged it."""
    record = closed("engine-crash-approved-restored")
    ask = Policy(name="ask", default=ClassPolicy(mode="ask", accept_unverified=True))
    auto = ClassPolicy(mode="auto", accept_unverified=True)
    small = Policy(name="small", default=auto, levers={"reroute_traffic": LeverPolicy(ask_over_share=0.2)})
    (free,) = differing(record, a=ask, b=Policy(name="free", default=auto))
    (strict,) = differing(record, a=ask, b=ask.model_copy(update={"default": ClassPolicy(mode="ask")}))

    assert differing(record, a=ask, b=small) == []  # a quarter of the route at once: asks in auto, too
    assert (free.b.words(), free.saves_s) == ("acts reroute_traffic", pytest.approx(0.116, abs=0.001))
    assert strict.risks == ("the approvals on record would not be enough",)


# --- the command ---------------------------------------------------------------------------------------------------


def run(*words: str) -> tuple[int, str, str]:
    """In this process: what it prints, and its status."""
    done = CliRunner().invoke(app, ["backtest", *words])
    return done.exit_code, done.stdout, done.stderr


def written(folder: Path, name: str, policy: Policy) -> str:
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(policy.model_dump(mode="json"), sort_keys=False))
    return str(path)


@pytest.fixture
def journal(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path / 'journal.db'}"
    opened = SqlJournal(url)

    async def fill() -> None:
        for one in tales.weeks():
            await opened.close(one.case, one.workflow_id, sealed(one).text)

    asyncio.run(fill())
    opened.dispose()
    return url


def test_the_command_prints_settings_decisions_and_cases_in_eighty_columns(journal: str, tmp_path: Path) -> None:
    """It is read in a terminal, and says first how many cases differ."""
    a, b = written(tmp_path, "a", POLICY), written(tmp_path, "b", mode("engine.timeout", "auto"))
    status, out, err = run("--policy", a, "--policy", b, "--journal", journal)
    lines = out.splitlines()

    assert (status, err) == (0, "")
    assert max(map(len, lines)) <= 80
    assert lines[2].startswith("69 closed case(s) from the journal: 12 decided otherwise, 57 alike")
    assert ["classes.engine.timeout.mode", "ask", "auto"] in [line.split() for line in lines]
    assert any("did not help and was" in line for line in lines)


def test_the_command_gives_all_of_it_as_json(journal: str, tmp_path: Path) -> None:
    """The same counts as in the text, and decisions that read back as the model."""
    a, b = written(tmp_path, "a", POLICY), written(tmp_path, "b", mode("engine.timeout", "auto"))
    status, out, _ = run("--policy", a, "--policy", b, "--journal", journal, "--json")
    found = json.loads(out)

    assert status == 0
    assert (found["cases"], found["same"], len(found["differ"]), len(found["cannot_tell"])) == (69, 57, 12, 0)
    assert {d["failure_class"] for d in found["differ"]} == {"engine.timeout"}
    assert [s["field"] for s in found["settings"]] == ["classes.engine.timeout.mode"]
    assert Decision.model_validate(found["differ"][0]["a"]).does == "asks"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--policy", "{a}"], "give --policy twice, for A and for B; it was given 1 time(s)"),
        (["--policy", "{a}", "--policy", "{a}", "--policy", "{a}"], "it was given 3 time(s)"),
        (["--policy", "{a}", "--policy", "nothing.yaml"], "nothing.yaml: cannot be read"),
        (["--policy", "{a}", "--policy", "{bad}"], "bad.yaml:1: default.mode"),
        (
            ["--policy", "{a}", "--policy", "{a}", "--journal", "sqlite:////no/such.db"],
            "there is no journal at /no/such.db",
        ),
        (
            ["{a}", "--policy", "{a}", "--policy", "{a}", "--journal", "sqlite:///x.db"],
            "give files or --journal, not both",
        ),
        (["{a}", "--policy", "{a}", "--policy", "{a}", "--since", "30d"], "--since is for a journal"),
        (["--policy", "{a}", "--policy", "{a}", "--since", "lately", "--journal", "x"], "'lately' is no time"),
        (["{a}", "--policy", "{a}", "--policy", "{a}"], "a.yaml:1: "),
    ],
)
def test_bad_input_is_one_sentence_and_exit_2(tmp_path: Path, words: list[str], says: str) -> None:
    """Nothing is printed as a result, and the sentence says what to give instead."""
    bad = tmp_path / "bad.yaml"
    bad.write_text("{name: bad, default: {mode: sometimes}}\n")
    names = {"a": written(tmp_path, "a", POLICY), "bad": str(bad)}
    status, out, err = run(*(w.format(**names) for w in words))

    assert (status, out) == (2, "")
    assert says in err
