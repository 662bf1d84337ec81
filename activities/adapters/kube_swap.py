"""One swap on a cluster, real or simulated: look, judge, raise the fence, write object by object, read back.

Nothing holds a lock: the fence and every object are compared with what was read, so a write that comes late is a
conflict and not an act.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from activities.adapters.kube_errors import Conflict, NotFound
from activities.adapters.kube_keys import Key
from activities.adapters.kube_read import together
from activities.adapters.kube_rules import Mark, fenced, in_time
from activities.adapters.kube_unit import Look, Unit, units
from activities.adapters.reading import Clock
from activities.errors import Ambiguous, PortError, Refused
from runbooks.change import Change, Permit
from runbooks.facts import Settings

TRIES = 6
"""Controllers write status into the same objects all the time, and each write is a conflict for ours."""


class Store(Protocol):
    """The objects of one cluster and the fence before them."""

    async def mark(self, domain: str) -> Mark | None:
        """Who went through the fence last."""
        ...

    async def enter(self, permit: Permit, marks: dict[str, int]) -> Mark:
        """Raises the fence. Refused: a higher epoch, or another permit of this epoch, went through."""
        ...

    async def hold(self, permit: Permit) -> None:
        """Refused: a later permit has gone through since."""
        ...

    async def look(self, unit: Unit) -> Look:
        """The object as it is now."""
        ...

    async def rehearse(self, unit: Unit, seen: Look) -> None:
        """Refused: what can be known beforehand stands against the write."""
        ...

    async def write(self, unit: Unit, seen: Look, after: Settings, permit: Permit) -> None:
        """One write, good only for the object as it was seen. Conflict: it is another by now."""
        ...


@dataclass
class ClusterSwap:
    """What was asked of one swap. `abandoned` is set when the caller has gone away: then nothing is written any more."""

    store: Store
    change: Change
    permit: Permit
    keys: Sequence[Key]
    clock: Clock
    checkpoint: Callable[[str], None]
    abandoned: bool = False
    mark: Mark | None = field(default=None, init=False)
    again: bool = field(default=False, init=False)

    async def run(self) -> None:
        """Returns when every object shows the change. Errors as in `KubeCluster.swap`."""
        self.mark = await self.store.mark(self.permit.domain)
        self.again = fenced(self.mark, self.permit)
        all_units = units(self.keys)
        seen = dict(zip(all_units, await together(*(self.store.look(u) for u in all_units)), strict=True))
        self.checkpoint("after_before_read")
        todo = self._judged(seen)
        if todo:
            await self._enter({u: seen[u] for u in todo})
            await self._write_all(todo, seen)
        self.checkpoint("before_read_back")
        await self._read_back(all_units)

    def _judged(self, seen: dict[Unit, Look]) -> list[Unit]:
        """The units that are still to be written."""
        todo: list[Unit] = []
        wrong: list[Refused] = []
        for unit, found in seen.items():
            try:
                if not self._done(unit, found):
                    todo.append(unit)
            except Refused as error:
                wrong.append(error)
        if wrong and len(todo) + len(wrong) < len(seen):
            raise Ambiguous(f"a part of the change stands by permit {self.permit.id}, and {wrong[0]}")
        if wrong:
            raise wrong[0]
        return todo

    def _done(self, unit: Unit, found: Look) -> bool:
        """True: written by this very permit. False: as the plan found it. Refused: neither."""
        epoch, writer = found.stamp()
        mine = unit.stamped and (epoch, writer) == (self.permit.epoch, self.permit.id)
        if epoch >= self.permit.epoch and not mine:
            raise Refused(f"fenced: {self._title(unit)} was written at epoch {epoch} by permit {writer}")
        now = {k.text: found.settings.get(k.text) for k in unit.keys}
        as_before = all(now[k] == self.change.before[k] for k in now)
        as_after = all(self.change.done(k, v) for k, v in now.items())
        if mine or (not unit.stamped and self._touched(unit, found)):
            if as_after:
                return True
            raise Refused(
                f"{self._title(unit)} is {now}: somebody changed it after permit {self.permit.id} had set "
                f"{self._wanted(unit)}; a permit never acts twice"
            )
        if as_before:
            return False
        expected = {k: self.change.before[k] for k in now}
        raise Refused(f"{self._title(unit)} is {now}, and the plan rests on {expected}: plan again")

    def _touched(self, unit: Unit, found: Look) -> bool:
        """Whether the object, which bears no stamp, has changed since this permit went through the fence."""
        if self.mark is None or not self.mark.of(self.permit):
            return False
        if unit.kind == "pod":
            return found.settings.get(unit.keys[0].text) != self.change.before[unit.keys[0].text]
        return found.generation != self.mark.marks.get(unit.keys[0].text)

    async def _enter(self, todo: dict[Unit, Look]) -> None:
        for unit, found in todo.items():
            await self.store.rehearse(unit, found)
        try:
            self._may_write()
        except Refused as error:
            if self.again:
                # The request of the earlier attempt may still be on its way to the store.
                raise Ambiguous(f"an earlier attempt of this permit may yet be applied, and now {error}") from error
            raise
        marks = {u.keys[0].text: found.generation for u, found in todo.items() if u.kind == "scale"}
        self.mark = await self.store.enter(self.permit, marks)

    async def _write_all(self, todo: list[Unit], seen: dict[Unit, Look]) -> None:
        written = len(seen) - len(todo)
        for unit in todo:
            try:
                if written:
                    await self.store.hold(self.permit)
                await self._write(unit, seen[unit])
            except Ambiguous:
                raise
            except PortError as error:
                if not written and not (self.again and isinstance(error, Refused)):
                    raise
                raise Ambiguous(
                    f"{written} of {len(seen)} objects are written, then {error}; the same permit goes on from there"
                ) from error
            written += 1
            self.checkpoint("after_write")

    async def _write(self, unit: Unit, found: Look) -> None:
        for attempt in range(1, TRIES + 1):
            self._may_write()
            try:
                await self.store.write(unit, found, self.change.after, self.permit)
                return
            except (Conflict, NotFound):
                if attempt == TRIES:
                    raise
            # What the plan rests on may well be as it was: then only the version is another.
            found = await self.store.look(unit)
            if self._done(unit, found):
                return

    async def _read_back(self, all_units: list[Unit]) -> None:
        found: Settings = {}
        for seen in await together(*(self.store.look(u) for u in all_units)):
            found |= seen.settings
        odd = {k: found.get(k) for k in self.change.after if not self.change.done(k, found.get(k))}
        if odd:
            raise Ambiguous(f"it was written, and now stands at {odd}: somebody else has written at the same time")

    def _may_write(self) -> None:
        in_time(self.permit, self.clock())
        if self.abandoned:
            raise Refused("the caller was cancelled before anything was written")

    def _title(self, unit: Unit) -> str:
        return ", ".join(k.text for k in unit.keys)

    def _wanted(self, unit: Unit) -> Settings:
        return {k.text: self.change.after[k.text] for k in unit.keys}
