"""Detections into Temporal, merged per target. Nothing is acknowledged before Temporal has acknowledged it.

One lane per target: while a delivery to it is under way, whatever comes in for the same target waits, and goes as one
batch in which repeats are one. A workflow should see few signals; an alert storm has many. Which lane is next is said by
intake_turns.py, how much may wait by intake_room.py.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from opentelemetry import context as otel
from temporalio.client import Client

from runbooks.detection import Detection, Severity, Target, TargetKind, member
from worker.intake_calls import Away, Remediations, Undeliverable
from worker.intake_memory import Memory
from worker.intake_room import Room
from worker.intake_turns import Ticket, Turns

Result = Literal["started", "signalled", "repeat", "nothing_open"]
MOST_OF_ONE_SIGNAL = 500
MOST_BYTES_OF_ONE_SIGNAL = 256 << 10
"""Half of where the SDK begins to warn, and far from the 2 MiB that Temporal takes as one argument: a batch that was refused
would go as hundreds of signals."""


def by_domain(detection: Detection) -> str:
    """Who a detection counts for when no tenants are declared."""
    return detection.target.domain


@dataclass(frozen=True)
class Delivered:
    """Where a detection ended up, durably. `run_id` is empty when nothing was open."""

    detection: Detection
    result: Result
    run_id: str


@dataclass
class _Item:
    detection: Detection
    tenant: str
    done: asyncio.Future[Delivered]
    trace: otel.Context


@dataclass
class _Lane:
    waiting: list[_Item] = field(default_factory=list)
    ticket: Ticket | None = None
    task: asyncio.Task[None] | None = None

    @property
    def rank(self) -> int:
        """Of the gravest that waits."""
        return max((i.detection.severity.rank for i in self.waiting), default=0)

    @property
    def tenant(self) -> str:
        """Whose turn it takes: of who has waited longest. One node's alerts may name pools of several tenants."""
        return self.waiting[0].tenant


class _Same(list[_Item]):
    """Items that say the same: one delivery, one outcome for all."""

    @property
    def newest(self) -> Detection:
        """What is delivered for all of them."""
        return max(self, key=lambda i: i.detection.observed_at).detection


