"""Everything that the demo starts: control plane, pools, Envoy, Temporal, Interlock, Alertmanager, load. Ended in reverse."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.e2e import doc
from tests.e2e.monitoring import ALERTMANAGER, alertmanager
from tests.kube.control_plane import ControlPlane
from tests.kube.demo import layout
from tests.kube.demo.alerts import Alerts, Tell, to_alertmanager, to_intake
from tests.kube.demo.interlock import start_interlock
from tests.kube.demo.serving import Serving
from tests.kube.demo.view import ClusterView, lines
from tests.kube.members import Members
from tests.kube.minimum import Minimum
from tests.kube.stories.cluster import StoryCluster
from tests.lab import until
from worker.demo.engines import CLUSTER, TOKENS
from worker.demo.interlock import Interlock
from worker.demo.load import Load
from worker.demo.plant import MOST_S, DemoFailed, _cancel, _empty, links, start_edge, start_temporal, temporal_ready
from worker.demo.processes import ProcessTree


@dataclass
class Stage:
    """What runs. It has what a demo's Story needs of its plant."""

    tree: ProcessTree
    plane: ControlPlane
    cluster: StoryCluster
    interlock: Interlock
    load: Load
    alerts: Alerts
    serving: Serving
    minimum: Minimum
    http: httpx.AsyncClient
    ui_url: str
    view: ClusterView
    jobs: list[asyncio.Task[None]] = field(default_factory=list)

    def check(self) -> None:
        """ChildFailed, DemoFailed, or a job's own error, when something ended that should not have."""
        self.tree.check()
        self.load.check()
        for name, process in self.plane.processes.items():
            if process.poll() is not None:
                raise DemoFailed(f"{name} of the control plane has ended; its log is in {self.plane.folder}")
        for job in self.jobs:
            if job.done() and not job.cancelled():
                job.result()


@contextlib.asynccontextmanager
async def running_stage(folder: Path, view: ClusterView) -> AsyncIterator[Stage]:
    """Start everything in `folder` (emptied first; logs stay in it afterwards) and end it all when the block ends."""
    _empty(folder)
    async with contextlib.AsyncExitStack() as stack:
        tree = stack.enter_context(ProcessTree(folder))
        http = await stack.enter_async_context(httpx.AsyncClient(trust_env=False, timeout=5))
        temporal, address, ui_url = start_temporal(tree)
        view.say("starting a Kubernetes control plane: etcd, API server, controllers, scheduler …")
        plane = stack.enter_context(ControlPlane(tree.folder / "control-plane"))
        await asyncio.sleep(0)  # what blocks is over: now is the moment for a Ctrl-C
        view.say(f"starting {_words()} …")
        cluster = StoryCluster(
            plane, tree.folder, layout.POOLS, layout.NODES, name=CLUSTER, namespace=layout.NAMESPACE,
            probing=layout.PROBING,
        )  # fmt: skip
        cluster.tokens_per_second, cluster.tiers = layout.ENGINE_TPS, ("batch", "interactive")
        stack.enter_context(cluster)
        await asyncio.sleep(0)
        fleet = cluster.inventory()
        admin, front = await start_edge(tree, fleet, http)
        members = Members(cluster.world, fleet, tree.folder / "edge")
        members.start()
        stack.callback(members.stop)
        await temporal_ready(tree, temporal, ui_url, http)
        cluster.grant(*layout.ROLES)
        view.say(f"Interlock may do what docs/rbac/{{fence,read,{','.join(layout.ROLES)}}}.yaml say, and no more")
        interlock = await start_interlock(
            tree,
            fleet,
            kubeconfig=plane.kubeconfig_of("interlock", plane.service_account_token("interlock", "interlock")),
            temporal_address=address,
            ui_url=ui_url,
            envoy_admin=admin,
            front=front,
        )
        tell = await _who_hears(stack, tree, http, interlock, view)
        view.links |= links(ui_url)
        for name, url in view.links.items():
            view.say(f"{name}: {url}")
        load = Load(front, layout.rate(), tree.folder / "requests.jsonl", most_s=MOST_S)
        serving = Serving(cluster.world, tuple(p.name for p in layout.POOLS))
        stack.callback(serving.stop)
        minimum = stack.enter_context(cluster.watch_minimum())
        alerts = Alerts(cluster.world, CLUSTER, tell)
        stage = Stage(tree, plane, cluster, interlock, load, alerts, serving, minimum, http, ui_url, view)
        await stack.enter_async_context(load)
        view.load, view.nodes = load, lambda: lines(cluster)
        view.say(f"load: {load.rate:g} requests/s of {TOKENS} tokens through Envoy, {front}")
        for job in (alerts.run(), view.run()):
            stage.jobs.append(asyncio.create_task(job))
            stack.push_async_callback(_cancel, stage.jobs[-1])
        yield stage
        view.say("stopping everything …")


async def _who_hears(
    stack: contextlib.AsyncExitStack,
    tree: ProcessTree,
    http: httpx.AsyncClient,
    interlock: Interlock,
    view: ClusterView,
) -> Tell:
    """A real Alertmanager with the receiver of docs/starting-cases.md where it is installed, else the intake itself."""
    if not Path(ALERTMANAGER).exists():
        view.say("no Alertmanager is installed here: its webhook is sent to the intake without one")
        return to_intake(http, interlock)
    (secret := interlock.folder / "token").touch(mode=0o600)
    secret.write_text(interlock.token)
    receiver = doc.blocks("1. Alertmanager", "yaml")[0]
    door = interlock.url.removeprefix("http://")
    address = stack.enter_context(alertmanager(tree.folder, receiver, INTAKE=door, TOKEN_FILE=str(secret)))

    async def ready() -> bool:
        try:
            return (await http.get(f"http://{address}/-/ready")).is_success
        except httpx.HTTPError:
            return False

    await until(ready, "Alertmanager is ready")
    return to_alertmanager(http, address)


def _words() -> str:
    pools = " and ".join(f"{p.name} with {p.replicas} replicas" for p in layout.POOLS)
    return f"{len(layout.NODES)} GPU nodes, {pools}; each replica is a real process that answers generations"
