"""Detections into Temporal, merged per target. Nothing is acknowledged before Temporal has acknowledged it.

One lane per target: while a delivery to it is under way, whatever comes in for the same target waits, and goes as one
batch in which repeats are one. A workflow should see few signals; an alert storm has many.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal

from opentelemetry import context as otel
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from runbooks.detection import TASK_QUEUE, Detection
from worker.intake_memory import Memory

Result = Literal["started", "signalled", "repeat", "nothing_open"]
RETRY_AFTER_S = 5


class Away(Exception):
    """Temporal did not acknowledge: nothing may be acknowledged to the sender, who must come again."""


class Undeliverable(Exception):
    """Temporal refuses this very detection, and always will."""


@dataclass(frozen=True)
class Delivered:
    """Where a detection ended up, durably. `run_id` is empty when nothing was open."""

    detection: Detection
    result: Result
    run_id: str


@dataclass
class _Item:
    detection: Detection
    done: asyncio.Future[Delivered]
    trace: otel.Context


@dataclass
class _Lane:
    waiting: list[_Item] = field(default_factory=list)
    task: asyncio.Task[None] | None = None


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
        most_waiting: int = 20_000,
        at_once: int = 64,
        memory: Memory | None = None,
    ) -> None:
        self._client = client
        self._timeout = rpc_timeout_s
        self._eager = eager
        self._batch = batch_signals
        self._most = most_waiting
        self._slots = asyncio.Semaphore(at_once)
        self._lanes: dict[str, _Lane] = {}
        self._waiting = 0
        self.memory = memory or Memory()

    async def deliver(self, detections: Sequence[Detection]) -> list[Delivered | Undeliverable]:
        """One entry per detection, in order, once all of them are durable. Away when any is not: send all again."""
        if self._waiting + len(detections) > self._most:
            raise Away(f"{self._waiting} detections are waiting already")
        items = [self._submit(d) for d in detections]
        outcomes = await asyncio.gather(*(i.done for i in items), return_exceptions=True)
        found: list[Delivered | Undeliverable] = []
        for outcome in outcomes:
            if isinstance(outcome, BaseException) and not isinstance(outcome, Undeliverable):
                raise outcome
            found.append(outcome)
        return found

    def _submit(self, detection: Detection) -> _Item:
        item = _Item(detection, asyncio.get_running_loop().create_future(), otel.get_current())
        lane = self._lanes.setdefault(detection.workflow_id, _Lane())
        lane.waiting.append(item)
        self._waiting += 1
        if lane.task is None:
            lane.task = asyncio.create_task(self._drain(detection.workflow_id, lane))
        return item

    async def _drain(self, workflow_id: str, lane: _Lane) -> None:
        while lane.waiting:
            queued, lane.waiting = lane.waiting, []
            batch = [i for i in queued if not i.done.done()]  # whoever hung up will send it again
            self._waiting -= len(queued) - len(batch)
            try:
                async with self._slots:
                    await self._deliver_batch(workflow_id, batch)
            except Away as error:
                # Whoever queued up meanwhile would wait for the same failure: all of them are told now.
                late, lane.waiting = lane.waiting, []
                self._settle([*batch, *late], error)
                self._waiting -= len(late)
            except BaseException as error:  # a fault of ours: the senders get it as a 500, the lane must not stay shut
                late, lane.waiting = lane.waiting, []
                self._settle([*batch, *late], error)
                self._waiting -= len(late)
                del self._lanes[workflow_id]
                raise
            finally:
                self._waiting -= len(batch)
        # No await between the empty list and this line: nobody can have queued up in a lane that is gone.
        del self._lanes[workflow_id]

    @staticmethod
    def _settle(items: Sequence[_Item], outcome: BaseException | Delivered) -> None:
        for item in items:
            if item.done.done():  # the sender hung up
                continue
            if isinstance(outcome, Delivered):
                item.done.set_result(outcome)
            else:
                item.done.set_exception(outcome)

    async def _deliver_batch(self, workflow_id: str, batch: Sequence[_Item]) -> None:
        if not batch:
            return
        distinct: dict[tuple[object, ...], list[_Item]] = {}
        for item in batch:
            d = item.detection
            distinct.setdefault((d.key, d.status, d.started_at, d.severity), []).append(item)
        news: list[list[_Item]] = []
        open_runs: dict[str, bool] = {}
        for same in distinct.values():
            newest = max(same, key=lambda i: i.detection.observed_at).detection
            run_id = self.memory.repeat_of(newest)
            if run_id is not None and run_id not in open_runs:
                open_runs[run_id] = await self._is_open(workflow_id, run_id)
            if run_id is not None and open_runs[run_id]:
                self._settle(same, Delivered(newest, "repeat", run_id))
            else:
                news.append(same)
        await self._tell(news)

    async def _tell(self, news: Sequence[list[_Item]]) -> None:
        rest = list(news)
        while rest and rest[0][0].detection.status == "resolved":
            await self._resolve(rest.pop(0))  # nothing fires: must not open a case
        if rest and not self.memory.lately(rest[0][0].detection.workflow_id) and await self._start(rest[0]):
            rest.pop(0)
        size = len(rest) if self._batch else 1
        for at in range(0, len(rest), max(size, 1)):
            chunk = rest[at : at + size]
            if chunk[0][0].detection.status == "resolved" and len(chunk) == 1:
                await self._resolve(chunk[0])
            else:
                await self._signal(chunk)

    async def _start(self, same: list[_Item]) -> bool:
        newest = _newest(same)
        with _trace(same):
            try:
                handle = await self._call(
                    same,
                    lambda timeout: self._client.start_workflow(
                        "Remediation",
                        newest,
                        id=newest.workflow_id,
                        task_queue=TASK_QUEUE,
                        id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
                        id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
                        request_eager_start=self._eager,
                        rpc_timeout=timeout,
                    ),
                )
            except WorkflowAlreadyStartedError:
                return False
        if handle is not None:
            self._reached(same, "started", handle.result_run_id or "")
        return True

    async def _signal(self, chunk: Sequence[list[_Item]]) -> None:
        """Signal-with-start: should the run have closed meanwhile, this opens the next one. Nothing falls between."""
        told = [_newest(same) for same in chunk]
        firing = next(d for d in told if d.status == "firing")
        with _trace(chunk[0]):
            handle = await self._call(
                [i for same in chunk for i in same],
                lambda timeout: self._client.start_workflow(
                    "Remediation",
                    firing,
                    id=firing.workflow_id,
                    task_queue=TASK_QUEUE,
                    id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
                    start_signal="detect",
                    start_signal_args=[told if len(told) > 1 else told[0]],
                    rpc_timeout=timeout,
                ),
            )
        if handle is not None:
            for same in chunk:
                self._reached(same, "signalled", handle.result_run_id or "")

    async def _resolve(self, same: list[_Item]) -> None:
        newest = _newest(same)
        handle = self._client.get_workflow_handle(newest.workflow_id)
        with _trace(same):
            try:
                await self._call(same, lambda timeout: handle.signal("detect", newest, rpc_timeout=timeout), found=True)
            except _NotFound:
                self._settle(same, Delivered(newest, "nothing_open", ""))
                return
        if not all(i.done.done() for i in same):
            self._reached(same, "signalled", self.memory.run_of(newest.workflow_id) or "")

    def _reached(self, same: Sequence[_Item], result: Result, run_id: str) -> None:
        newest = _newest(same)
        if run_id:
            self.memory.reached(newest, run_id)
        self._settle(same, Delivered(newest, result, run_id))

    async def _is_open(self, workflow_id: str, run_id: str) -> bool:
        handle = self._client.get_workflow_handle(workflow_id, run_id=run_id)
        try:
            about = await self._call([], lambda timeout: handle.describe(rpc_timeout=timeout), found=True)
        except _NotFound:
            return False
        return about is not None and about.status == WorkflowExecutionStatus.RUNNING

    async def _call(
        self, items: Sequence[_Item], rpc: Callable[[timedelta], Awaitable[Any]], *, found: bool = False
    ) -> Any:
        """One call, bounded in time. Away unless Temporal answered; None after it refused these very items."""
        try:
            # The SDK's own timeout is per attempt and it tries up to ten times: 3 s became 5.6 s when measured.
            async with asyncio.timeout(self._timeout):
                return await rpc(timedelta(seconds=self._timeout))
        except TimeoutError:
            raise Away(f"Temporal did not answer within {self._timeout:g} s") from None
        except RPCError as error:
            if found and error.status == RPCStatusCode.NOT_FOUND:
                raise _NotFound from None
            # A run that has had too many signals also answers INVALID_ARGUMENT, but its successor will take them.
            if error.status == RPCStatusCode.INVALID_ARGUMENT and "limit" not in error.message and items:
                self._settle(items, Undeliverable(f"Temporal refuses it: {error.message}"))
                return None
            raise Away(f"Temporal answered {error.status.name}: {error.message}") from error
        except RuntimeError as error:  # a lazy client that could not connect
            if "client connect" not in str(error):
                raise
            raise Away("Temporal cannot be reached") from error


class _NotFound(Exception):
    pass


class _trace:
    """The calls for an item belong to the trace of the request that brought it, not to whoever opened the lane."""

    def __init__(self, same: Sequence[_Item]) -> None:
        self._context = same[0].trace

    def __enter__(self) -> None:
        self._token = otel.attach(self._context)

    def __exit__(self, *_: object) -> None:
        otel.detach(self._token)


def _newest(same: Sequence[_Item]) -> Detection:
    return max(same, key=lambda i: i.detection.observed_at).detection
