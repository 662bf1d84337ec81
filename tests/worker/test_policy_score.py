"""What a class would have done against what people did, on a real journal; and once through a real case in observe mode."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from activities.adapters.sql import SqlJournal
from runbooks.did import Did, in_force
from runbooks.policy import ClassPolicy
from runbooks.policy_score import ENOUGH, Score, as_text
from runbooks.record import CaseRecord
from tests import lab as labs
from tests.scenarios.hostile import ended, hang, measured
from tests.worker import observed as cases
from worker.errors import OperatorError
from worker.scores import NoJournal, moment, open_journal, score_of, tell

NOW = cases.NOON + timedelta(days=1)
ISOLATED: dict[str, Any] = {"lever": "isolate_endpoint", "who": "ana"}


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[SqlJournal]:
    """A file."""
    opened = SqlJournal(f"sqlite:///{tmp_path / 'journal.db'}")
    yield opened
    opened.dispose()


async def closed(journal: SqlJournal, *records: CaseRecord) -> None:
    for one in records:
        await journal.close(one.case, one.workflow_id, cases.text(one))


async def scored(journal: SqlJournal, since: datetime | None = None) -> Score:
    return await score_of(journal, "engine.hang", since)


def ends(found: Score) -> list[str]:
    return [c.ending for c in found.cases]


async def test_each_way_that_a_case_can_compare(journal: SqlJournal) -> None:
    """The would-be decision is the gates' and the Guard's, the deed is people's word."""
    refused = "refused: 7 acts in domain sample in the last hour; the limit is 6 (G2)"
    told: list[tuple[CaseRecord, dict[str, Any] | None, str]] = [
        (cases.record(0), ISOLATED, "agreed"),
        (cases.record(1), {**ISOLATED, "target": cases.target(1).id}, "agreed"),
        (cases.record(2), {**ISOLATED, "target": cases.target(3).id}, "same_lever"),
        (cases.record(3), {"lever": "restart_engine", "who": "ana"}, "other_lever"),
        (cases.record(4), {"lever": "other", "who": "ana"}, "other_lever"),
        (cases.record(5), {"lever": "none", "who": "ana"}, "acted_alone"),
        (cases.record(6, cases.nobody_answers), ISOLATED, "refused"),
        (cases.record(7, guard=refused), ISOLATED, "refused"),
        (cases.record(8, cases.nobody_knows), {"lever": "none", "who": "ana"}, "both_waited"),
        (cases.record(9, verdicts=[], steps=[]), ISOLATED, "paged_only"),
        (cases.record(10), None, "untold"),
    ]
    for record, said, _ in told:
        await closed(journal, record)
        if said is not None:
            await tell(journal, record.case, said, NOW)
    found = await scored(journal)

    assert ends(found) == [ending for _, _, ending in told]
    assert found.cases[6].would.gates == ("G3", "G5")
    assert found.cases[7].would.gates == ("Guard",)
    assert found.cases[8].would.gates == ("G16",)
    assert found.cases[0].would.targets == (cases.target(0).id,)
    assert found.cases[0].would.note.endswith("out of rotation in pool-a")
    assert len(found.disagreements) == 7
    assert not found.enough


async def test_the_page_says_numbers_with_what_they_are_of_and_no_share_of_a_handful(journal: SqlJournal) -> None:
    """Eleven are too few, and every disagreement is there with its case."""
    await test_each_way_that_a_case_can_compare(journal)
    lines = [" ".join(line.split()) for line in as_text(await scored(journal)).splitlines()]

    assert lines[0] == "Observed: 11 closed case(s) of engine.hang; people told what they did in 10"
    assert "agreed: same lever, same target 2 of 10" in lines
    assert "would have acted, people did nothing 1 of 10" in lines
    assert "would have been refused, people acted 2 of 10" in lines
    assert "refused by G3 in 1, G5 in 1, Guard in 1" in lines
    assert "how much earlier than people: not known, nobody told when (--at)" in lines
    assert "TOO FEW TO PROMOTE: 10 case(s) with people's word, and fewer than 20 say nothing about a class" in lines
    assert not [line for line in lines if "%" in line]
    assert lines[-14::2] == [c.case for c in (await scored(journal)).disagreements]
    assert lines[lines.index(cases.record(5).case) + 1] == (
        "would have acted alone: Interlock isolate_endpoint; people nothing (ana)"
    )
    assert lines[lines.index(cases.record(6).case) + 1].startswith(
        "would have been refused: Interlock isolate_endpoint refused (G3: pool-b is asked for 400 tokens/s and the 0 endpoint(s)"
    )


