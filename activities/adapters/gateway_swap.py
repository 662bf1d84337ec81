"""One swap on an HTTPRoute: look, judge, raise the fence, write, read back.

There is no lock on the API server. Each write passes only while the object is exactly as it was read, so whoever comes
second reads again and judges again. The fence is raised on every HTTPRoute of the domain before one of them is written:
an attempt with a lower epoch that had judged another route by then finds that one changed under its hands.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from activities.adapters.envoy_document import Writer
from activities.adapters.gateway_api import ROLE, RouteApi, load
from activities.adapters.gateway_route import EPOCH, PERMIT, Place, RouteObject
from activities.adapters.gateway_status import word_on
from activities.errors import Ambiguous, Permanent, Refused, Retryable
from runbooks.change import Change, Permit

FIRST_POLL_S, LONGEST_POLL_S = 0.01, 0.5


@dataclass
class Swap:
    """What was asked of one swap. `others` are the other HTTPRoutes of the permit's domain, as read just now.

    `abandoned` is set when the caller has gone away: then nothing is written any more. `unanswered` is the version that
    a write of ours was bound to when no answer came: it may happen as long as the object stands at that version.
    """

    api: RouteApi
    change: Change
    permit: Permit
    place: Place
    others: Sequence[RouteObject]
    clock: Callable[[], datetime]
    checkpoint: Callable[[str], None]
    write_wait_s: float
    accept_deadline_s: float
    abandoned: bool = False
    unanswered: str | None = field(default=None, init=False)

    @property
    def writer(self) -> Writer:
        """The permit as the annotations record it."""
        return Writer(epoch=self.permit.epoch, permit_id=self.permit.id)

    async def run(self) -> None:
        """The whole swap; returns when the gateways have accepted it. Errors as in `GatewayTraffic.swap`."""
        try:
            await self._write_once()
        except (Refused, Retryable, Permanent) as error:
            if self.unanswered is None:
                raise
            raise Ambiguous(f"a write of {self.place} was not answered and may still happen; then: {error}") from error
        self.checkpoint("before_read_back")
        await self._read_back()

    async def _write_once(self) -> None:
        seen = await self._look()
        self.checkpoint("after_before_read")
        end, fenced = time.monotonic() + self.write_wait_s, False
        while not self._ours(seen):
            self._judge(seen)
            if not fenced:
                for other in self.others:
                    await self._raise_fence(other, end)
                fenced = True
            if await self._put(seen):
                self.checkpoint("after_write")
                return
            if time.monotonic() >= end:
                raise Retryable(f"{self.place} could not be written within {self.write_wait_s} s: it keeps changing")
            await asyncio.sleep(FIRST_POLL_S)
            seen = await self._look()

    async def _look(self) -> RouteObject:
        seen = await load(self.api, self.place)
        if seen.version != self.unanswered:
            self.unanswered = None  # a write that is bound to an older version can no longer pass
        self._not_fenced(seen)
        return seen

    def _not_fenced(self, seen: RouteObject) -> None:
        domain, permit = self.permit.domain, self.permit
        # What was written counts as well: a fence that somebody took away must not let a late attempt through.
        for found in (seen.fences.get(domain), seen.writers.get(domain)):
            if found is not None and found.epoch >= permit.epoch and not found.same(self.writer):
                late = "; this permit had written before that" if seen.writers.get(domain) == self.writer else ""
                raise Refused(
                    f"fenced: {domain} is at epoch {found.epoch} (permit {found.permit_id}) on {seen.place}, "
                    f"permit {permit.id} has epoch {permit.epoch}{late}"
                )

    def _ours(self, seen: RouteObject) -> bool:
        """True when this very permit has written already, and its settings still stand."""
        if seen.writers.get(self.permit.domain) != self.writer:
            return False
        for key, wanted in self.change.after.items():
            if seen.settings[key] != wanted:
                raise Refused(
                    f"{key} is {seen.settings[key]!r} on {self.place}: somebody changed it after permit "
                    f"{self.permit.id} had set {wanted!r}; a permit never acts twice"
                )
        return True

    def _judge(self, seen: RouteObject) -> None:
        self._in_time()
        for key, expected in self.change.before.items():
            if (found := seen.settings[key]) != expected:
                raise Refused(f"{key} is {found!r} on {self.place}, and the plan rests on {expected!r}: plan again")
        if not any({**seen.settings, **self.change.after}.values()):
            raise Refused(f"route {self.place.route} would have no weight at all, and every request would get a 500")
        word = word_on(seen)
        # An undo is written all the same: what is declared must be right when the controller wakes.
        if self.permit.purpose == "act" and word.state != "accepted":
            raise Retryable(f"nothing was written: what {self.place} declares now is not what is served ({word.why})")

    def _in_time(self) -> None:
        now = self.clock()
        if now >= self.permit.act_before:
            raise Refused(
                f"permit {self.permit.id} expired at {self.permit.act_before.isoformat()}, it is {now.isoformat()}"
            )
        if self.abandoned:
            raise Refused("the caller was cancelled before anything was written")

    async def _put(self, seen: RouteObject) -> bool:
        """The act. False when it is not known to be done: the object tells. The same write twice can pass but once."""
        fences = {**seen.fences, self.permit.domain: self.writer}
        writers = {**seen.writers, self.permit.domain: self.writer}
        marks = seen.marked({EPOCH: fences, PERMIT: writers})
        self._in_time()
        try:
            await self.api.patch(
                self.place.path, [*seen.untouched(), *seen.weighted(self.change.after), *marks], role=ROLE
            )
        except Ambiguous:
            self.unanswered = seen.version
            return False
        except Refused:
            if (await self._look()).version == seen.version:
                raise  # nobody was faster: the server does not take it
            return False
        self.unanswered = None
        return True

    async def _raise_fence(self, other: RouteObject, end: float) -> None:
        seen = other
        while True:
            self._not_fenced(seen)
            if seen.fences.get(self.permit.domain) == self.writer:
                return
            marks = seen.marked({EPOCH: {**seen.fences, self.permit.domain: self.writer}})
            self._in_time()
            try:
                await self.api.patch(seen.place.path, [*seen.untouched(), *marks], role=ROLE)
                return
            except (Refused, Ambiguous) as error:
                if time.monotonic() >= end:
                    raise Retryable(f"the fence could not be raised on {seen.place}: {error}") from error
            await asyncio.sleep(FIRST_POLL_S)
            seen = await load(self.api, seen.place)

    async def _read_back(self) -> None:
        end = time.monotonic() + self.accept_deadline_s
        pause, last = FIRST_POLL_S, "nothing yet"
        while True:
            try:
                seen = await load(self.api, self.place)
                self._stands(seen)
                word = word_on(seen)
                if word.state == "accepted":
                    return
                if word.state == "rejected" and self.permit.purpose == "act":
                    await self._back_out(seen, word.why)
                last = word.why
            except Retryable as error:
                last = str(error)
            except Permanent as error:
                raise Ambiguous(f"{self.place} is written, and cannot be read back: {error}") from error
            if time.monotonic() >= end:
                raise Ambiguous(f"{self.place} is written, and not accepted within {self.accept_deadline_s} s: {last}")
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_POLL_S)

    def _stands(self, seen: RouteObject) -> None:
        found = {key: seen.settings[key] for key in self.change.after}
        writer = seen.writers.get(self.permit.domain)
        if found != self.change.after or writer != self.writer:
            who = "nobody we know" if writer is None or writer == self.writer else f"permit {writer.permit_id}"
            raise Ambiguous(f"{self.place} was written, and changed by {who} before a gateway had accepted it: {found}")

    async def _back_out(self, seen: RouteObject, why: str) -> None:
        """Refused once the old weights are back. Returns when somebody was faster: look again."""
        others = {domain: w for domain, w in seen.writers.items() if domain != self.permit.domain}
        old = [*seen.weighted(self.change.before), *seen.marked({PERMIT: others})]
        try:
            await self.api.patch(self.place.path, [*seen.untouched(), *old], role=ROLE)
        except Refused:
            return
        except (Ambiguous, Retryable, Permanent) as error:
            raise Ambiguous(f"{why}, and the old weights could not be put back: {error}") from error
        raise Refused(f"{why}; the old weights are back")
