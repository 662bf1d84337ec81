"""One swap under the folder's lock: look, judge, raise the fence, write, read back.

The lock is held until Envoy has answered, so that an update which Envoy refuses is known to be this one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from activities.adapters.envoy_admin import EnvoyAdmin, Subscription
from activities.adapters.envoy_document import Document, Writer, version
from activities.adapters.envoy_files import EdgeFolder, Fence
from activities.adapters.envoy_keys import Key
from activities.errors import Ambiguous, Refused, Retryable
from runbooks.change import Change, Permit

FIRST_POLL_S, LONGEST_POLL_S = 0.002, 0.1


@dataclass
class Swap:
    """What was asked of one swap; `split` is every weight of the routes whose weights it changes.

    `abandoned` is set when the caller has gone away: then nothing is written any more.
    """

    folder: EdgeFolder
    admin: EnvoyAdmin
    change: Change
    permit: Permit
    keys: list[Key]
    split: list[Key]
    clock: Callable[[], datetime]
    checkpoint: Callable[[str], None]
    deadline_s: float
    abandoned: bool = False

    @property
    def file(self) -> str:
        """The one file that the change writes."""
        return self.keys[0].file

    @property
    def writer(self) -> Writer:
        """The permit as fence and file record it."""
        return Writer(epoch=self.permit.epoch, permit_id=self.permit.id)

    async def run(self, lock_wait_s: float) -> None:
        """The whole swap; returns when Envoy applies the change. Errors as in `EnvoyTraffic.swap`."""
        async with self.folder.lock(lock_wait_s, lambda: self.abandoned):
            document, refusals = await asyncio.to_thread(self._enter)
            self.checkpoint("after_before_read")
            if not self._ours(document):
                refusals = await self._may_write(document)
                document = await asyncio.to_thread(self._write, document, refusals)
            self.checkpoint("before_read_back")
            await self._read_back(document, refusals)

    def _enter(self) -> tuple[Document, int | None]:
        """The file, and Envoy's refusals before our act if an earlier attempt got as far as the fence."""
        document = self.folder.load(self.file)
        domain, permit = self.permit.domain, self.permit
        fence = self.folder.fences().get(domain)
        # The file counts as well: a fence.json that was lost must not let a late attempt through.
        for seen in (fence, document.writers.get(domain)):
            if seen is not None and seen.epoch >= permit.epoch and not seen.same(self.writer):
                late = "; this permit had written before that" if document.writers.get(domain) == self.writer else ""
                raise Refused(
                    f"fenced: {domain} is at epoch {seen.epoch} (permit {seen.permit_id}), "
                    f"permit {permit.id} has epoch {permit.epoch}{late}"
                )
        return document, fence.refusals if fence is not None and fence.same(self.writer) else None

    def _ours(self, document: Document) -> bool:
        """True when this very permit has written already, and its settings still stand."""
        if document.writers.get(self.permit.domain) != self.writer:
            return False
        found = document.settings(self.keys)
        for key, wanted in self.change.after.items():
            if found[key] != wanted:
                raise Refused(
                    f"{key} is {found[key]!r} in {self.file}: somebody changed it after permit {self.permit.id} "
                    f"had set {wanted!r}; a permit never acts twice"
                )
        return True

    async def _may_write(self, document: Document) -> int:
        """Refuses, or gives the number of updates that Envoy has refused so far."""
        self._in_time()
        found = document.settings(self.keys)
        for key, expected in self.change.before.items():
            if found[key] != expected:
                raise Refused(f"{key} is {found[key]!r} in {self.file}, and the plan rests on {expected!r}: plan again")
        self._some_weight_left(document)
        seen, overrides = await asyncio.gather(self._subscription(), self.admin.overrides(self.keys))
        for key, value in overrides.items():
            raise Refused(
                f"{key} is overridden to {value} by Envoy's admin API, which wins over {self.file}; clear it first"
            )
        return seen.refusals

    def _some_weight_left(self, document: Document) -> None:
        weights = {**document.settings(self.split), **self.change.after}
        for route in {k.owner for k in self.split}:
            if not any(weights[k.text] for k in self.split if k.owner == route):
                raise Refused(f"route {route} would have no weight at all, and Envoy would answer 404 to every request")

    def _in_time(self) -> None:
        now = self.clock()
        if now >= self.permit.act_before:
            raise Refused(
                f"permit {self.permit.id} expired at {self.permit.act_before.isoformat()}, it is {now.isoformat()}"
            )
        if self.abandoned:
            raise Refused("the caller was cancelled before anything was written")

    def _write(self, document: Document, refusals: int) -> Document:
        fresh = document.written(self.keys, self.change.after, self.permit.domain, self.writer)
        try:
            self.folder.raise_fence(self.permit.domain, Fence(**self.writer.model_dump(), refusals=refusals))
            self.folder.keep_old(self.file)
            self.folder.stage(self.file, fresh.raw)
        except OSError as error:
            raise Retryable(f"{self.file} was not written: {error}") from error
        # A hand edit takes no lock: look once more, as late as can be.
        if self.folder.load(self.file).raw != document.raw:
            raise Refused(f"{self.file} was changed by hand while this change was being judged: plan again")
        self._in_time()
        try:
            self.folder.commit(self.file)
        except OSError as error:
            raise Ambiguous(f"{self.file} may or may not have been written: {error}") from error
        self.checkpoint("after_write")
        return fresh

    async def _read_back(self, document: Document, refusals: int | None) -> None:
        deadline = time.monotonic() + self.deadline_s
        pause, last = FIRST_POLL_S, "nothing yet"
        while True:
            try:
                seen = await self._subscription()
                if seen.version == version(document.writers):
                    found = await self.admin.settings(self.keys)
                    if found == self.change.after:
                        return
                    last = f"it took the file, but applies {found}"
                elif refusals is not None and seen.refusals > refusals:
                    await self._back_out(document)
                else:
                    last = f"it applies version {seen.version!r}"
            except Retryable as error:
                last = str(error)
            if time.monotonic() >= deadline:
                raise Ambiguous(
                    f"{self.file} is written, and Envoy has not shown it within {self.deadline_s} s: {last}"
                )
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_POLL_S)

    async def _back_out(self, document: Document) -> None:
        why = f"Envoy refused {self.file} (its log says why)"
        try:
            back = await asyncio.to_thread(self.folder.put_back, self.file, document.raw)
        except OSError as error:
            raise Ambiguous(f"{why}, and the old file could not be put back: {error}") from error
        raise Refused(f"{why}; " + ("the old file is back" if back else "another file stands there now, left as it is"))

    async def _subscription(self) -> Subscription:
        return await self.admin.subscription(self.file, self.keys[0].owner)
