"""The Traffic port on the Kubernetes Gateway API: weights of HTTPRoutes, compare-and-set, accepted by their gateways.

An HTTPRoute has weights and nothing else that a lever needs: endpoints, connections and admitted shares are not read
here, and a change of one is refused. What is effective is what the gateways' controllers have accepted, by their word.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

from activities.adapters.gateway_api import RouteApi, load_all
from activities.adapters.gateway_route import MAX_WEIGHT, Place
from activities.adapters.gateway_status import word_on
from activities.adapters.gateway_swap import Swap
from activities.adapters.swapping import finished
from activities.checkpoint import Checkpoint, no_checkpoint
from activities.errors import Ambiguous, Permanent, Refused, Retryable
from activities.ports import Snapshot
from runbooks.change import Change, Permit, weight_key
from runbooks.facts import Settings, Value
from runbooks.fleet import Fleet, Route


def _now() -> datetime:
    return datetime.now(UTC)


class GatewayTraffic:
    """`activities.ports.Traffic` on HTTPRoutes of a cluster.

    A fleet route is the HTTPRoute of the same name in `namespace`, unless `objects` gives another (`NAME` or
    `NAMESPACE/NAME` by route); a pool is the backendRef of the same name, unless `services` gives another (by pool).
    `clock` gives the time that permits are judged by. `checkpoint` is called at "after_before_read", "after_write" and
    "before_read_back": crash tests end the process there. `write_wait_s` (against others who write at the same time)
    and `accept_deadline_s` (for the controllers) are seconds.
    """

    def __init__(
        self,
        fleet: Fleet,
        api: RouteApi,
        *,
        namespace: str,
        objects: Mapping[str, str] | None = None,
        services: Mapping[str, str] | None = None,
        clock: Callable[[], datetime] = _now,
        checkpoint: Checkpoint = no_checkpoint,
        write_wait_s: float = 10.0,
        accept_deadline_s: float = 10.0,
    ) -> None:
        self._fleet = fleet
        self._api = api
        self._places = {r.name: _place(r, namespace, objects or {}, services or {}) for r in fleet.routes}
        self._routes = {weight_key(r.name, p): r for r in fleet.routes for p in r.pools}
        self._clock = clock
        self._checkpoint = checkpoint
        self._write_wait_s = write_wait_s
        self._accept_deadline_s = accept_deadline_s

    async def read(self, domain: str) -> Snapshot:
        """The weights that the domain's HTTPRoutes declare. Permanent: no such domain, or a route that cannot be read."""
        # The moment before the first answer: what is read may be newer than it says, never older.
        observed_at, settings = self._clock(), Settings()
        found = await load_all(self._api, self._places_of(domain))
        for seen in found:
            settings |= seen.settings
        writers = [seen.writers[domain] for seen in found if domain in seen.writers]
        last = max(writers, key=lambda w: w.epoch, default=None)
        epochs = [w.epoch for w in [*writers, *(s.fences[domain] for s in found if domain in s.fences)]]
        return Snapshot(
            settings=settings,
            observed_at=observed_at,
            epoch=max(epochs, default=0),
            permit_id=last.permit_id if last is not None else "",
        )

    async def effective(self, keys: Sequence[str]) -> Settings:
        """The weights that every gateway of the route has accepted. Absent: no such weight, or not accepted (yet)."""
        names = sorted({self._routes[k].name for k in keys if k in self._routes})
        found = await load_all(self._api, [self._places[n] for n in names])
        served: Settings = {}
        for seen in found:
            served |= seen.settings if word_on(seen).state == "accepted" else {}
        return {k: served[k] for k in keys if k in served}

    async def swap(self, change: Change, permit: Permit) -> Snapshot:
        """Compare-and-set of weights of one HTTPRoute; returns when its gateways have accepted them.

        Refused: see the port; also settings that an HTTPRoute does not have, weights of two routes, a foreign domain, a
        route left without any weight, or weights that a gateway rejected (the old ones are put back). Retryable:
        nothing written. Ambiguous: written or perhaps written, and not accepted within the deadline.
        """
        place = self._checked(change, permit)
        # What could not be read after the act must stop us before it.
        others = await load_all(self._api, [p for p in self._places_of(permit.domain) if p != place])
        work = Swap(
            self._api,
            change,
            permit,
            place,
            others,
            self._clock,
            self._checkpoint,
            self._write_wait_s,
            self._accept_deadline_s,
        )
        await finished(work, work.run())
        try:
            return await self.read(permit.domain)
        except (Permanent, Retryable) as error:
            raise Ambiguous(f"applied, but what is declared now cannot be read: {error}") from error

    def _places_of(self, domain: str) -> list[Place]:
        if domain not in self._fleet.domains():
            raise Permanent(f"the fleet has no domain {domain!r}; it has {', '.join(self._fleet.domains())}")
        return [self._places[r.name] for r in self._fleet.routes if domain in self._homes(r)]

    def _homes(self, route: Route) -> frozenset[str]:
        """A route is in the domain of each of its pools."""
        return frozenset(p.cluster for p in self._fleet.pools if p.name in route.pools)

    def _checked(self, change: Change, permit: Permit) -> Place:
        """What can be refused without looking at the world."""
        if set(change.before) != set(change.after) or not change.after:
            raise Refused("the change does not name the same settings before and after, or names none")
        if permit.change_digest != change.digest:
            raise Refused(f"permit {permit.id} is for another change ({permit.change_digest}, not {change.digest})")
        if not permit.id or any(c.isspace() for c in permit.id):
            raise Refused(f"permit id {permit.id!r} cannot be written into an annotation: it is empty or has blanks")
        foreign = sorted(k for k in change.after if k.partition("/")[0] != "weight")
        if foreign:
            raise Refused(f"{', '.join(foreign)}: an HTTPRoute has no such setting, only weights")
        unknown = sorted(set(change.after) - set(self._routes))
        if unknown:
            raise Refused(f"{', '.join(unknown)}: no such setting in the fleet that these routes serve")
        routes = {self._routes[k].name: self._routes[k] for k in change.after}
        if len(routes) > 1:
            names = " and ".join(str(self._places[n]) for n in sorted(routes))
            raise Refused(f"one change writes one HTTPRoute, this one needs {names}: make it two changes")
        for key, value in change.after.items():
            if (problem := _problem(key, value)) is not None:
                raise Refused(problem)
        route = next(iter(routes.values()))
        if permit.domain not in (homes := self._homes(route)):
            raise Refused(f"route {route.name} is in {sorted(homes)}, and permit {permit.id} is for {permit.domain}")
        return self._places[route.name]


def _problem(key: str, value: Value) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int):
        return f"{key} must be a whole number, not {value!r}"
    return None if 0 <= value <= MAX_WEIGHT else f"{key} must be 0 to {MAX_WEIGHT}, not {value}"


def _place(route: Route, namespace: str, objects: Mapping[str, str], services: Mapping[str, str]) -> Place:
    where, _, name = objects.get(route.name, route.name).rpartition("/")
    return Place(route.name, where or namespace, name, {pool: services.get(pool, pool) for pool in route.pools})
