"""Simulated sites for the contracts of the ports, in real time: what a real proxy and real engines are in the other labs."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count as numbers
from typing import Any

from activities.adapters.envoy_keys import CDS_FILE, RTDS_FILE, eds_file
from activities.adapters.fluid_cause import Cause
from activities.adapters.fluid_replicas import Replica
from activities.adapters.reading import Clock, utc_now
from activities.adapters.simulated import SimulatedSite
from activities.adapters.simulated_traffic import SimulatedTraffic
from activities.ports import Traffic
from runbooks.facts import Settings
from runbooks.incident import Incident

_NUMBERS = numbers()


def incident_of(fleet: dict[str, Any], starts: datetime | None = None) -> Incident:
    """A file in which nothing happens, from now on."""
    route = fleet["routes"][0]["name"]
    return Incident.model_validate(
        {
            "incident": "contract",
            "title": "Nothing happens",
            "kind": "synthetic",
            "sources": [{"says": "a test", "name": "us", "mark": "I"}],
            "starts": (starts or datetime.now(UTC)).isoformat(),
            "lasts": "10h",
            "noise": 0.0,
            "fleet": fleet,
            "timeline": {"faults": [{"fault": "demand", "at": "0s", "route": route, "factor": 1}]},
            "truth": {"failure_class": "unknown", "group": "unknown"},
            "expect": {"classes": ["unknown"], "outcome": ["paged"], "because": "a test"},
        }
    )


@dataclass(frozen=True)
class Connection:
    """One that the edge has opened. `at` is seconds of the model."""

    number: int
    at: float


class SimulatedUpstream:
    """One replica, as the edge is connected to it."""

    def __init__(self, edge: SimulatedEdge, pool: str, address: str) -> None:
        self._edge, self._pool, self._address = edge, pool, address
        self.connections: list[Connection] = []

    @property
    def open(self) -> set[Connection]:
        """Those that are neither closed nor older than they may become."""
        world = self._edge.site.world
        self._edge.site.advance(utc_now())
        if not world.edge.rotation[self._pool][self._address]:
            self.connections = []
        life, closed = world.edge.connections[self._pool], world.closed_at.get(self._pool, -1.0)
        alive = [c for c in self.connections if c.at > closed and (not life or world.t - c.at < life)]
        self.connections = alive
        return set(alive)


class SimulatedEdge:
    """The bench of the Traffic contract: `served` reads what the model makes of requests, and draws nothing itself."""

    def __init__(self) -> None:
        pools = [
            {"name": name, "cluster": cluster, "replicas": replicas, "most_replicas": replicas}
            for name, cluster, replicas in (("pool-a", "east", 2), ("pool-b", "east", 1), ("pool-c", "west", 1))
        ]
        routes: list[dict[str, Any]] = [
            {"name": "chat", "pools": ["pool-a", "pool-b"], "weights": {"pool-a": 100}, "requests_per_second": 1.0},
            {"name": "code", "pools": ["pool-c"], "weights": {"pool-c": 100}, "requests_per_second": 1.0},
        ]
        clusters = [{"name": "east", "nodes": 1}, {"name": "west", "nodes": 1}]
        self._clock: Clock = utc_now
        self.site = SimulatedSite(
            incident_of({"clusters": clusters, "pools": pools, "routes": routes}), lambda: self._clock()
        )
        self.fleet = self.site.fleet
        self.upstreams: Any = {
            e.address: SimulatedUpstream(self, p.name, e.address) for p in self.fleet.pools for e in p.endpoints
        }

    def traffic(self, **options: Any) -> Traffic:
        """The one port of the site, by another clock."""
        self._clock = options.get("clock", utc_now)
        return self.site.traffic

    async def served(self, count: int, tier: str | None = None) -> Counter[tuple[int, str, str]]:
        """(status, pool, endpoint) of so many requests to `chat`, as the flows of the model divide them."""
        world = self.site.world
        self.site.advance(utc_now())
        world.advance(world.t + 1)
        users = world.routes["chat"].users
        found: Counter[tuple[int, str, str]] = Counter()
        if tier is not None:
            asked = users.offered * world.routes["chat"].spec.tiers[tier]
            found[429, "", ""] = round(count * users.refused.get(tier, 0.0) / asked)
        rest, flows = count - found.total(), [world.pools[p] for p in ("pool-a", "pool-b")]
        passed = sum(f.gave.good for f in flows)
        for flow in flows:
            for group in flow.groups:
                for address in group.members:
                    share = flow.gave.good * group.share / passed
                    if many := round(rest * share):
                        found[200, flow.spec.name, address] = many
                        self.upstreams[address].connections.append(Connection(next(_NUMBERS), world.t))
        return +found

    async def updates(self, key: str) -> int:
        """Writes of what the key stands in."""
        family, owner = key.split("/")[:2]
        file = {"endpoint": eds_file(owner), "connections": CDS_FILE}.get(family, RTDS_FILE)
        assert isinstance(self.site.traffic, SimulatedTraffic)
        return self.site.traffic.updates.get(file, 0)

    async def hand_edit(self, settings: Settings) -> None:
        """As a person with an editor would."""
        self.site.set_by_hand(settings)


@asynccontextmanager
async def simulated_edge() -> AsyncIterator[SimulatedEdge]:
    """A fresh one."""
    yield SimulatedEdge()


@dataclass
class Process:
    """The process of a simulated engine: ended, or not."""

    ended: int | None = None

    def poll(self) -> int | None:
        """As a real one's."""
        return self.ended


