"""A domain without machines: the shipped simulated cluster, replicas that are the lab's engines, a worker of its own.

Everything else is real: Temporal, the Guard, the gates, the journal, generations. Sites stand side by side, each on its
own task queue.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from temporalio.client import WorkflowHandle

from activities.adapters.kube_unit import Look, Unit
from activities.adapters.simulated_cluster import SimSpec, SimulatedCluster
from activities.adapters.sql import SqlJournal
from activities.adapters.webhook import LogNotify
from runbooks.change import Permit
from runbooks.detection import guard_id
from runbooks.facts import GuardView, Settings
from runbooks.fleet import Endpoint, Fleet, Node, Pool, Route, Workload, outside
from runbooks.library import Library
from runbooks.policy import Policy
from tests import lab as labs
from worker.edge import write_edge
from worker.wiring import Parts


@dataclass(frozen=True)
class Write:
    """One write that reached the cluster."""

    at: datetime
    purpose: str
    what: str


class NotedCluster(SimulatedCluster):
    """The shipped simulated cluster, which also keeps who wrote what and when."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.log: list[Write] = []

    async def write(self, unit: Unit, seen: Look, after: Settings, permit: Permit) -> None:
        """As the shipped one; what was refused is not kept."""
        await super().write(unit, seen, after, permit)
        self.log.append(Write(datetime.now(UTC), permit.purpose, ", ".join(k.text for k in unit.keys)))


@dataclass
class Site:
    """Handles to one site."""

    name: str
    lab: labs.Lab
    folder: Path
    fleet: Fleet
    cluster: NotedCluster
    policy: Policy
    library: Library
    task_queue: str
    cases: list[WorkflowHandle[Any, Any]] = field(default_factory=list)

    def parts(self, **more: Any) -> Parts:
        """What its worker is made of."""
        made: dict[str, Any] = {
            "client": self.lab.client,
            "fleet": self.fleet,
            "policy": self.policy,
            "library": self.library,
            "journal": SqlJournal(f"sqlite:///{self.folder / 'journal.db'}"),
            "notify": LogNotify(self.folder / "pages.jsonl"),
            "claim_key": labs.CLAIM_KEY,
            "envoy_folder": self.folder / "edge",
            "envoy_admin": self.lab.admin,
            "route_urls": {"chat": self.lab.front},
            "watch_period_s": 1.0,
            "probe_timeout_s": 0.9,
            "task_queue": self.task_queue,
            "cluster": self.cluster,
        }
        return Parts(**{**made, **more})

    @property
    def guard(self) -> WorkflowHandle[Any, Any]:
        """The Guard of this domain."""
        return self.lab.client.get_workflow_handle(guard_id(self.name))

    async def view(self) -> GuardView:
        """What it says."""
        found: GuardView = await self.guard.query("view", result_type=GuardView)
        return found

    def pages(self) -> list[dict[str, Any]]:
        """What people were told."""
        path = self.folder / "pages.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def fleet_of(lab: labs.Lab, name: str, nodes: Mapping[str, int], replicas: Mapping[str, int]) -> Fleet:
    """Pools a and b on the lab's engines; `nodes`: name → GPUs, `replicas`: pool → in normal times."""
    pools = tuple(
        Pool(
            name=pool,
            cluster=name,
            dialect="vllm",
            model="smollm2",
            tokens_per_second=5000,
            endpoints=tuple(Endpoint(address=e.address) for e in lab.engines.values() if e.pool == f"chat-{pool}"),
            workload=Workload(namespace=name, deployment=pool, replicas=count),
        )
        for pool, count in replicas.items()
    )
    names = tuple(replicas)
    return Fleet(
        routes=(Route(name="chat", pools=names, tiers=("batch",)),),
        pools=pools,
        nodes=tuple(Node(name=n, cluster=name, pools=names, gpus=g) for n, g in nodes.items()),
        controls=outside(name),
    )


@asynccontextmanager
async def site(
    lab: labs.Lab,
    folder: Path,
    name: str,
    *,
    nodes: Mapping[str, int],
    replicas: Mapping[str, int],
    policy: Policy,
    library: Library,
    task_queue: str = "",
    pools: Mapping[str, SimSpec] | None = None,
    kind: type[NotedCluster] = NotedCluster,
) -> AsyncIterator[Site]:
    """A site whose replicas serve, and no worker yet. Its Guard and its cases are ended with the block."""
    folder = folder / name
    folder.mkdir(parents=True)
    fleet = fleet_of(lab, name, nodes, replicas)
    write_edge(
        fleet, folder / "edge", admin_port=9, listen_port=9, weights={"chat": dict.fromkeys(replicas, 50)},
    )  # fmt: skip
    specs = pools or {pool: SimSpec(min_available=max(0, count - 1)) for pool, count in replicas.items()}
    cluster = kind(fleet, name, specs, start_s=0.3, end_s=0.1)
    made = Site(name, lab, folder, fleet, cluster, policy, library, task_queue or name)

    async def serves() -> bool:
        seen = (await cluster.read(name)).state
        return all(seen.workloads[p].ready == n for p, n in replicas.items())

    await labs.until(serves, f"the replicas of {name} are ready")
    try:
        yield made
    finally:
        running = f'ExecutionStatus = "Running" AND (WorkflowId STARTS_WITH "remediate:{name}" OR WorkflowId = "guard:{name}")'
        async for found in lab.client.list_workflows(running):
            await lab.client.get_workflow_handle(found.id, run_id=found.run_id).terminate("end of the test")
