"""Indicators of the fluid model under the names that a proxy and engines give them (the table of `indicators.py`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from activities.adapters.dialects import DIALECTS
from activities.adapters.fluid_look import PoolLook, ReplicaLook
from activities.adapters.reading import NotMeasured, Reading
from activities.adapters.simulated_view import Seen, View
from runbooks.incident_faults import ClientErrors

CAUSES = {
    "timeout_share": ("timeout", "stuck"),
    "connect_fail_share": ("unreachable", "no_endpoint", "reset"),
    "http_429_share": ("exhausted", "limited"),
}
"""Shares of causes of failure: what the proxy would count."""
LEAST_S = 1e-3
"""Fewer requests than one in a quarter of an hour end: no share can be made of them."""


class SimulatedScrape:
    """Without noise: whoever reports a reading adds it."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._fleet = view.world.fleet
        self._pool_of = {e.address: p.name for p in self._fleet.pools for e in p.endpoints}

    def read(self, name: str, scope: str) -> Reading:
        """One indicator of a pool, an endpoint or `route/NAME`. NotMeasured with the reason."""
        match name:
            case "error_rate":
                return self._share(name, scope, lambda look: look.errors_s)
            case "client_error_share":
                return self._share(name, scope, lambda look: look.client_errors_s)
            case "http_400_share" | "http_415_share" | "http_422_share":
                return self._share(name, scope, lambda look: self._malformed(look, int(name.split("_")[1])))
            case _ if name in CAUSES:
                return self._share(name, scope, lambda look: sum(look.failed_s.get(c, 0.0) for c in CAUSES[name]))
            case "requests_per_second":
                seen = self._proxy(name, scope)
                return Reading(sum(s.look.asked_s for s in seen), _oldest(seen))
            case "tokens_per_second":
                return self._tokens(scope)
            case "queue" | "running" | "kv_used":
                return self._gauge(name, scope)
            case "ttft_p99_s":
                return self.slowest(name, scope, lambda look: look.first_p99_s)
            case "latency_p99_s":
                return self.slowest(name, scope, lambda look: look.latency_p99_s)
            case _:
                raise NotMeasured(f"scrape has no indicator {name!r}")

    def _malformed(self, look: PoolLook, status: int) -> float:
        """Requests refused as malformed with this status: as the faults that are under way answer."""
        faults = [f.spec for f in self._view.world.active]
        shares = {
            code: sum(
                f.share for f in faults if isinstance(f, ClientErrors) and (f.pool, f.status) == (look.pool, code)
            )
            for code in (400, 415, 422)
        }
        whole = sum(shares.values())
        mine = shares[status] / whole if whole else float(status == 400)
        return look.failed_s.get("client", 0.0) * mine

    def client_errors(self, pool: str) -> Reading:
        """Share of a pool's requests that ended with 4xx."""
        return self._share("client_error_share", pool, lambda look: look.client_errors_s)

    def slowest(self, name: str, scope: str, of: Callable[[PoolLook], float | None]) -> Reading:
        """The slowest hundredth, the worst pool of a route."""
        seen = self._view.pools(self._pools(name, scope))
        if any(DIALECTS[self._dialect(s.look.pool)].ttft is None for s in seen):
            raise NotMeasured(f"llamacpp has no histogram for {name}")
        values = [v for s in seen if (v := of(s.look)) is not None]
        if not values:
            raise NotMeasured(f"{name}: no request was counted between two readings")
        return Reading(max(values), _oldest(seen))

    def _share(self, name: str, scope: str, of: Callable[[PoolLook], float]) -> Reading:
        seen = self._proxy(name, scope)
        ended = sum(s.look.ended_s for s in seen)
        if ended < LEAST_S:
            raise NotMeasured(f"{name}: no request ended on {scope}")
        return Reading(min(1.0, sum(of(s.look) for s in seen) / ended), _oldest(seen))

    def _proxy(self, name: str, scope: str) -> list[Seen]:
        """Looks at the pools of a scope, by the proxy's own counters."""
        kind, _, route = scope.partition("/")
        if kind == "route" and (blind := self._view.blinded("metrics", route)) is not None and not blind.spec.stale:
            raise NotMeasured(f"the metrics of {route} are missing")
        return self._view.pools(self._pools(name, scope))

    def _pools(self, name: str, scope: str) -> Sequence[str]:
        kind, _, rest = scope.partition("/")
        route = self._fleet.route(rest) if kind == "route" else None
        if route is not None:
            return route.pools
        if self._fleet.pool(scope) is None:
            raise NotMeasured(f"{name}: {scope!r} is neither a pool nor a route of the inventory")
        return (scope,)

    def _members(self, scope: str) -> tuple[list[ReplicaLook], datetime, str]:
        """Replicas in rotation, or the one that is named; the oldest moment of the looks; a dialect among them."""
        if (pool := self._pool_of.get(scope)) is not None:
            seen = self._view.pool(pool)
            found = [r for r in seen.look.replicas if r.address == scope]
            if not found:
                raise NotMeasured(f"{scope}: connection refused")
            return found, seen.at, self._dialect(pool)
        every = self._view.pools(self._pools("engines", scope))
        inside = [r for s in every for r in s.look.inside]
        if not inside:
            raise NotMeasured(f"no endpoint of {scope} is in rotation")
        return inside, _oldest(every), self._dialect(every[0].look.pool)

    def _dialect(self, pool: str) -> str:
        found = self._fleet.pool(pool)
        assert found is not None
        return found.dialect

    def _tokens(self, scope: str) -> Reading:
        members, at, _ = self._members(scope)
        silent = [r.address for r in members if not r.up]
        if len(silent) == len(members):
            raise NotMeasured(f"{', '.join(silent)}: connection refused")
        why = f"lower bound, without {', '.join(silent)}: connection refused" if silent else ""
        return Reading(sum(r.tokens_s for r in members), at, why)

    def _gauge(self, name: str, scope: str) -> Reading:
        members, at, dialect = self._members(scope)
        if name == "kv_used" and DIALECTS[dialect].kv is None:
            raise NotMeasured(f"{dialect} has no KV-cache gauge")
        if silent := [r.address for r in members if not r.up]:
            raise NotMeasured(f"{', '.join(silent)}: connection refused")
        if name == "kv_used":
            return Reading(max(r.kv_used for r in members), at)
        return Reading(sum(r.queue if name == "queue" else r.running for r in members), at)


def _oldest(seen: Sequence[Seen]) -> datetime:
    return min(s.at for s in seen)