@dataclass
class SimulatedEngine:
    """One replica, with the handles of `engine_lab.Engine`. `ails`: what is wrong with it now."""

    lab: SimulatedEngines
    address: str
    process: Process = field(default_factory=Process)
    ails: dict[str, Any] = field(default_factory=dict)
    frozen: bool = False

    @property
    def url(self) -> str:
        """Nobody listens there."""
        return f"http://{self.address}"

    def fault(self, **ails: Any) -> None:
        """As the engine's own /admin/fault: the body replaces what was there."""
        self.ails = ails
        self.lab.turn()

    def freeze(self) -> None:
        """Accepts, and answers nothing."""
        self.frozen = True
        self.lab.turn()

    def thaw(self) -> None:
        """Goes on."""
        self.frozen = False
        self.lab.turn()

    def kill(self) -> None:
        """Nobody listens any more."""
        self.process.ended = -9
        self.lab.turn()

    def restart(self) -> None:
        """As new."""
        self.process.ended = None
        self.lab.turn()

    def spoil(self, replica: Replica) -> None:
        """What the model makes of it."""
        replica.up &= self.process.ended is None
        replica.hung |= self.frozen or bool(self.ails.get("hang"))
        replica.also_errors(self.ails.get("error_rate", 0.0))
        replica.speed *= 0.03 if self.ails.get("ttft_s") else 1.0


class _Ails(Cause[Any]):
    """Whatever the engines of a lab are told to ail from."""

    def __init__(self, engines: dict[str, SimulatedEngine]) -> None:
        super().__init__(None, 0.0, None)
        self._engines, self.on = engines, True

    def mark(self, pool: str, replicas: Sequence[Replica]) -> None:
        for replica in replicas:
            self._engines[replica.address].spoil(replica)


class SimulatedEngines:
    """Pools of engines as in the lab of the Metrics contract: each has 2 slots and gives 60 tokens/s."""

    def __init__(self, pools: dict[str, int], dialect: str = "vllm", probe_s: float = 1.0) -> None:
        spec: dict[str, Any] = {"cluster": "c1", "tokens_per_second": 60.0, "slots": 2, "dialect": dialect}
        some = [{"name": n, "replicas": count, "most_replicas": count, **spec} for n, count in pools.items()]
        route = {"name": "chat", "pools": list(pools), "weights": {next(iter(pools)): 100}, "retries": 0}
        asks = {"requests_per_second": 1.0, "tokens_per_request": 10.0, "prompt_tokens": 1.0, "deadline": "10s"}
        clusters = [{"name": "c1", "nodes": 1}]
        incident = incident_of({"clusters": clusters, "pools": some, "routes": [{**route, **asks}]})
        self.site = SimulatedSite(incident, utc_now, probe_s=probe_s)
        self.fleet = self.site.fleet
        self.engines = {e.address: SimulatedEngine(self, e.address) for p in self.fleet.pools for e in p.endpoints}
        self.site.world.causes.append(_Ails(self.engines))
        self._clients: dict[str, int] = dict.fromkeys(pools, 0)
        self._timeout_s = 10.0
        self._steer()

    def of(self, pool: str) -> list[SimulatedEngine]:
        """The engines of a pool."""
        return [e for a, e in self.engines.items() if a.startswith(f"{pool}-")]

    def turn(self) -> None:
        """Something ails otherwise than before."""
        world = self.site.world
        self.site.advance(utc_now())
        world.relevel()
        world.settle()

    @asynccontextmanager
    async def load(self, pool: str, count: int, timeout_s: float) -> AsyncIterator[None]:
        """So many more clients that ask a pool without a pause."""
        self._clients[pool] += count
        self._timeout_s = timeout_s

        async def steer() -> None:
            while True:
                self.site.advance(utc_now())
                self._steer()
                await asyncio.sleep(0.05)

        task = asyncio.create_task(steer())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            self._clients[pool] -= count
            self._steer()

    def _steer(self) -> None:
        """Asks for as much as keeps so many requests under way: the model knows rates, and no clients that wait."""
        world, rates = self.site.world, dict[str, float]()
        for pool, clients in self._clients.items():
            flow = world.pools[pool]
            able = [g for g in flow.groups if g.of.answers]
            there = sum((g.queue + g.running) * g.count for g in able) + flow.waiting - flow.queue
            serves = sum((g.capacity_s or 6.0) * g.count for g in able)
            rates[pool] = max(0.0, serves + (clients + 0.2 - there) / 0.5) if clients else 0.0
        whole = sum(rates.values())
        route = world.routes["chat"]
        some = {"requests_per_second": whole, "deadline": self._timeout_s}
        route.spec = route.spec.model_copy(update=some)
        if whole:
            for pool, rate in rates.items():
                world.edge.weights["chat"][pool] = round(100_000 * rate / whole)
        else:
            world.pools[next(iter(rates))].stuck = 0.0