async def test_enough_cases_give_shares_and_say_how_much_earlier(journal: SqlJournal) -> None:
    """Twenty; a median with its range, and whether it helped."""
    for n in range(ENOUGH):
        record = cases.record(n, at=cases.NOON + timedelta(hours=n))
        await closed(journal, record)
        late = record.opened_at + timedelta(seconds=61 if n else -29)
        await tell(journal, record.case, {**ISOLATED, "at": late, "helped": "yes" if n % 2 else "no"}, NOW)
    found = await scored(journal)
    lines = [" ".join(line.split()) for line in as_text(found).splitlines()]

    assert found.enough
    assert "agreed: same lever, same target 20 of 20 (100%)" in lines
    assert "it helped in 10, it did not in 10, nobody said in 0" in lines
    assert "earlier than people by 60 s (median of 20, from -30 s to 60 s)" in lines
    assert lines[-1] == (
        "20 cases with people's word, and no disagreement among them; but in 10 of the agreed it did not help"
    )


async def test_only_closed_cases_of_the_class_that_observed_count(journal: SqlJournal) -> None:
    """Not another class, not another mode, not one that the domain's case has, and not before `since`."""
    await closed(
        journal,
        cases.record(0, failure_class="engine.crash"),
        cases.record(1, mode="ask"),
        cases.record(2, outcome="handed_over"),
        cases.record(3, at=cases.NOON - timedelta(days=3)),
        cases.record(4),
    )

    assert [c.case for c in (await scored(journal, cases.NOON - timedelta(days=1))).cases] == [cases.record(4).case]
    assert len((await scored(journal)).cases) == 2


async def test_a_record_of_another_version_is_counted_as_not_read(journal: SqlJournal) -> None:
    """It is no agreement, and no silence either."""
    data = json.loads(cases.text(cases.record(0)))
    await journal.close("old#1", "old", json.dumps({**data, "from_another_version": 1}))
    found = await scored(journal)

    assert (len(found.cases), found.unreadable) == (0, 1)
    assert "1 closed record(s) are of another version" in as_text(found)


async def test_cases_under_two_runbooks_are_told_apart(journal: SqlJournal) -> None:
    """What the old runbook would have done says little about the new one."""
    await closed(journal, cases.record(0), cases.record(1, runbook="engine_hang.yaml@2"))

    assert "under more than one runbook, so look at --since: engine_hang.yaml@1 1, engine_hang.yaml@2 1" in as_text(
        await scored(journal)
    )


async def test_a_word_on_what_there_is_not_is_refused_in_one_sentence(journal: SqlJournal) -> None:
    """No such case; several; no such lever; no target; not yet."""
    await closed(journal, cases.record(0), cases.record(8))
    workflow, case = cases.record(0).workflow_id, cases.record(0).case
    for name, said, why in (
        ("nothing", ISOLATED, "the journal has no closed case nothing"),
        (workflow, ISOLATED, f"{workflow} had 2 cases: name one, the last is {workflow}#8"),
        (
            case,
            {**ISOLATED, "lever": "isolate_endpont"},
            "--lever: there is no lever 'isolate_endpont'; did you mean isolate_",
        ),
        (case, {**ISOLATED, "lever": "page"}, "--lever: there is no lever 'page'"),
        (case, {**ISOLATED, "target": "a/b"}, "--target: 'a/b' is no target id"),
        (case, {**ISOLATED, "who": ""}, "--who: "),
        (case, {**ISOLATED, "at": NOW + timedelta(seconds=1)}, "--at: 2026-11-25 12:00:01 is still to come"),
    ):
        with pytest.raises(OperatorError) as error:
            await tell(journal, name, said, NOW)
        assert str(error.value).startswith(why)
    assert await journal.told(case) == []


