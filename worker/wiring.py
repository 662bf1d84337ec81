"""Adapters → activities → Worker. What Interlock is made of, in one place."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from temporalio.client import Client
from temporalio.common import VersioningBehavior, WorkerDeploymentVersion
from temporalio.worker import Worker, WorkerDeploymentConfig

from activities.acts import ClusterActivities, NodeActivities, TrafficActivities
from activities.adapters.envoy import EnvoyTraffic
from activities.adapters.measure import Measurements
from activities.adapters.origins import PerOrigin
from activities.adapters.probe import HttpProber
from activities.adapters.prometheus import PrometheusSource
from activities.adapters.scrape import ScrapeSource
from activities.adapters.sql import SqlJournal
from activities.adapters.watch import PoolWatcher
from activities.adapters.watched import WatchedProber
from activities.attest import AttestActivities
from activities.casebook import CasebookActivities
from activities.checkpoint import Checkpoint, no_checkpoint
from activities.facts import Clock, Gatherer, utc_now
from activities.guard_client import GuardClient
from activities.looking import LookingActivities
from activities.ports import Actuator, Cluster, Journal, Metrics, Notify, Prober, Traffic
from activities.reaper import ReaperActivities
from activities.safety import SafetyActivities
from activities.sampling import SamplingActivities, Sleep
from activities.triage import TriageActivities
from activities.turns import TurnActivities
from runbooks.decisions import approver_groups
from runbooks.detection import TASK_QUEUE, guard_queue, node_queue
from runbooks.fleet import Fleet
from runbooks.library import Library
from runbooks.policy import Policy
from runbooks.record import CaseRecord


@dataclass
class Parts:
    """Everything a worker needs. `checkpoint` is for crash tests alone."""

    client: Client
    fleet: Fleet
    policy: Policy
    library: Library
    journal: SqlJournal
    notify: Notify
    claim_key: bytes
    envoy_folder: Path | None
    envoy_admin: str
    route_urls: dict[str, str]
    prometheus_url: str | None = None
    watch_period_s: float = 1.0
    probe_timeout_s: float = 1.5
    task_queue: str = TASK_QUEUE
    observe: Callable[[CaseRecord], None] = field(default=lambda _: None)
    checkpoint: Checkpoint = no_checkpoint
    cluster: Cluster | None = None
    """The control plane; None: levers on clusters and nodes are refused, since what stands there is not known."""
    routes: Traffic | None = None
    """Where weights live when that is not Envoy's own files: Gateway API routes."""
    version: WorkerDeploymentVersion | None = None
    """Which build of which worker deployment this is; None: unversioned."""


def traffic_of(parts: Parts, http: httpx.AsyncClient) -> Traffic:
    """Where weights live: routes of the Gateway API, or Envoy's own files."""
    if parts.routes is not None:
        return parts.routes
    if parts.envoy_folder is None:
        raise ValueError("neither routes nor a folder of Envoy's files is given: there is nowhere to change traffic")
    return EnvoyTraffic(parts.fleet, parts.envoy_folder, parts.envoy_admin, http, checkpoint=parts.checkpoint)


@dataclass(frozen=True)
class Ports:
    """What activities reach the world through: real systems, or a simulated site for a replay.

    `watched`: asked for a generation before an act; None: `prober`. `clock` and `sleep`: the activities' now and their
    waiting, which a replay makes virtual.
    """

    traffic: Traffic
    metrics: Metrics
    prober: Prober
    notify: Notify
    journal: Journal
    guard: GuardClient
    cluster: Cluster | None = None
    watched: Prober | None = None
    clock: Clock = utc_now
    sleep: Sleep = asyncio.sleep
    observe: Callable[[CaseRecord], None] = lambda _: None
    checkpoint: Checkpoint = no_checkpoint


def activities_of(parts: Parts, http: httpx.AsyncClient, watcher: PoolWatcher, source: ScrapeSource) -> Sequence[Any]:
    """Every activity, bound to its adapters."""
    prober = HttpProber(parts.fleet, http, parts.route_urls, timeout_s=2.0)
    traffic = traffic_of(parts, http)
    prometheus = (
        PrometheusSource(parts.prometheus_url, http, 2 * parts.policy.timing.scrape_period_s)
        if parts.prometheus_url
        else None
    )
    metrics = Measurements(
        parts.fleet, prober, prometheus, parts.envoy_admin, http, source=source, watcher=watcher,
        declared=traffic.read, cluster=parts.cluster, probe_timeout_s=parts.probe_timeout_s,
    )  # fmt: skip
    ports = Ports(
        traffic=traffic,
        metrics=metrics,
        prober=prober,
        watched=WatchedProber(prober, watcher),
        notify=parts.notify,
        journal=parts.journal,
        guard=GuardClient(parts.client, parts.task_queue),
        cluster=parts.cluster,
        observe=parts.observe,
        checkpoint=parts.checkpoint,
    )
    return activities_over(
        ports, parts.client, parts.fleet, parts.policy, parts.library, parts.claim_key, parts.task_queue
    )


