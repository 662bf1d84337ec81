"""What a site can measure of the simulated fleet at a moment: names and units of every measure that rules and reports use.

Read straight from the fluid model, as exporters would: a figure that nobody could have in life is not here. Shares are of a
pool's requests. 4xx counts as client error and 5xx as error, whatever its cause, as gateways count.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from activities.adapters.fluid_look import PoolLook, pool_look
from activities.adapters.fluid_pool import PoolFlow
from activities.adapters.fluid_world import FluidWorld
from runbooks.incident_faults import Blind, ClientErrors, Gpu
from worker.synthetic_monitoring import Monitoring
from worker.synthetic_sight_cluster import Numbers, cluster_measures, node_measures

WINDOW_S = 600.0
"""Of what is counted over time."""
_LATE = ("timeout", "stuck")
"""Causes of failures in which the deadline passed."""
_NOBODY = ("unreachable", "no_endpoint", "reset")
"""Causes of failures for which the gateway found nobody who takes the request."""
_FROM_ENGINES = (
    "latency_p99", "ttft_p99", "queue", "kv_used", "running", "tokens_per_second", "queue_spread", "requests_per_second",
    "arrival_of_normal", "error_rate", "client_error_share", "timeout_share", "connect_fail_share", "canary_pass",
)  # fmt: skip
"""What is not there while a pool's metrics are away, beside the shares by status."""