async def test_what_is_told_is_shown_beside_what_interlock_would_have_done(journal: SqlJournal) -> None:
    """And of a case that did not only observe it is said that no score reads it."""
    await closed(journal, cases.record(0), cases.record(1, mode="ask"))
    said = await tell(journal, cases.record(0).case, {**ISOLATED, "helped": "yes"}, NOW)
    other = await tell(journal, cases.record(1).case, ISOLATED, NOW)

    assert said.endswith("#0: agreed: Interlock isolate_endpoint; people isolate_endpoint and it helped (ana)")
    assert other.endswith("it ran in mode ask, and scores read what only observed")


def word(lever: str) -> Did:
    return Did(case="c", lever=lever, who="ana")


@pytest.mark.parametrize(
    ("said", "counts"),
    [
        ([], []),
        (["none"], ["none"]),
        (["none", "isolate_endpoint"], ["isolate_endpoint"]),
        (["isolate_endpoint", "restart_engine"], ["isolate_endpoint", "restart_engine"]),
        (["isolate_endpoint", "none"], ["none"]),
        (["isolate_endpoint", "none", "other"], ["other"]),
    ],
)
def test_none_takes_back_and_is_taken_back(said: list[str], counts: list[str]) -> None:
    """People correct themselves, and act twice."""
    assert [d.lever for d in in_force([word(lever) for lever in said])] == counts


def test_times_are_read_as_people_write_them() -> None:
    """A span back from now, or a time; anything else is one sentence."""
    assert moment("30d", NOW) == NOW - timedelta(days=30)
    assert moment("90m", NOW) == NOW - timedelta(minutes=90)
    assert moment("2026-11-24T12:00", NOW) == cases.NOON
    with pytest.raises(OperatorError, match="'yesterday' is no time"):
        moment("yesterday", NOW)


def test_reading_makes_no_journal(tmp_path: Path) -> None:
    """A wrong URL must not look like an empty one."""
    with pytest.raises(NoJournal, match="set INTERLOCK_JOURNAL_URL"):
        open_journal(f"sqlite:///{tmp_path / 'no.db'}")
    assert list(tmp_path.iterdir()) == []


async def test_a_real_case_in_observe_mode_can_be_scored(lab: labs.Lab) -> None:
    """The whole way: a hung engine, a worker that observes, a closed record, people's word, the score."""
    rules = labs.policy(engine__hang=ClassPolicy(mode="observe"))
    before = datetime.now(UTC)
    async with labs.running_worker(lab.parts(rules)), ended(lab) as open_cases:
        await measured(lab)
        await hang(lab, lab.engines["a0"])
        handle = await lab.start(lab.hang(lab.engines["a0"]))
        open_cases.append(handle)
        result = await handle.result()
    journal = open_journal(lab.journal_url)
    try:
        said = await tell(
            journal, result["case"], {**ISOLATED, "helped": "yes", "at": datetime.now(UTC)}, datetime.now(UTC)
        )
        found = await score_of(journal, "engine.hang", before)
    finally:
        journal.dispose()

    assert "agreed: Interlock isolate_endpoint; people isolate_endpoint and it helped (ana)" in said
    (one,) = [c for c in found.cases if c.case == result["case"]]
    assert one.ending == "agreed"
    assert one.earlier_s is not None
    assert one.earlier_s > 0
