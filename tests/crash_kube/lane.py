"""A lane on the control plane: a domain with its own nodes, namespace, pods, journal, task queue and worker processes.

Lanes run side by side, so that many kill points wait out the time-outs of a dead attempt together.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from temporalio.client import Client, WorkflowHandle

from runbooks.detection import Detection, Target
from runbooks.fleet import Endpoint, Fleet, Node, Pool, Route, Workload, outside
from tests import lab as labs
from tests.crash.watched import Watched
from tests.crash.worker_process import End
from tests.crash_kube import worker_process
from tests.crash_kube.cases import Story, library, policy
from tests.crash_kube.worker_process import Job
from tests.kube.cluster import Cluster
from tests.kube.control_plane import ControlPlane
from tests.kube.members import Members
from tests.kube.pod_run import Probing
from worker.edge import write_edge

DEAD_PORT = "http://127.0.0.1:9"
"""No Envoy runs in these lanes: no lever of theirs writes to it, and its files say which replicas are in rotation."""

SELDOM = Probing(starting_s=0.2, every_s=2.0)
"""How often the kubelet asks: many engines share two cores, and none of them fails here."""


@dataclass
class Lane(Watched):
    """Handles to one lane. `deaths` counts the worker processes that ended by their own kill point."""

    name: str
    client: Client
    story: Story
    folder: Path
    cluster: Cluster
    fleet: Fleet
    kubeconfigs: dict[str, Path]
    end: End | None = None
    workers: list[ForkServerProcess] = field(default_factory=list)
    deaths: int = 0
    detection: Detection | None = None
    handle: WorkflowHandle[Any, Any] | None = None

    look_every_s = 1.0
    patience_s = 150.0

    def temporal(self) -> Client:
        """See `Watched`."""
        return self.client

    @property
    def lamp(self) -> str:
        """The node that is NotReady while the fault holds."""
        return f"{self.name}-lamp"

    @property
    def node(self) -> str:
        """The first node: the target, where the story is on a node."""
        return f"{self.name}-1"

    @property
    def target(self) -> Target:
        """What the fault is about."""
        match self.story.on:
            case "node":
                return Target(cluster=self.name, node=self.node)
            case "gpu":
                return Target(cluster=self.name, node=self.node, gpu="0")
            case _:
                return Target(cluster=self.name, service="a")

    async def start_workers(self) -> None:
        """The one worker, and first the node's own where that is what acts."""
        if self.story.by_node:
            await self.start_worker()
        await self.start_worker(acts=not self.story.by_node)

    async def start_worker(self, acts: bool = True) -> None:
        """A new process of the kind that acts (the last in `workers` when it does), or of the kind that decides."""
        number = len(self.workers)
        by_node = acts and self.story.by_node
        job = Job(
            temporal=self.client.service_client.config.target_host,
            task_queue=self.name,
            fleet=self.fleet,
            policy=policy(),
            library=library(self.story),
            folder=self.folder,
            kubeconfig=self.kubeconfigs["interlock-node-agent" if by_node else "interlock"],
            envoy_admin=DEAD_PORT,
            ready=self.folder / f"ready-{number}",
            node=self.node if by_node else "",
            end=self.end if acts else None,
        )
        path = self.folder / f"job-{number}.json"
        path.write_text(job.model_dump_json(by_alias=True))
        worker = worker_process.start(path, self.folder / f"worker-{number}.log")
        self.workers.append(worker)

        async def polls() -> bool:
            return job.ready.exists() or worker.exitcode is not None

        await labs.until(polls, f"worker {number} of {self.name} polls", 120)
        assert job.ready.exists(), f"worker {number} of {self.name} did not start:\n{self.log()}"

    async def keep_working(self) -> None:
        """Puts a new worker in the place of one that was killed at its point; a death of another kind fails."""
        seen: set[int] = set()
        while True:
            await asyncio.sleep(0.1)
            for number, worker in enumerate(tuple(self.workers)):
                if number in seen or worker.exitcode is None:
                    continue
                killed = worker.exitcode == -signal.SIGKILL and self.end is not None and self.end.marker.exists()
                assert killed, f"worker {number} of {self.name} ended by itself ({worker.exitcode}):\n{self.log()}"
                assert self.deaths == 0, f"the worker of {self.name} was killed twice"
                seen.add(number)
                self.deaths += 1
                await self.start_worker()

    async def fail(self) -> None:
        """The fault holds from now on."""
        await asyncio.to_thread(self.cluster.kubelet.fail_node, self.lamp)
        await self.cluster.until_node(self.lamp, ready=False)

    async def heal(self) -> None:
        """It is gone, and the detector says so."""
        await asyncio.to_thread(self.cluster.kubelet.heal_node, self.lamp)
        assert self.detection is not None
        over = self.detection.model_copy(update={"status": "resolved", "observed_at": datetime.now(UTC)})
        await self.client.get_workflow_handle(self.detection.workflow_id).signal("detect", over)

    async def open(self) -> None:
        """Starts the case as the intake does."""
        now = datetime.now(UTC)
        self.detection = Detection.model_validate(
            {
                "alert": self.story.alert,
                "target": self.target,
                "severity": "critical",
                "started_at": now,
                "observed_at": now,
                "detector": "lab",
            }
        )
        self.handle = await self.client.start_workflow(
            "Remediation",
            self.detection,
            id=self.detection.workflow_id,
            task_queue=self.name,
            start_signal="detect",
            start_signal_args=[self.detection],
        )

    def journal(self) -> list[str]:
        """The state of every intent and receipt in the order of the intents: `intended`, `standing`, `restored`, ..."""
        with contextlib.closing(sqlite3.connect(self.folder / "journal.db")) as journal:
            return [row[0] for row in journal.execute("select state from receipts order by seq")]

    def world(self) -> dict[str, Any]:
        """What levers can change, as the API server has it: `POOL image`, `NODE cordon` and so on."""
        api, space = self.cluster.control_plane.api, self.cluster.namespace
        found: dict[str, Any] = {}
        for pool in self.story.pools:
            spec = api.get(self.cluster.path(pool.name))["spec"]
            found[f"{pool.name} replicas"] = spec["replicas"]
            found[f"{pool.name} image"] = spec["template"]["spec"]["containers"][0]["image"]
            found[f"{pool.name} paused"] = bool(spec.get("paused"))
        for scaler in api.get(f"/apis/autoscaling/v2/namespaces/{space}/horizontalpodautoscalers")["items"]:
            found[f"{scaler['metadata']['name']} behavior"] = scaler["spec"].get("behavior")
        for node in self.cluster.nodes:
            found[f"{node} cordon"] = bool(api.get(f"/api/v1/nodes/{node}")["spec"].get("unschedulable"))
        return found