@dataclass
class Eyes:
    """A site's exporters. They remember what is counted over ten minutes."""

    world: FluidWorld
    site: Monitoring
    _restarts: dict[str, list[tuple[float, int]]] = field(default_factory=lambda: defaultdict(list))
    _weights: list[tuple[float, dict[str, dict[str, int]]]] = field(default_factory=list)
    _progress: dict[str, tuple[float, object]] = field(default_factory=dict)
    _still: dict[str, float] = field(default_factory=dict)

    def sight(self) -> dict[str, Numbers]:
        """Every target's measures at the world's time, by target id."""
        world, found = self.world, dict[str, Numbers]()
        self._weights.append((world.t, {r: dict(w) for r, w in world.edge.weights.items()}))
        for cluster in world.incident.fleet.clusters:
            found[cluster.name] = measures = cluster_measures(world, cluster.name)
            found |= dict(node_measures(world, cluster.name, measures))
        for route in world.incident.fleet.routes:
            for pool in route.pools:
                flow = world.pools[pool]
                service = f"{flow.spec.cluster}/service/{pool}"
                look = pool_look(world, pool)
                found[service] = self._service(route.name, flow, look)
                found |= dict(self._endpoints(service, look))
        return found

    def _service(self, route: str, flow: PoolFlow, look: PoolLook) -> Numbers:
        name, world = flow.spec.name, self.world
        found: Numbers = {**self._requests(name, look), **self._engines(look), **self._replicas(name, look)}
        flows = world.routes[route]
        found["arrival_of_normal"] = round(flows.attempts / flows.spec.requests_per_second, 3)
        weights = world.edge.weights[route]
        whole, asked = sum(weights.values()), sum(world.pools[p].ask.rate for p in weights)
        if weights[name] and asked:
            found["traffic_share_of_weight"] = flow.ask.rate / asked / (weights[name] / whole)
        found["weight_changes_10m"] = float(self._moves(route))
        found |= self._mark(name)
        return self._seen_through(name, route, found)

    def _requests(self, name: str, look: PoolLook) -> Numbers:
        whole = look.ended_s
        if whole <= 0:
            return {"requests_per_second": look.asked_s}
        by_status: dict[int, float] = defaultdict(float)
        for cause, rate in look.failed_s.items():
            by_status[self._status(name, cause)] += rate / whole
        return {
            "requests_per_second": look.asked_s,
            "error_rate": sum(s for code, s in by_status.items() if code >= 500),
            "client_error_share": sum(s for code, s in by_status.items() if code < 500),
            "timeout_share": sum(look.failed_s.get(c, 0.0) for c in _LATE) / whole,
            "connect_fail_share": sum(look.failed_s.get(c, 0.0) for c in _NOBODY) / whole,
            **{f"http_{code}_share": share for code, share in sorted(by_status.items()) if share > 0.001},
        }

    def _status(self, pool: str, cause: str) -> int:
        """What the site's gateway answers."""
        if cause == "client":
            faults = [c.spec for c in self.world.active]
            codes = [f.status for f in faults if isinstance(f, ClientErrors) and f.pool == pool and f.status != 429]
            return codes[0] if codes else 400
        fixed = {"error": 500, "limited": 429, "exhausted": self.site.full}
        late = self.site.timed_out if cause in _LATE else self.site.failed
        return fixed.get(cause, late)

    def _engines(self, look: PoolLook) -> Numbers:
        """`latency_p99` is the gateway's: what passes its deadline counts as the deadline. The rest are the engines' own."""
        found: Numbers = {}
        late = sum(look.failed_s.get(c, 0.0) for c in _LATE) > 0.01 * look.ended_s
        latency = look.deadline_s if late else look.latency_p99_s
        if latency is not None:
            found["latency_p99"] = latency
        if look.first_p99_s is not None:
            found["ttft_p99"] = look.first_p99_s
        engines = [r for r in look.inside if r.up]
        if not engines:
            return found
        found |= {
            "queue": float(round(look.queue)),
            "kv_used": look.kv_used,
            "running": float(round(look.running)),
            "tokens_per_second": look.tokens_s,
        }
        answering = [r for r in engines if r.answers]
        if answering:
            found["canary_pass"] = 1 - max(r.wrong for r in answering)
        load = [r.queue + r.running for r in engines]
        if len(load) > 1 and sum(load) > len(load):
            found["queue_spread"] = max(load) * len(load) / sum(load)
        return found

    def _replicas(self, pool: str, look: PoolLook) -> Numbers:
        world = self.world
        work, pods = world.workload(pool), world.pods_of(pool)
        cluster = world.worlds[world.cluster_of(pool)]
        ready = [p for p in pods if cluster.ready(p)]
        answering = sum(1 for r in look.inside if r.answers)
        history = self._restarts[pool]
        history.append((world.t, sum(p.restarts for p in pods)))
        earlier = next(n for t, n in history if t >= world.t - WINDOW_S)
        restarts = max(0, history[-1][1] - earlier)
        new = sum(1 for p in ready if p.template == work.present)
        if new >= work.desired or self._progress.get(pool, (0.0, None))[1] != (work.present, new):
            self._progress[pool] = (world.t, (work.present, new))
        return {
            "replicas_desired": float(work.desired),
            "replicas_ready": float(len(ready)),
            "replicas_serving": min(1.0, answering / work.desired) if work.desired else 1.0,
            "restarts_10m": float(restarts),
            **({"last_terminated_reason": "Error"} if restarts else {}),
            "unschedulable": float(sum(1 for p in pods if p.node is None)),
            "rollout_stuck_s": world.t - self._progress[pool][0] if len(work.revisions) > 1 else 0.0,
        }

    def _moves(self, route: str) -> int:
        """How often a weight of the route was set otherwise within the window."""
        kept = [w[route] for t, w in self._weights if t >= self.world.t - WINDOW_S]
        return sum(1 for a, b in pairwise(kept) if a != b)

    def _mark(self, pool: str) -> Numbers:
        """The change marker, for an hour."""
        revisions = self.world.workload(pool).revisions
        minutes = (self.world.t - self.world.seconds_of(revisions[-1][1])) / 60
        if len(revisions) < 2 or minutes > 60:
            return {}
        return {"minutes_since_change": round(minutes, 1), "change": revisions[-1][0].image}

    def _seen_through(self, pool: str, route: str, found: Numbers) -> Numbers:
        """What is left of it while the site is blind there."""
        names = (pool, route, self.world.cluster_of(pool))
        blind = [
            c.spec for c in self.world.active if isinstance(c.spec, Blind) and c.spec.of in names and c.spec.what != "probes"
        ]  # fmt: skip
        if not blind:
            self._still.pop(pool, None)
            return found
        since = self._still.setdefault(pool, self.world.t)
        kept = {n: v for n, v in found.items() if n not in _FROM_ENGINES and not n.startswith("http_")}
        kind = "metrics_flat_s" if blind[0].stale else "metrics_absent_s"
        return {**kept, kind: self.world.t - since}

    def _endpoints(self, service: str, look: PoolLook) -> Iterator[tuple[str, Numbers]]:
        """Replicas whose engine has work and makes no tokens; of the others nothing is told one by one."""
        for replica in look.inside:
            key = f"{service}/endpoint/{replica.address}"
            if not replica.up or replica.answers or replica.running < 1:
                self._still.pop(key, None)
                continue
            since = self._still.setdefault(key, self.world.t)
            yield (
                key,
                {
                    "stalled_s": self.world.t - since,
                    "running": float(round(replica.running)),
                    "tokens_per_second": replica.tokens_s,
                    "health_ok": True,
                },
            )

    def xids(self) -> dict[str, int]:
        """The last code of each GPU that has reported one, by target id."""
        faults = [c.spec for c in self.world.active if isinstance(c.spec, Gpu)]
        return {f"{f.node.rpartition('-n')[0]}/node/{f.node}/gpu/{f.gpu}": f.xid for f in faults}
