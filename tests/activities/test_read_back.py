"""What is read back after an act of which nobody knows, and what a late attempt may not take away."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from temporalio.exceptions import ApplicationError

from activities.acts import ClusterActivities
from activities.adapters.sql import SqlJournal
from runbooks.change import GONE, Change, Permit, boot_key, cordon_key
from runbooks.facts import GuardView
from runbooks.levers import RebootNode
from runbooks.plan import ApplyRequest, PlannedStep, ReadBackRequest
from runbooks.policy import Policy
from runbooks.reach import envelope_of
from runbooks.schema import RestoreRule
from tests.adapters.cluster_lab import DOMAIN
from tests.adapters.test_cluster_contract import change, permit
from tests.adapters.test_simulated_cluster import BEGIN, Time, simulated

NODE = "n-0"


class Free:
    """Nobody has halted anything."""

    async def view(self, domain: str) -> GuardView:
        """See Stops."""
        return GuardView(domain=domain)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[SqlJournal]:
    """A fresh one."""
    opened = SqlJournal(f"sqlite:///{tmp_path / 'journal.db'}")
    yield opened
    opened.dispose()


def asked(wanted: Change, by: Permit) -> ApplyRequest:
    """An act of a reboot's step; which lever it is does not matter here."""
    step = RebootNode(node=NODE)
    planned = PlannedStep(
        id="step", step=step, targets=(NODE,), domains=(DOMAIN,), verify=None, indicators=(), on_cannot_tell="undo",
        restore=RestoreRule(), envelope=envelope_of("step", step, (NODE,), Policy(name="p")),
    )  # fmt: skip
    return ApplyRequest(case="case", workflow_id="w", target_id=NODE, step=planned, change=wanted, permit=by)


def by(wanted: Change, epoch: int, now: datetime = BEGIN) -> Permit:
    """Good for a minute of the virtual clock."""
    return permit(wanted, epoch, act_before=now + timedelta(minutes=1))


@pytest.mark.parametrize(
    ("begun", "failed", "state"),
    [(True, "Ambiguous", "unknown"), (True, "Permanent", "not_applied"), (False, "Ambiguous", "not_applied")],
)
async def test_a_reboot_that_was_ordered_and_does_not_show_yet_is_not_called_not_applied(
    journal: SqlJournal, begun: bool, failed: str, state: str
) -> None:
    """A firmware takes longer than six attempts: else it would be ordered once more while the node comes up."""
    cluster = simulated(Time())
    key = boot_key(NODE)
    wanted = change({key: (await cluster.read(DOMAIN)).settings[key]}, {key: GONE})
    order = by(wanted, 1)
    if begun:
        await cluster.enter(order, {})

    back = await ClusterActivities(cluster, journal, Free()).read_back(
        ReadBackRequest(apply=asked(wanted, order), failed=failed)
    )

    assert back.state == state


async def test_a_late_attempt_that_is_fenced_does_not_take_away_the_receipt_of_what_was_done(
    journal: SqlJournal,
) -> None:
    """An earlier attempt had acted and its receipt was read back; then others acted; then the late one wakes up."""
    cluster, key = simulated(Time()), cordon_key(NODE)
    wanted = change({key: "off"}, {key: "on"})
    req = asked(wanted, by(wanted, 1))
    acts = ClusterActivities(cluster, journal, Free())
    read = cluster.read

    async def meanwhile(domain: str):  # type: ignore[no-untyped-def]
        """The late attempt sleeps here, after it had asked the journal."""
        cluster.read = read  # type: ignore[method-assign]
        await acts.apply(req)
        other = change({cordon_key("n-1"): "off"}, {cordon_key("n-1"): "on"})
        await cluster.swap(other, by(other, 2))
        return await read(domain)

    cluster.read = meanwhile  # type: ignore[method-assign]
    with pytest.raises(ApplicationError, match="fenced"):
        await acts.apply(req)

    receipt = await journal.receipt(req.permit.id)
    assert receipt is not None
    assert await journal.state(receipt.id) == "standing"


class SlowlyFree:
    """Says that nobody has halted anything; its answer is long on the way."""

    def __init__(self, time: Time, takes_s: float) -> None:
        self.time, self.takes_s = time, takes_s

    async def view(self, domain: str) -> GuardView:
        """See Stops."""
        self.time.now += timedelta(seconds=self.takes_s)
        return GuardView(domain=domain)


@pytest.mark.parametrize(("takes_s", "acts"), [(3.9, True), (4.1, False)])
async def test_an_answer_that_was_long_on_its_way_is_good_only_from_its_question_on(
    journal: SqlJournal, takes_s: float, acts: bool
) -> None:
    """Levers may have been halted right after the Guard had spoken: no write begins later than this after the question."""
    time = Time()
    cluster, wanted = simulated(time), change({cordon_key(NODE): "off"}, {cordon_key(NODE): "on"})
    acting = ClusterActivities(cluster, journal, SlowlyFree(time, takes_s), clock=time)
    if acts:
        assert (await acting.apply(asked(wanted, by(wanted, 1)))).after == wanted.after
        return
    with pytest.raises(ApplicationError, match="expired at"):
        await acting.apply(asked(wanted, by(wanted, 1)))
    assert (await cluster.read(DOMAIN)).settings[cordon_key(NODE)] == "off"