def _fleet(cluster: Cluster, story: Story) -> Fleet:
    pools = tuple(
        Pool(
            name=p.name,
            cluster=cluster.name,
            dialect="vllm",
            model="smollm2",
            tokens_per_second=1000,
            endpoints=tuple(Endpoint(address=a) for a in cluster.addresses.slots(p.name, p.slots)),
            workload=Workload(namespace=cluster.namespace, deployment=p.name, replicas=p.replicas),
        )
        for p in story.pools
    )
    names = tuple(p.name for p in pools)
    nodes = tuple(Node(name=n, cluster=cluster.name, pools=names, gpus=g) for n, g in cluster.nodes.items())
    return Fleet(
        routes=(Route(name="chat", pools=names, tiers=("batch",)),),
        pools=pools,
        nodes=nodes,
        controls=outside(cluster.name),
    )


@asynccontextmanager
async def running_lane(
    client: Client,
    plane: ControlPlane,
    kubeconfigs: dict[str, Path],
    folder: Path,
    story: Story,
    name: str,
    end: tuple[str, int] | None = None,
) -> AsyncIterator[Lane]:
    """A lane whose pods serve, and no worker yet. `end`: point and the how-manieth time it is reached."""
    folder = folder / name
    folder.mkdir(parents=True)
    nodes = {f"{name}-{number}": gpus for number, gpus in story.nodes.items()} | {f"{name}-lamp": 0}
    async with AsyncExitStack() as stack:
        cluster = Cluster(plane, folder / "cluster", story.pools, nodes, name=name, probing=SELDOM)
        await asyncio.to_thread(cluster.start, 120.0)
        stack.push_async_callback(asyncio.to_thread, cluster.stop)
        fleet = _fleet(cluster, story)
        write_edge(
            fleet, folder / "edge", admin_port=9, listen_port=9, weights={"chat": dict.fromkeys(_pools(fleet), 50)}
        )
        members = Members(cluster.world, fleet, folder / "edge")
        await asyncio.to_thread(members.start)
        stack.callback(members.stop)
        lane = Lane(
            name=name,
            client=client,
            story=story,
            folder=folder,
            cluster=cluster,
            fleet=fleet,
            kubeconfigs=kubeconfigs,
            end=End(point=end[0], nth=end[1], marker=folder / "ended") if end else None,
        )
        stack.callback(lane.end_workers)
        yield lane


def _pools(fleet: Fleet) -> list[str]:
    return [p.name for p in fleet.pools]