class Deliverer:
    """Starts or tells the one Remediation of each target.

    `batch_signals`: further detections of one batch go as ONE `detect` signal with a list; False: one signal each.
    """

    def __init__(
        self,
        client: Client,
        *,
        rpc_timeout_s: float = 3.0,
        eager: bool = False,
        batch_signals: bool = False,
        at_once: int = 64,
        memory: Memory | None = None,
        room: Room | None = None,
        tenant_of: Callable[[Detection], str] = by_domain,
    ) -> None:
        self._cases = Remediations(client, rpc_timeout_s=rpc_timeout_s, eager=eager)
        self._batch = batch_signals
        self._turns = Turns(at_once)
        self._tenant_of = tenant_of
        self._lanes: dict[str, _Lane] = {}
        self.room = room or Room()
        self.memory = memory or Memory()

    async def deliver(self, detections: Sequence[Detection]) -> list[Delivered | Undeliverable]:
        """One entry per detection, in order, once all of them are durable. Away when any is not: send all again."""
        critical = any(d.severity is Severity.CRITICAL for d in detections)
        tenants = [self._tenant_of(d) for d in detections]
        self.room.enter(Counter(tenants), critical)
        items = [self._submit(d, tenant) for d, tenant in zip(detections, tenants, strict=True)]
        outcomes = await asyncio.gather(*(i.done for i in items), return_exceptions=True)
        found: list[Delivered | Undeliverable] = []
        for outcome in outcomes:
            if isinstance(outcome, BaseException) and not isinstance(outcome, Undeliverable):
                raise outcome
            found.append(outcome)
        return found

    def _submit(self, detection: Detection, tenant: str) -> _Item:
        item = _Item(detection, tenant, asyncio.get_running_loop().create_future(), otel.get_current())
        lane = self._lanes.setdefault(detection.workflow_id, _Lane())
        lane.waiting.append(item)
        if lane.ticket is not None:
            self._turns.graver(lane.ticket, detection.severity.rank)
        if lane.task is None:
            lane.task = asyncio.create_task(self._drain(detection.workflow_id, lane))
        return item

    async def _drain(self, workflow_id: str, lane: _Lane) -> None:
        try:
            while lane.waiting:
                lane.ticket = self._turns.ticket(lane.tenant, lane.rank)
                async with self._turns.turn(lane.ticket):
                    lane.ticket = None
                    batch = self._take(lane)
                    try:
                        await self._deliver(workflow_id, batch)
                    except Away as error:
                        # Whoever queued up meanwhile would wait for the same failure: all of them are told now.
                        _settle([*batch, *self._take(lane)], error)
                    except BaseException as error:  # a fault of ours: a 500 for the senders, never a hung request
                        _settle([*batch, *self._take(lane)], error)
                        raise
        finally:
            # No await between the last look at the list and here: nobody is left waiting in a lane that is gone.
            _settle(self._take(lane), Away("the intake is stopping"))
            del self._lanes[workflow_id]

    def _take(self, lane: _Lane) -> list[_Item]:
        taken, lane.waiting = lane.waiting, []
        self.room.leave(Counter(i.tenant for i in taken))
        return [i for i in taken if not i.done.done()]  # whoever hung up will send it again

    async def _deliver(self, workflow_id: str, batch: Sequence[_Item]) -> None:
        distinct: dict[tuple[object, ...], _Same] = {}
        for item in batch:
            d = item.detection
            distinct.setdefault((d.key, d.status, d.started_at, d.severity), _Same()).append(item)
        rest: list[_Same] = []
        is_open: dict[str, bool] = {}
        for same in distinct.values():
            run_id = self.memory.repeat_of(same.newest)
            if run_id is not None and run_id not in is_open:
                is_open[run_id] = await self._cases.is_open(workflow_id, run_id)
            if run_id is not None and is_open[run_id]:
                _settle(same, Delivered(same.newest, "repeat", run_id))
            else:
                rest.append(same)
        while rest and rest[0].newest.status == "resolved":
            await self._resolve(rest.pop(0))  # nothing fires: must not open a case
        if rest and not self.memory.lately(workflow_id) and await self._start(rest[0]):
            rest.pop(0)
        for chunk in self._chunks(rest):
            if all(same.newest.status == "resolved" for same in chunk):
                for same in chunk:
                    await self._resolve(same)
            else:
                await self._signal(chunk)

    def _chunks(self, rest: Sequence[_Same]) -> Iterator[list[_Same]]:
        """What goes as one signal."""
        chunk: list[_Same] = []
        size = 0
        for same in rest:
            more = len(same.newest.model_dump_json())
            full = len(chunk) >= MOST_OF_ONE_SIGNAL or size + more > MOST_BYTES_OF_ONE_SIGNAL
            if chunk and (full or not self._batch):
                yield chunk
                chunk, size = [], 0
            chunk.append(same)
            size += more
        if chunk:
            yield chunk

    async def _start(self, same: _Same) -> bool:
        with _for(same):
            run_id = await self._cases.start(same.newest)
            if run_id is not None:
                self._reached(same, "started", run_id)
            return run_id is not None
        return True  # refused for good, and settled

    async def _signal(self, chunk: Sequence[_Same]) -> None:
        with _for(chunk[0]):
            try:
                run_id = await self._cases.signal_with_start([same.newest for same in chunk])
            except Undeliverable:
                if len(chunk) == 1:
                    raise
            else:
                for same in chunk:
                    self._reached(same, "signalled", run_id)
                return
        for same in chunk:  # one of them spoils the list: each for itself
            if not all(item.done.done() for item in same):
                await (self._resolve(same) if same.newest.status == "resolved" else self._signal([same]))

    async def _resolve(self, same: _Same) -> None:
        with _for(same):
            if await self._cases.tell(same.newest):
                self._reached(same, "signalled", self.memory.run_of(same.newest.workflow_id) or "")
                return
            # Its fault may have become one of many: then the domain's case has it, and must hear that it is over (G13).
            wide = Target(cluster=same.newest.target.domain)
            known = same.newest.target.kind is not TargetKind.CLUSTER
            heard = known and await self._cases.tell(member(same.newest, wide))
            _settle(same, Delivered(same.newest, "signalled" if heard else "nothing_open", ""))

    def _reached(self, same: _Same, result: Result, run_id: str) -> None:
        if run_id:
            self.memory.reached(same.newest, run_id)
        _settle(same, Delivered(same.newest, result, run_id))


def _settle(items: Sequence[_Item], outcome: BaseException | Delivered) -> None:
    for item in items:
        if item.done.done():  # the sender hung up
            continue
        if isinstance(outcome, Delivered):
            item.done.set_result(outcome)
        else:
            item.done.set_exception(outcome)


@contextlib.contextmanager
def _for(same: _Same) -> Iterator[None]:
    """In the trace of the request that brought it, not of whoever opened the lane. A refusal for good is its outcome."""
    token = otel.attach(same[0].trace)
    try:
        yield
    except Undeliverable as error:
        _settle(same, error)
    finally:
        otel.detach(token)
