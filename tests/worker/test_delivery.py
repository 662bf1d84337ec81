"""Merging, back-pressure, limits of the server, and senders that hang up."""

from __future__ import annotations

import asyncio
import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from runbooks.detection import Detection
from worker.intake_calls import Away, Remediations, Undeliverable
from worker.intake_delivery import Delivered, Deliverer
from worker.intake_memory import Memory
from worker.intake_room import Room

NOON = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
_numbers = itertools.count()


def about(service: str, **changes: Any) -> Detection:
    """A detection about a pool."""
    target = {"cluster": "eu1", "service": service}
    return Detection.model_validate(
        {"alert": "X", "target": target, "started_at": NOON, "observed_at": NOON, **changes}
    )


def pool() -> str:
    """A pool that no other test uses."""
    return f"delivery-{next(_numbers)}"


async def seen(client: Client, workflow_id: str) -> list[dict[str, Any]]:
    """What reached the recorder."""
    found: list[dict[str, Any]] = (await client.get_workflow_handle(workflow_id).query("status"))["seen"]
    return found


async def test_equal_ones_in_a_batch_are_one_and_the_newest_counts(client: Client) -> None:
    """Two Alertmanagers of one pair say the same: the case hears it once, with the newest evidence."""
    name = pool()
    both = [about(name, fingerprint="a", observed_at=NOON + timedelta(seconds=s)) for s in (0, 9, 4)]
    outcomes = await Deliverer(client).deliver(both)

    assert {o.result for o in outcomes if isinstance(o, Delivered)} == {"started"}
    heard = await seen(client, both[0].workflow_id)
    assert [d["observed_at"] for d in heard] == ["2026-01-31T12:00:09Z"]


@pytest.mark.parametrize("batch", [True, False])
async def test_order_within_a_target_is_kept(client: Client, batch: bool) -> None:
    """Resolved, firing, resolved again: the first opens nothing, the case hears the rest in order."""
    name = pool()
    words = [
        about(name, fingerprint="old", status="resolved"),
        about(name, fingerprint="new"),
        about(name, fingerprint="two"),
        about(name, fingerprint="new", status="resolved"),
    ]
    outcomes = await Deliverer(client, batch_signals=batch).deliver(words)

    assert [o.result for o in outcomes if isinstance(o, Delivered)] == [
        "nothing_open",
        "started",
        "signalled",
        "signalled",
    ]
    heard = await seen(client, words[0].workflow_id)
    assert [(d["fingerprint"], d["status"]) for d in heard] == [
        ("new", "firing"),
        ("two", "firing"),
        ("new", "resolved"),
    ]


async def test_a_run_closed_between_two_deliveries_is_followed_by_the_next(client: Client) -> None:
    """Even when we still think that it is open: signal-with-start, so nothing falls in between."""
    deliverer, name = Deliverer(client), pool()
    (first,) = await deliverer.deliver([about(name, fingerprint="a")])
    assert isinstance(first, Delivered)
    handle = client.get_workflow_handle(first.detection.workflow_id)
    await handle.signal("finish")
    await handle.result()
    (second,) = await deliverer.deliver([about(name, fingerprint="b")])

    assert isinstance(second, Delivered)
    assert second.run_id != first.run_id
    assert {d["fingerprint"] for d in await seen(client, first.detection.workflow_id)} == {"b"}


async def test_two_intakes_are_one_to_the_target(client: Client) -> None:
    """Stateless: a second intake, which remembers nothing, meets the first one's run."""
    name = pool()
    one, two = Deliverer(client), Deliverer(client)
    outcomes = await asyncio.gather(
        *(d.deliver([about(name, fingerprint=f"{i}{n}")]) for n in range(10) for i, d in enumerate((one, two)))
    )

    assert len({o.run_id for (o,) in outcomes if isinstance(o, Delivered)}) == 1
    assert len(await seen(client, about(name).workflow_id)) == 20