def activities_over(
    ports: Ports,
    client: Client,
    fleet: Fleet,
    policy: Policy,
    library: Library,
    claim_key: bytes,
    task_queue: str = TASK_QUEUE,
) -> Sequence[Any]:
    """Every activity over these ports; `interlock worker` and `interlock replay` run the same ones."""
    traffic, cluster, journal, guard, clock = ports.traffic, ports.cluster, ports.journal, ports.guard, ports.clock
    gatherer = Gatherer(ports.metrics, ports.watched or ports.prober, clock, fleet=fleet, cluster=cluster)
    triage = TriageActivities(library, policy, fleet)
    looking = LookingActivities(traffic, ports.metrics, ports.watched or ports.prober, fleet, library, cluster, clock)
    safety = SafetyActivities(traffic, gatherer, guard, policy, fleet, journal, cluster, clock)
    acts = TrafficActivities(traffic, journal, guard, clock, ports.checkpoint)
    sampling = SamplingActivities(traffic, ports.metrics, ports.prober, gatherer, journal, cluster, clock, ports.sleep)
    placing = ClusterActivities(cluster, journal, guard, clock, ports.checkpoint) if cluster is not None else None
    book = CasebookActivities(ports.notify, journal, client, task_queue, ports.observe, ports.checkpoint, clock)
    attest = AttestActivities(client, groups_of(policy), claim_key, clock, approvers=approver_groups(policy))
    turns = TurnActivities()
    reaper = ReaperActivities(client, journal, ports.notify, fleet.domains())
    return [
        triage.diagnose,
        looking.look,
        safety.check,
        acts.apply,
        acts.read_back,
        *([placing.apply, placing.read_back] if placing is not None else []),
        sampling.verify,
        sampling.watch,
        sampling.rejoin,
        book.tell,
        book.close,
        book.forward,
        book.hand_over,
        attest.attest,
        attest.check_claim,
        attest.judge_orders,
        attest.check_order,
        turns.in_order,
        reaper.recover,
        reaper.remember,
        reaper.describe,
        reaper.reap,
    ]


def workers_over(
    client: Client, task_queue: str, activities: Sequence[Any], version: WorkerDeploymentVersion | None = None
) -> tuple[Worker, Worker]:
    """The Guards' worker and the cases', to be entered in this order: a Guard never waits behind a storm of cases."""

    def deployed(behaviour: VersioningBehavior) -> WorkerDeploymentConfig | None:
        # Said here and not at the workflows: the server refuses what an unversioned worker says of a versioned workflow.
        if version is None:
            return None
        return WorkerDeploymentConfig(version, use_worker_versioning=True, default_versioning_behavior=behaviour)

    cases = Worker(
        client,
        task_queue=task_queue,
        activities=activities,
        # A case keeps its slot while a check waits, and a storm has many that wait for the same thing.
        max_concurrent_workflow_tasks=200,
        deployment_config=deployed(VersioningBehavior.PINNED),
        max_concurrent_activities=50,
        max_concurrent_local_activities=30,
    )
    guards = Worker(
        client,
        task_queue=guard_queue(task_queue),
        activities=activities,
        max_concurrent_workflow_tasks=10,
        deployment_config=deployed(VersioningBehavior.AUTO_UPGRADE),
        max_concurrent_activities=10,
        max_concurrent_local_activities=10,
    )
    return guards, cases


def groups_of(policy: Policy) -> Mapping[str, Sequence[str]]:
    """Group → people, as policy names them."""
    return policy.groups


@asynccontextmanager
async def running_worker(parts: Parts) -> AsyncIterator[Worker]:
    """A worker that polls, with its watcher; ended in order when the block ends."""
    async with AsyncExitStack() as stack:
        http = httpx.AsyncClient(timeout=5, trust_env=False, transport=PerOrigin())
        client = await stack.enter_async_context(http)
        source = ScrapeSource(client)
        watched = HttpProber(parts.fleet, client, parts.route_urls, timeout_s=parts.probe_timeout_s)
        watcher = PoolWatcher(
            parts.fleet,
            watched,
            source,
            parts.envoy_admin,
            period_s=parts.watch_period_s,
            probe_timeout_s=parts.probe_timeout_s,
        )
        await stack.enter_async_context(watcher)
        activities = activities_of(parts, client, watcher, source)
        guards, worker = workers_over(parts.client, parts.task_queue, activities, parts.version)
        async with guards, worker:
            guard = GuardClient(parts.client, parts.task_queue)
            for domain in parts.fleet.domains():
                await guard.start(domain)  # a Guard that already knows what stands answers the first alert at once
            yield worker


@asynccontextmanager
async def running_node_worker(
    client: Client, node: str, agent: Actuator, journal: SqlJournal, checkpoint: Checkpoint = no_checkpoint
) -> AsyncIterator[Worker]:
    """The worker on one node: acts on that node alone, from the node's own queue."""
    acts = NodeActivities(agent, journal, GuardClient(client), checkpoint=checkpoint)
    # One at a time: two resets of one machine never overlap, whoever asked for them.
    async with Worker(
        client, task_queue=node_queue(node), activities=[acts.apply], max_concurrent_activities=1
    ) as worker:
        yield worker
