"""The place of the growing measures: the production profile with any number of workers, and many targets on few engines.

A target is one endpoint of one pool. The pools of a domain share its endpoints, as engines that serve several models would, and
an engine is heard at many addresses: a thousand targets need no thousand engines, and each still is a case of its own. More
pools would need more of Linux: Envoy takes an inotify instance for each of them, and a user has 128.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import httpx
import yaml
from temporalio.client import Client

from activities.adapters.exposition import parse, total
from runbooks.fleet import Endpoint, Fleet, Pool, Route, outside
from tests.bench.contestant import Target
from tests.bench.field import MODEL, TOKENS_PER_SECOND
from tests.bench.interlock import Interlock, promoted
from tests.bench.wire import Connection
from worker.demo.processes import Child, ProcessTree, free_ports

NOBODY = 1
"""No sink: the workers here are the shipped ones, and none of them acts."""
LOOK_EVERY_S = 60.0
"""Looks at engines are not what is measured here. The policy's scrape period is the same."""
COUNTED = {
    "cached": "temporal_sticky_cache_size",
    "evicted": "temporal_sticky_cache_total_forced_eviction_total",
    "workflow_tasks": "temporal_workflow_task_execution_latency_seconds_count",
    "activities": "temporal_activity_execution_latency_seconds_count",
}
"""Names of ours → of the SDK's own metrics."""


class Site(Interlock):
    """`pools` in each of `domains` clusters, of `sick` endpoints that may hang and as many that do not.

    `changes` go into the demo's policy, by section.
    """

    per_route = 3.0

    def __init__(
        self,
        tree: ProcessTree,
        *,
        domains: int,
        pools: int,
        sick: int,
        changes: Mapping[str, Mapping[str, Any]],
        workers: int = 1,
    ) -> None:
        super().__init__(tree, production=True, domains=domains)
        self._pools, self._sick, self._changes, self._count = pools, sick, changes, workers
        self.workers: list[Child] = []
        self._metrics: list[int] = []

    async def up(self) -> None:
        """All of it runs and takes alerts."""
        await self.start(NOBODY)
        self.client = await Client.connect(self.address)

    async def again(self) -> None:
        """The shipped intake and workers; the policy is the demo's with the changes."""
        path = self.tree.folder / "policy.yaml"
        policy = yaml.safe_load(path.read_text())
        policy["timing"]["scrape_period_s"] = LOOK_EVERY_S
        for section, values in self._changes.items():
            policy[section] = {**policy.get(section, {}), **values}
        path.write_text(yaml.safe_dump(policy, sort_keys=False))
        env = {k: v for k, v in self._env.items() if not k.startswith("BENCH_")}
        env["INTERLOCK_LOOK_EVERY_S"] = str(LOOK_EVERY_S)
        self.intake = self.tree.start("intake", [sys.executable, "-m", "worker", "intake"], env=env)
        for _ in range(self._count):
            await self.one_more(env)
        await promoted(self.address)
        async with httpx.AsyncClient(trust_env=False, timeout=2) as http:
            url = f"http://127.0.0.1:{self._port}/readyz"
            await self.tree.ready(self.intake, lambda: _ready(http, url), timeout_s=90)

    async def one_more(self, env: Mapping[str, str]) -> None:
        """One more `interlock worker`, which polls when this returns."""
        port = free_ports(1)[0]
        own = {**env, "INTERLOCK_TEMPORAL__METRICS_BIND": f"127.0.0.1:{port}"}
        child = self.tree.start(f"worker-{len(self.workers)}", [sys.executable, "-m", "worker", "worker"], env=own)
        self.workers.append(child)
        self._metrics.append(port)

        async def polls() -> bool:
            return "polling" in child.log.read_text()

        await self.tree.ready(child, polls, timeout_s=180)

    @property
    def temporal(self) -> Child:
        """Temporal's server."""
        return next(c for c in self.tree.children if c.name == "temporal")

    def all_targets(self) -> list[Target]:
        """The endpoints that may hang, in each of their pools; the domains in turn."""
        clusters = self._clusters()
        return [
            Target(c, f"{c}-p{pool}", self._addresses(c)[n])
            for pool in range(self._pools)
            for n in range(self._sick)
            for c in clusters
        ]

    def strangers(self, count: int) -> list[Target]:
        """Targets that the fleet file does not have, the domains in turn: nothing is there to be looked at, or to be moved."""
        clusters = self._clusters()
        return [
            Target(clusters[n % len(clusters)], "elsewhere", f"198.51.{n // 250}.{n % 250 + 1}:8000")
            for n in range(count)
        ]

    async def counted(self) -> dict[str, float]:
        """The SDK's counters, summed over the workers; what a worker has never counted is 0."""
        found = dict.fromkeys(COUNTED, 0.0)
        for port in self._metrics:
            async with Connection("127.0.0.1", port) as connection:
                metrics = parse((await connection.ask("GET", "/metrics"))[1].decode())
            for name, theirs in COUNTED.items():
                found[name] += total(metrics, theirs) or 0.0
        return found

    async def count(self, query: str) -> int:
        """Workflows by visibility, which follows within a second here."""
        return (await self.client.count_workflows(query)).count

    def _clusters(self) -> list[str]:
        return list(dict.fromkeys(t.cluster for t in self.targets))

    def _addresses(self, cluster: str) -> list[str]:
        """Of the domain's first engine, which hangs in a measure that wants it, and then of its second."""
        number = self._clusters().index(cluster)
        first, second, _ = (t.endpoint.rpartition(":")[2] for t in self.targets if t.cluster == cluster)
        found = [(1, first, n) for n in range(self._sick)] + [(2, second, n) for n in range(self._sick)]
        return [f"127.{engine}.{number}.{n + 1}:{port}" for engine, port, n in found]

    def _listens(self) -> list[str]:
        return [*super()._listens(), *(a for c in self._clusters() for a in self._addresses(c))]

    def _fleet(self) -> Fleet:
        clusters = self._clusters()
        names = {c: [f"{c}-p{n}" for n in range(self._pools)] for c in clusters}
        return Fleet(
            routes=tuple(Route(name=f"r-{c}", pools=tuple(names[c])) for c in clusters),
            pools=tuple(
                Pool(
                    name=name,
                    cluster=c,
                    dialect="vllm",
                    model=MODEL,
                    tokens_per_second=TOKENS_PER_SECOND,
                    endpoints=tuple(Endpoint(address=a) for a in self._addresses(c)),
                )
                for c in clusters
                for name in names[c]
            ),
            controls=outside(*clusters),
        )


async def _ready(http: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await http.get(url)).is_success
    except httpx.HTTPError:
        return False
