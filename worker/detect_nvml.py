"""The NVML detector of a node: reads its GPUs each period, listens to the driver's events, and tells what both prove."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Mapping
from datetime import UTC, datetime
from typing import Protocol

from activities.adapters.nvml_quiet import BeingReset
from activities.adapters.nvml_thread import in_thread
from activities.errors import PortError
from runbooks.detection import Detection, Severity, Target
from runbooks.gpus import GpuEvent, GpuHealth
from runbooks.xid import Xid
from worker.detect import Sink
from worker.detect_nvml_book import NAME, Book
from worker.detect_nvml_state import StateFile

log = logging.getLogger("interlock.detect")
SILENT = "NvmlSilent"
SILENT_AFTER = 3
"""Readings in a row that fail before people are told that the node's GPUs cannot be seen."""
_AGAIN_S = 5.0


class WatchesGpus(Protocol):
    """The part of `Nvml` that the detector needs."""

    def health(self) -> tuple[GpuHealth, ...]:
        """Blocks."""
        ...

    def events(self, wait_s: float = 0.2) -> AsyncGenerator[GpuEvent, None]:
        """Until closed."""
        ...


class NvmlDetector:
    """Tells `sink` of firing, repeated and resolved faults of this node's GPUs. `period_s`: between two readings."""

    def __init__(
        self,
        cluster: str,
        node: str,
        nvml: WatchesGpus,
        xids: Mapping[int, Xid],
        sink: Sink,
        *,
        period_s: float = 1.0,
        read_s: float = 10.0,
        repeat_s: float = 15.0,
        clear_s: float = 15.0,
        memory: StateFile | None = None,
    ) -> None:
        self._target = Target(cluster=cluster, node=node)
        self._nvml = nvml
        self._sink = sink
        self._period_s, self._read_s, self._repeat_s = period_s, read_s, repeat_s
        self._book = Book(cluster, node, xids, repeat_s=repeat_s, clear_s=clear_s)
        self._memory = memory
        self._saving = asyncio.Lock()
        if memory is not None:
            memory.load(self._book)
        self._look = asyncio.Event()
        self._reading: asyncio.Task[tuple[GpuHealth, ...]] | None = None
        self._failed = 0
        self._silent_since: datetime | None = None
        self._silent_told: datetime | None = None

    async def run(self) -> None:
        """Until cancelled. PortError when the first reading fails: then this node has no NVML to watch."""
        first = await in_thread(self._nvml.health, self._read_s, "NVML")
        await self._tell(self._book.reading(first, datetime.now(UTC)))
        async with asyncio.TaskGroup() as group:
            group.create_task(self._poll())
            group.create_task(self._listen())

    async def _poll(self) -> None:
        try:
            while True:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._look.wait(), self._period_s)
                self._look.clear()
                await self._read()
        finally:
            if self._reading is not None:
                self._reading.cancel()

    async def _read(self) -> None:
        """One reading. One that does not come back is waited for and not asked again beside it: each would hold a thread."""
        if self._reading is None:
            self._reading = asyncio.create_task(in_thread(self._nvml.health, None, "NVML"))
        done, _ = await asyncio.wait({self._reading}, timeout=self._read_s)
        if not done:
            await self._silent(f"NVML does not answer within {self._read_s:g} s")
            return
        reading, self._reading = self._reading, None
        try:
            healths = reading.result()
        except BeingReset as error:
            log.info("not read: %s", error)
            return
        except PortError as error:
            await self._silent(str(error))
            return
        await self._heard()
        await self._tell(self._book.reading(healths, datetime.now(UTC)))

    async def _listen(self) -> None:
        said = ""
        while True:
            try:
                async with contextlib.aclosing(self._nvml.events()) as events:
                    async for event in events:
                        await self._tell(self._book.event(event, datetime.now(UTC)))
                        self._look.set()  # what the event did to the GPU is known only by reading it
            except PortError as error:
                if str(error) != said:  # every few seconds the same would hide the rest of the log
                    log.warning("no events, only health is read, every %g s: %s", self._period_s, error)
                said = str(error)
            await asyncio.sleep(_AGAIN_S)

    async def _silent(self, why: str) -> None:
        self._failed += 1
        now = datetime.now(UTC)
        self._silent_since = self._silent_since or now
        log.warning("the GPUs of %s were not read: %s", self._target.node, why)
        due = self._silent_told is None or (now - self._silent_told).total_seconds() >= self._repeat_s
        if self._failed >= SILENT_AFTER and due:
            self._silent_told = now
            await self._sink(self._of_node("firing", self._silent_since, now, {"failed_readings": self._failed}))

    async def _heard(self) -> None:
        if self._silent_told is not None and self._silent_since is not None:
            await self._sink(self._of_node("resolved", self._silent_since, datetime.now(UTC), {}))
        self._failed, self._silent_since, self._silent_told = 0, None, None

    async def _tell(self, news: list[Detection]) -> None:
        for detection in news:
            await self._sink(detection)
        if news and self._memory is not None:
            async with self._saving:  # in a thread: a slow disk must not delay the next alert
                await asyncio.to_thread(self._memory.save, self._memory.text(self._book))

    def _of_node(self, status: str, since: datetime, now: datetime, evidence: dict[str, float]) -> Detection:
        return Detection.model_validate(
            {
                "alert": SILENT,
                "target": self._target,
                "status": status,
                "severity": Severity.CRITICAL,
                "labels": {"node": self._target.node},
                "evidence": evidence,
                "started_at": since,
                "observed_at": now,
                "detector": NAME,
            }
        )
