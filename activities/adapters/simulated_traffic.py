"""The Traffic port on the fluid model: compare-and-set under a fence, by the rules of the Envoy adapter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from activities.adapters.envoy_keys import Family, Key, domains_of
from activities.adapters.fluid_rules import weightless
from activities.adapters.simulated_view import View
from activities.errors import Permanent, Refused, Retryable
from activities.ports import Snapshot
from runbooks.change import Change, Permit
from runbooks.facts import Settings
from runbooks.incident_fleet import ClusterSpec

_FAMILIES: tuple[Family, ...] = ("weight", "admit", "connections", "endpoint")


@dataclass(frozen=True)
class _Writer:
    epoch: int
    permit_id: str


class SimulatedTraffic:
    """`clock` judges permits. `present` brings the model to the present. A domain whose traffic runs on something that is
    sick does not answer: Retryable."""

    def __init__(self, view: View, clock: Callable[[], datetime], present: Callable[[], None]) -> None:
        self._view, self._clock, self._present = view, clock, present
        self._world = view.world
        self._clusters: dict[str, ClusterSpec] = {c.name: c for c in view.world.incident.fleet.clusters}
        self._keys = {k.text: k for k in map(_key, view.world.edge.settings())}
        self._homes = {text: domains_of(view.world.fleet, key) for text, key in self._keys.items()}
        self._fences: dict[str, _Writer] = {}
        self._writers: dict[tuple[str, str], _Writer] = {}
        self.updates: dict[str, int] = {}
        """Writes by file, whoever wrote."""

    async def read(self, domain: str) -> Snapshot:
        """What stands there. Permanent: no such domain. Retryable: it does not answer."""
        self._present()
        self._answers(domain)
        return self._snapshot(domain)

    async def effective(self, keys: Sequence[str]) -> Settings:
        """The same, by key. Retryable: a domain of one of them does not answer."""
        self._present()
        known = [k for k in keys if k in self._keys]
        for domain in sorted({d for k in known for d in self._homes[k]}):
            self._answers(domain)
        settings = self._world.edge.settings()
        return {k: settings[k] for k in known}

    async def swap(self, change: Change, permit: Permit) -> Snapshot:
        """Refused, Retryable: see the port; also settings of two files, and a route left without any weight."""
        self._present()
        keys = self._checked(change, permit)
        self._answers(permit.domain)
        writer, file = _Writer(permit.epoch, permit.id), keys[0].file
        for seen in (self._fences.get(permit.domain), self._writers.get((file, permit.domain))):
            if seen is not None and seen.epoch >= permit.epoch and seen != writer:
                raise Refused(
                    f"fenced: {permit.domain} is at epoch {seen.epoch} (permit {seen.permit_id}), permit {permit.id} has "
                    f"epoch {permit.epoch}"
                )
        standing = self._world.edge.settings()
        found = {k.text: standing[k.text] for k in keys}
        if self._writers.get((file, permit.domain)) == writer:
            for text, wanted in change.after.items():
                if found[text] != wanted:
                    raise Refused(
                        f"{text} is {found[text]!r}: somebody changed it after permit {permit.id} had set {wanted!r}; "
                        f"a permit never acts twice"
                    )
            return self._snapshot(permit.domain)
        self._may_write(change, permit, found)
        self._fences[permit.domain] = self._writers[file, permit.domain] = writer
        for text, value in change.after.items():
            self._world.edge.put(text, value)
        self.updates[file] = self.updates.get(file, 0) + 1
        self._world.wrote(dict(change.after), permit.id, f"permit {permit.id}")
        self._world.settle()
        return self._snapshot(permit.domain)

    def _may_write(self, change: Change, permit: Permit, found: Settings) -> None:
        if (now := self._clock()) >= permit.act_before:
            raise Refused(f"permit {permit.id} expired at {permit.act_before.isoformat()}, it is {now.isoformat()}")
        for text, expected in change.before.items():
            if found[text] != expected:
                raise Refused(f"{text} is {found[text]!r}, and the plan rests on {expected!r}: plan again")
        weights = {route: dict(by) for route, by in self._world.edge.weights.items()}
        touched = set()
        for text, value in change.after.items():
            if (key := self._keys[text]).family == "weight" and isinstance(value, int):
                weights[key.owner][key.item] = value
                touched.add(key.owner)
        if lost := weightless({r: weights[r] for r in touched}):
            raise Refused(f"{sorted(lost)[0]}: route would have no weight at all, and every request would get 404")

    def _checked(self, change: Change, permit: Permit) -> list[Key]:
        """What can be refused without looking at the world."""
        if set(change.before) != set(change.after) or not change.after:
            raise Refused("the change does not name the same settings before and after, or names none")
        if permit.change_digest != change.digest:
            raise Refused(f"permit {permit.id} is for another change ({permit.change_digest}, not {change.digest})")
        if unknown := sorted(set(change.after) - self._keys.keys()):
            raise Refused(f"{', '.join(unknown)}: no such setting in the fleet that this edge serves")
        keys = [self._keys[text] for text in change.after]
        if len(files := sorted({k.file for k in keys})) > 1:
            raise Refused(f"one change writes one file, this one needs {' and '.join(files)}: make it two changes")
        for key in keys:
            if (problem := key.problem(change.after[key.text])) is not None:
                raise Refused(problem)
            if permit.domain not in (homes := self._homes[key.text]):
                raise Refused(f"{key.text} is in {sorted(homes)}, and permit {permit.id} is for {permit.domain}")
        return keys

    def _answers(self, domain: str) -> None:
        spec = self._clusters.get(domain)
        if spec is None:
            raise Permanent(f"the fleet has no domain {domain!r}; it has {', '.join(self._clusters)}")
        for needed in spec.traffic_runs_on:
            if why := self._view.sick(needed):
                raise Retryable(f"the traffic of {domain} does not answer within 4 s: it runs on {needed}, and {why}")

    def _snapshot(self, domain: str) -> Snapshot:
        settings = self._world.edge.settings()
        writers = [w for (_, d), w in self._writers.items() if d == domain]
        last = max(writers, key=lambda w: w.epoch, default=None)
        fence = self._fences.get(domain)
        return Snapshot(
            settings={k: v for k, v in settings.items() if domain in self._homes[k]},
            observed_at=self._clock(),
            epoch=max((w.epoch for w in (fence, last) if w is not None), default=0),
            permit_id=last.permit_id if last is not None else "",
        )


def _key(text: str) -> Key:
    family, _, rest = text.partition("/")
    owner, _, item = rest.partition("/")
    return Key(text, next(f for f in _FAMILIES if f == family), owner, item)
