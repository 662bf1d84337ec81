"""The Prober port on the fluid model: what one short generation would meet."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from activities.adapters.fluid_chance import uniform
from activities.adapters.fluid_look import ReplicaLook
from activities.adapters.reading import NotMeasured
from activities.adapters.simulated_view import Seen, View
from activities.errors import Permanent, Retryable
from activities.ports import Generation
from runbooks.fleet import Pool

TIMEOUT_S = 2.0
CLOSE_S = 0.01
"""What an answer takes beside the engine's own time."""


class SimulatedProber:
    """`patient`: an engine that gives tokens to others is called busy and not silent, as by a watcher of its counters.

    Chance decides what a probe meets, by the seed and the moment: asked twice at one moment, it meets the same.
    """

    def __init__(
        self, view: View, present: Callable[[], None], patient: bool = False, timeout_s: float = TIMEOUT_S
    ) -> None:
        self._timeout_s = timeout_s
        self._view, self._present, self._patient = view, present, patient
        self._world = view.world
        self._pools: dict[str, Pool] = {e.address: p for p in view.world.fleet.pools for e in p.endpoints}
        self._routes = {f"route/{r.name}": r.name for r in view.world.fleet.routes}

    def knows(self, scope: str) -> bool:
        """True for an endpoint of the inventory and for a route."""
        return scope in self._pools or scope in self._routes

    async def generate(self, scope: str) -> Generation:
        """One generation. Permanent: there is no such scope. Retryable: it could not be asked (a `blind` fault)."""
        return self.now(scope)

    def now(self, scope: str) -> Generation:
        """The same at once."""
        self._present()
        try:
            if scope in self._routes:
                return self._through(self._routes[scope])
            if scope in self._pools:
                return self._direct(self._pools[scope].name, scope)
        except NotMeasured as error:
            raise Retryable(f"cannot probe {scope}: {error}") from error
        raise Permanent(f"cannot probe {scope!r}: it is neither an endpoint of the inventory nor a route with a URL")

    def _direct(self, pool: str, address: str) -> Generation:
        seen = self._view.pool(pool, "probes")
        replica = next((r for r in seen.look.replicas if r.address == address), None)
        if replica is None:
            return self._check(pool, address, seen.at)
        return self._of(replica, address, seen)

    def _check(self, pool: str, address: str, at: datetime) -> Generation:
        """A replica beside the pool's own, that was put there to try a node."""
        world = self._world.worlds[self._world.cluster_of(pool)]
        ok = any(p.address == address and p.check and world.ready(p) for p in world.pods.values())
        return _said(ok, 0.1 if ok else CLOSE_S, "" if ok else "connection refused", at)

    def _of(self, replica: ReplicaLook, scope: str, seen: Seen) -> Generation:
        at = seen.at
        if not replica.up:
            return _said(False, CLOSE_S, "connection refused", at)
        if not replica.answers:
            return _said(False, self._timeout_s, f"no token within {self._timeout_s} s", at)
        if self._chance(scope, seen.look.t, "error") < replica.errors:
            return _said(False, CLOSE_S, "HTTP 500", at)
        took_s = replica.wait_s + replica.token_s + CLOSE_S
        if took_s > self._timeout_s:
            if self._patient:
                return _said(True, self._timeout_s, "busy: its token counter rises", at)
            return _said(False, self._timeout_s, f"no token within {self._timeout_s} s", at)
        return _said(True, took_s, "", at)

    def _through(self, route: str) -> Generation:
        """Through the proxy: no tier is named, so nothing of it is refused."""
        world = self._world
        if (blind := self._view.blinded("probes", route)) is not None and not blind.spec.stale:
            raise NotMeasured(f"the probes of {route} are missing")
        shares, scope = world.shares(route), f"route/{route}"
        if not shares:
            return _said(False, CLOSE_S, "HTTP 404", self._view.now())
        drawn = self._chance(scope, world.t, "pool")
        seen = self._routed(shares, drawn)
        look, at, t = seen.look, seen.at, seen.look.t
        if not look.inside:
            return _said(False, CLOSE_S, "HTTP 503", at)
        if self._chance(scope, t, "lost") < look.lost:
            return _said(False, CLOSE_S, "HTTP 503", at)
        if self._chance(scope, t, "dead") < look.dead:
            return _said(False, self._timeout_s, f"no token within {self._timeout_s} s", at)
        inside = look.inside
        met = inside[min(int(self._chance(scope, t, "replica") * len(inside)), len(inside) - 1)]
        return self._of(met, scope, seen)

    def _routed(self, shares: dict[str, float], drawn: float) -> Seen:
        """The pool that it comes to."""
        pool = next(iter(shares))
        for pool, share in shares.items():  # noqa: B007 (the last one takes what rounding leaves)
            drawn -= share
            if drawn < 0:
                break
        return self._view.pool(pool, "probes")

    def _chance(self, scope: str, t: float, what: str) -> float:
        return uniform(self._world.incident.seed, what, scope, round(t, 2))


def _said(ok: bool, seconds: float, why: str, at: datetime) -> Generation:
    return Generation(ok=ok, tokens=1 if ok else 0, seconds=seconds, why=why, observed_at=at)