async def test_senders_that_hang_up_leave_nothing_behind(client: Client) -> None:
    """Their detections may or may not be delivered; the next one is, and no place in the queue stays taken."""
    deliverer, name = Deliverer(client), pool()
    tasks = [asyncio.create_task(deliverer.deliver([about(name, fingerprint=f"gone{i}")])) for i in range(20)]
    await asyncio.sleep(0)
    for task in tasks[1:]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    (last,) = await deliverer.deliver([about(name, fingerprint="last")])

    assert isinstance(last, Delivered)
    assert "last" in {d["fingerprint"] for d in await seen(client, last.detection.workflow_id)}
    assert deliverer.room.waiting == 0


async def test_too_many_waiting_is_back_pressure(client: Client) -> None:
    """Never a silent drop: Away, which the door answers with 503 and Retry-After."""
    deliverer, name = Deliverer(client, room=Room(5)), pool()
    with pytest.raises(Away, match="waiting"):
        await deliverer.deliver([about(name, fingerprint=str(i)) for i in range(6)])


async def test_whoever_has_left_the_room_counts_for_nobody_there(client: Client, address: str) -> None:
    """Alerts of one node name pools of two tenants: each is counted out as who it was counted in. Else the second tenant's
    count grew with each of them, until a crowded room kept it out."""
    lost = await Client.connect(address, namespace="nowhere", data_converter=pydantic_data_converter)
    room, node = Room(10), pool()
    deliverer = Deliverer(lost, room=room, tenant_of=lambda d: d.target.service or "")
    for _ in range(3):
        with pytest.raises(Away):
            await deliverer.deliver([about(s, target={"cluster": "eu1", "service": s, "node": node}) for s in "ab"])

    assert room.waiting == 0
    room.enter({"b": 8}, critical=False)


async def test_a_run_that_takes_no_more_signals_is_not_called_delivered(new_dev_server: Any) -> None:
    """The server refuses beyond a limit: the sender comes again, and then meets the run's successor."""
    limit = ["--dynamic-config-value", "history.maximumSignalsPerExecution=3"]
    async with new_dev_server(extra=limit) as env:
        client = await Client.connect(
            env.client.service_client.config.target_host, data_converter=pydantic_data_converter
        )
        deliverer, name = Deliverer(client), pool()
        for number in range(4):
            await deliverer.deliver([about(name, fingerprint=str(number))])
        with pytest.raises(Away, match="limit"):
            await deliverer.deliver([about(name, fingerprint="one too many")])


async def test_a_namespace_that_is_missing_is_away_and_not_resolved(client: Client, address: str) -> None:
    """'Not found' there must not read as 'nothing open'."""
    lost = await Client.connect(address, namespace="nowhere", data_converter=pydantic_data_converter)
    for status in ("firing", "resolved"):
        with pytest.raises(Away):
            await Deliverer(lost).deliver([about(pool(), status=status)])


async def test_what_the_server_refuses_for_good_spoils_nothing_else(client: Client) -> None:
    """An id that is too long, past our own check: that one is Undeliverable, its neighbours are delivered."""
    good = about(pool())
    bad = about(pool()).model_copy(update={"target": good.target.model_copy(update={"service": "x" * 1500})})
    outcomes = await Deliverer(client).deliver([bad, good])

    assert isinstance(outcomes[0], Undeliverable)
    assert isinstance(outcomes[1], Delivered)


async def test_eager_start_is_asked_for_and_works(client: Client) -> None:
    """With the worker on the same client the first task comes back with the start."""
    detection = about(pool())
    run_id = await Remediations(client, rpc_timeout_s=3, eager=True).start(detection)

    assert run_id
    assert len(await seen(client, detection.workflow_id)) == 1


def test_memory_is_bounded() -> None:
    """However many fingerprints there are; what falls out is delivered once more, which is harmless."""
    memory = Memory(size=100)
    for number in range(1000):
        memory.reached(about(f"p{number}", fingerprint=str(number)), "run")

    assert len(memory) <= 200
    assert memory.repeat_of(about("p0", fingerprint="0")) is None
    assert memory.repeat_of(about("p999", fingerprint="999")) == "run"
