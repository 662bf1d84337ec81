"""Nothing is lost at the end: an alert that comes while a case closes is triaged again, in this run or in the next."""

from __future__ import annotations

import asyncio
import json
import random
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from activities.adapters.sql import SqlJournal
from runbooks.detection import Detection
from runbooks.policy import ClassPolicy, Policy
from tests import lab as labs
from tests.scenarios.hostile import Handle, Pager, ended, hang, measured

OBSERVE = ClassPolicy(mode="observe")
"""The fastest way to a closing that also tells people: decided and recorded, nothing touched."""


def another(lab: labs.Lab, name: str = "SomethingElse") -> Detection:
    """One more alert about the same engine, with its own fingerprint."""
    return lab.hang(lab.engines["a0"], alert=name, evidence={}, observed_at=datetime.now(UTC))


async def records(lab: labs.Lab, workflow_id: str) -> list[dict[str, Any]]:
    """Closed records of a target."""
    journal = SqlJournal(lab.journal_url)
    try:
        found = [json.loads(r) for r in await journal.cases(limit=1000)]
    finally:
        journal.dispose()
    return [r for r in found if r["workflow_id"] == workflow_id]


async def in_a_record(lab: labs.Lab, detection: Detection) -> bool:
    """True when the alert is in some closed record, with what became of it."""
    return any(
        d["alert"] == detection.alert and r["outcome"] is not None
        for r in await records(lab, detection.workflow_id)
        for d in r["detections"]
    )


def watched() -> Policy:
    """engine.hang only observed."""
    return labs.policy(engine__hang=OBSERVE)


async def fire_when(lab: labs.Lab, handle: Handle, there: Callable[[], bool], what: str, late: Detection) -> None:
    """Waits for the moment, and sends the alert as the intake does: it is accepted."""

    async def reached() -> bool:
        return there()

    await labs.until(reached, what, 40)
    assert (await lab.start(late)).id == handle.id


async def test_an_alert_while_people_are_told_of_the_end_is_triaged_again(lab: labs.Lab) -> None:
    """The record is written; the pager has not yet acknowledged. The alert belongs to nobody but the next round."""
    pager, engine = Pager(holds="Closed"), lab.engines["a0"]
    parts = lab.parts(watched())
    parts.notify = pager
    async with labs.running_worker(parts), ended(lab) as cases:
        await measured(lab)
        await hang(lab, engine)
        earlier = len(await records(lab, another(lab).workflow_id))  # of other tests
        handle = await lab.start(lab.hang(engine))
        cases.append(handle)
        late = another(lab)
        try:
            await fire_when(lab, handle, pager.reached.is_set, "people are being told", late)
        finally:
            pager.go.set()
        await lab.client.get_workflow_handle(handle.id).result()
        assert await in_a_record(lab, late)
        assert len(await records(lab, handle.id)) == earlier + 2


@pytest.mark.parametrize("point", ["close_begin", "close_written"])
async def test_an_alert_before_or_after_the_record_is_written_is_triaged_again(lab: labs.Lab, point: str) -> None:
    """The closing activity is held at that very point while the alert comes in."""
    reached, go = threading.Event(), threading.Event()
    tries = {"n": 0}

    def checkpoint(name: str) -> None:
        # An activity cannot wait in a checkpoint without holding up the loop: it fails here, and is tried again, until
        # the alert has been sent. The closing stays exactly at this point.
        if name == point and not go.is_set():
            tries["n"] += 1
            reached.set()
            raise ConnectionError(f"held at {name}")

    engine = lab.engines["a0"]
    async with labs.running_worker(lab.parts(watched(), checkpoint=checkpoint)), ended(lab) as cases:
        await measured(lab)
        await hang(lab, engine)
        handle = await lab.start(lab.hang(engine))
        cases.append(handle)
        late = another(lab)
        try:
            await fire_when(lab, handle, reached.is_set, f"the closing is at {point}", late)
        finally:
            go.set()
        await lab.client.get_workflow_handle(handle.id).result()
        assert tries["n"] >= 1
        assert await in_a_record(lab, late)


async def test_twenty_alerts_at_random_moments_around_closings_are_all_in_some_closed_record(lab: labs.Lab) -> None:
    """Unknown alerts page and close at once: each of the twenty hits another moment of some run's end."""
    dice = random.Random(20261124)
    names = [f"Oddity{n}" for n in range(20)]
    async with labs.running_worker(lab.parts()), ended(lab) as cases:
        for name in names:
            cases.append(await lab.start(another(lab, name)))
            await asyncio.sleep(dice.uniform(0.0, 0.25))
        newest = lab.client.get_workflow_handle(cases[0].id)
        await newest.result()

        async def all_there() -> bool:
            return all([await in_a_record(lab, another(lab, name)) for name in names])

        await labs.until(all_there, "every accepted alert is in a closed record", 30)
        runs = {r["run_id"] for r in await records(lab, cases[0].id)}
        assert len(runs) > 1, "the alerts must have met more than one end"
