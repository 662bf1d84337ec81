"""The Traffic port on Envoy: compare-and-set on its xDS files under a fence, read back by its admin API."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import httpx

from activities.adapters import envoy_keys
from activities.adapters.envoy_admin import EnvoyAdmin
from activities.adapters.envoy_files import EdgeFolder
from activities.adapters.envoy_keys import Key
from activities.adapters.envoy_swap import Swap
from activities.adapters.swapping import finished
from activities.checkpoint import Checkpoint, no_checkpoint
from activities.errors import Ambiguous, Permanent, Refused
from activities.ports import Snapshot
from runbooks.change import Change, Permit
from runbooks.facts import Settings
from runbooks.fleet import Fleet


def _now() -> datetime:
    return datetime.now(UTC)


class EnvoyTraffic:
    """`activities.ports.Traffic` on the xDS files that `worker.edge.write_edge` lays down.

    `clock` gives the time that permits are judged by. `checkpoint` is called at "after_before_read", "after_write" and
    "before_read_back": crash tests end the process there. `lock_wait_s` and `apply_deadline_s` are seconds.
    `client` talks to `admin_url` directly: give it `trust_env=False` where the environment names an HTTP proxy.
    """

    def __init__(
        self,
        fleet: Fleet,
        folder: Path,
        admin_url: str,
        client: httpx.AsyncClient,
        *,
        clock: Callable[[], datetime] = _now,
        checkpoint: Checkpoint = no_checkpoint,
        lock_wait_s: float = 10.0,
        apply_deadline_s: float = 3.0,
    ) -> None:
        self._fleet = fleet
        self._keys = {k.text: k for k in envoy_keys.all_keys(fleet)}
        self._folder = EdgeFolder(folder)
        self._admin = EnvoyAdmin(client, admin_url, timeout_s=1.0)
        self._clock = clock
        self._checkpoint = checkpoint
        self._lock_wait_s = lock_wait_s
        self._apply_deadline_s = apply_deadline_s

    async def read(self, domain: str) -> Snapshot:
        """What the files declare for the domain. Permanent: no such domain, or a file that cannot be read."""
        return await asyncio.to_thread(self._read, domain)

    async def effective(self, keys: Sequence[str]) -> Settings:
        """What Envoy applies now, by its admin API alone; a key unknown to the fleet or to Envoy is absent."""
        return await self._admin.settings([self._keys[k] for k in keys if k in self._keys])

    async def swap(self, change: Change, permit: Permit) -> Snapshot:
        """Compare-and-set of settings that stand in one file; returns when Envoy applies them.

        Refused: see the port; also settings of two files, a foreign domain, a route left without any weight, an admin
        override, or a file that Envoy refused (the old one is put back). Retryable: Envoy or the lock could not be had,
        nothing written. Ambiguous: written, and Envoy has not shown it within the deadline.
        """
        keys = self._checked(change, permit)
        routes = {k.owner for k in keys if k.family == "weight"}
        split = [k for k in self._keys.values() if k.family == "weight" and k.owner in routes]
        work = Swap(
            self._folder,
            self._admin,
            change,
            permit,
            keys,
            split,
            self._clock,
            self._checkpoint,
            self._apply_deadline_s,
        )
        await self.read(permit.domain)  # what could not be read after the act must stop us before it
        await finished(work, work.run(self._lock_wait_s))
        try:
            return await self.read(permit.domain)
        except Permanent as error:
            raise Ambiguous(f"applied, but what is declared now cannot be read: {error}") from error

    def _checked(self, change: Change, permit: Permit) -> list[Key]:
        """What can be refused without looking at the world."""
        if set(change.before) != set(change.after) or not change.after:
            raise Refused("the change does not name the same settings before and after, or names none")
        if permit.change_digest != change.digest:
            raise Refused(f"permit {permit.id} is for another change ({permit.change_digest}, not {change.digest})")
        if not permit.id or any(c.isspace() for c in permit.id):
            raise Refused(f"permit id {permit.id!r} cannot be written into a file: it is empty or has blanks")
        unknown = sorted(set(change.after) - set(self._keys))
        if unknown:
            raise Refused(f"{', '.join(unknown)}: no such setting in the fleet that this edge serves")
        keys = [self._keys[text] for text in change.after]
        files = sorted({k.file for k in keys})
        if len(files) > 1:
            raise Refused(f"one change writes one file, this one needs {' and '.join(files)}: make it two changes")
        for key in keys:
            if (problem := key.problem(change.after[key.text])) is not None:
                raise Refused(problem)
            if permit.domain not in (homes := envoy_keys.domains_of(self._fleet, key)):
                raise Refused(f"{key.text} is in {sorted(homes)}, and permit {permit.id} is for {permit.domain}")
        return keys

    def _read(self, domain: str) -> Snapshot:
        keys = [k for k in self._keys.values() if domain in envoy_keys.domains_of(self._fleet, k)]
        if not keys:
            raise Permanent(f"the fleet has no domain {domain!r}; it has {', '.join(self._fleet.domains())}")
        # The moment before the first file is opened: what is read may be newer than it says, never older.
        observed_at, settings = self._clock(), Settings()
        fence = self._folder.fences().get(domain)
        writers = []
        for file in sorted({k.file for k in keys}):
            document = self._folder.load(file)
            settings |= document.settings([k for k in keys if k.file == file])
            writers += [document.writers[domain]] if domain in document.writers else []
        last = max(writers, key=lambda w: w.epoch, default=None)
        epochs = [w.epoch for w in (fence, last) if w is not None]
        return Snapshot(
            settings=settings,
            observed_at=observed_at,
            epoch=max(epochs, default=0),
            permit_id=last.permit_id if last is not None else "",
        )
