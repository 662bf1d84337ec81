"""A domain in which all is well but one target: what a step would do there, and what the gates would say of it.

Built from the fleet alone, and walked with the real planner. What the fleet does not say is taken as good: one GPU per
replica, a tenth of the load, room everywhere. `interlock policy check` and `policy show` ask the real gates about it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from runbooks.change import (
    CannotPlan,
    Change,
    NothingToDo,
    admit_key,
    autoscale_key,
    boot_key,
    connections_key,
    cordon_key,
    endpoint_key,
    env_key,
    gpu_key,
    image_key,
    paused_key,
    replicas_key,
    template_key,
    weight_key,
)
from runbooks.cluster import ClusterState, NodeState, PodState, Revision, WorkloadState
from runbooks.detection import Detection, Target, TargetKind
from runbooks.facts import ControlNow, Facts, FaultNow, GuardView, Known, PoolState, Settings
from runbooks.fleet import Endpoint, Fleet, Node, Pool, Route, Workload, outside
from runbooks.gates.dependencies import could_load
from runbooks.gates.question import Question
from runbooks.increments import plan_change
from runbooks.levers import ClusterStep, NodeStep, Page, ResetGpu, RolloutHotfix, ShedLoad, is_change
from runbooks.plan import PlannedStep
from runbooks.policy import Policy

LOAD = 0.1
"""Share of each pool's capacity that is asked of it."""
MOST = 60
"""Increments that are walked; a step of more is called endless."""
_OLD = timedelta(days=1)


def sample_fleet() -> Fleet:
    """Two pools of four replicas behind one route, and a spare node: for whoever has named no fleet yet."""

    def pool(name: str) -> Pool:
        endpoints = tuple(Endpoint(address=f"{name}-{n}.example:8000") for n in range(5))
        work = Workload(namespace="models", deployment=name, replicas=4)
        return Pool(
            name=name, cluster="sample", dialect="vllm", endpoints=endpoints, tokens_per_second=1000.0, workload=work
        )

    return Fleet(
        routes=(Route(name="chat", pools=("pool-a", "pool-b"), tiers=("batch", "interactive")),),
        pools=(pool("pool-a"), pool("pool-b")),
        nodes=tuple(Node(name=f"node-{n}", cluster="sample", pools=("pool-a", "pool-b"), gpus=8) for n in (1, 2)),
        controls=outside("sample"),
    )


def targets_of_kind(fleet: Fleet, kind: TargetKind) -> list[Target]:
    """Everything in the fleet of this kind; of a node's GPUs the first."""
    pools = [Target(cluster=p.cluster, service=p.name) for p in fleet.pools]
    match kind:
        case TargetKind.CLUSTER:
            return [Target(cluster=d) for d in fleet.domains()]
        case TargetKind.SERVICE:
            return pools
        case TargetKind.ENDPOINT:
            return [
                Target(cluster=p.cluster, service=p.name, endpoint=e.address) for p in fleet.pools for e in p.endpoints
            ]
        case TargetKind.NODE:
            return [Target(cluster=n.cluster, node=n.name) for n in fleet.nodes]
        case TargetKind.GPU:
            return [Target(cluster=n.cluster, node=n.name, gpu="0") for n in fleet.nodes]


def detection_of(target: Target, now: datetime) -> Detection:
    """An alert about it. The label is one that people add where a runbook may use it."""
    labels = {"hotfix_image": "registry.example/engine:fixed"}
    return Detection(
        alert="Sample", target=target, labels=labels, started_at=now - timedelta(minutes=1), observed_at=now
    )


@dataclass
class World:
    """The domain as it stands. `sick`: the endpoint that gives no token; `drained`: the node that is empty already."""

    fleet: Fleet
    now: datetime
    step: PlannedStep
    target: Target
    settings: Settings = field(default_factory=dict)
    state: ClusterState = field(default_factory=ClusterState)

    @classmethod
    def of(cls, fleet: Fleet, step: PlannedStep, target: Target, now: datetime) -> World:
        """Before the first increment of the step."""
        world = cls(fleet, now, step, target)
        world.state = world._cluster()
        world.settings = world._settings()
        return world

    def pools(self) -> dict[str, PoolState]:
        """All answer but the sick endpoint, and little is asked of them."""
        return {p.name: self._pool(p) for p in self.fleet.pools}

    def plan(self, policy: Policy, increment: int = 0) -> Change | NothingToDo | CannotPlan:
        """What the real planner would write next."""
        step = self.step.step
        if isinstance(step, Page):
            return NothingToDo(why="it tells people")
        if isinstance(step, ShedLoad):
            # Little is asked of this world, so that nothing would have to make room: what is shown is the most it may be.
            step = step.model_copy(update={"makes_room_for": None})
        limits = policy.for_lever(step.lever)
        return plan_change(
            step,
            "act",
            increment,
            self.settings,
            self.pools(),
            self.fleet,
            limits,
            {},
            self.state,
            self.settings,
            policy.placement.residency,
        )

    def walk(self, policy: Policy) -> tuple[list[Change], str]:
        """All increments of the step, and why it ends early; empty when it is complete after them."""
        changes: list[Change] = []
        while len(changes) < MOST:
            change = self.plan(policy, len(changes))
            if isinstance(change, CannotPlan):
                return changes, change.why
            if isinstance(change, NothingToDo):
                return changes, ""
            changes.append(change)
            if change.last:
                return changes, ""
            self._apply(change)
        return changes, f"more than {MOST} increments"

    def question(self, change: Change | NothingToDo | CannotPlan, failure_class: str, policy: Policy) -> Question:
        """What the gates are asked about this increment."""
        return Question(
            step=self.step,
            change=change,
            failure_class=failure_class,
            target=self.target,
            workflow_id=f"remediate:{self.target.id}",
            purpose="act",
            alert_age_s=1.0,
            planned_at=self.now,
            policy=policy,
            fleet=self.fleet,
        )

    def facts(self, change: Change | NothingToDo | CannotPlan, view: GuardView | None = None) -> Facts:
        """Everything known, fresh and good. `view`: what the Guard really says now."""
        at, step = self.now, self.step.step
        before = change.before if isinstance(change, Change) else {}
        kind = "node" if isinstance(step, NodeStep) else "cluster" if isinstance(step, ClusterStep) else "traffic"
        verify = self.step.verify.criteria if self.step.verify is not None else ()
        pool = self.fleet.pool(self.target.service or str(getattr(step, "pool", "")))
        route = self.fleet.route_of(pool.name) if pool is not None else None
        wanted = could_load(step, self.fleet)
        budget = is_change(step) and route is not None and route.error_budget
        return Facts(
            now=at,
            evidence_at=Known(value=at, observed_at=at),
            fault=Known(value=FaultNow(holds=True, detail="the fault is there"), observed_at=at),
            before=Known(value=dict(before), observed_at=at),
            pools=Known(value=self.pools(), observed_at=at),
            guard=Known(value=view or GuardView(domain=self.target.domain), observed_at=at),
            verifier=Known(value={c.indicator: 0.0 for c in verify}, observed_at=at),
            skew_s=Known(value=0.0, observed_at=at),
            cluster=Known(value=self.state, observed_at=at) if isinstance(step, ClusterStep | NodeStep) else None,
            dependencies=Known(value=dict.fromkeys(wanted, 1000.0), observed_at=at) if wanted else None,
            control=Known(value=ControlNow.model_validate({"kind": kind, "answered_in_s": 0.1}), observed_at=at),
            error_budget=Known(value=1.0, observed_at=at) if budget else None,
        )

    # --- how it is built -------------------------------------------------------------------------------------------

    def _pool(self, pool: Pool) -> PoolState:
        sick = self.target.service == pool.name and self.target.endpoint is not None and self.step.healthy is None
        answering = pool.size - (1 if sick else 0)
        return PoolState(
            pool=pool.name,
            endpoints=pool.size,
            in_rotation=pool.size,
            answering=answering,
            capacity_tps=answering * pool.tokens_per_second,
            load_tps=LOAD * pool.size * pool.tokens_per_second,
            queue=0.0,
            kv_used=0.1,
            residency=pool.residency,
            tenants=pool.tenants,
        )

    def _cluster(self) -> ClusterState:
        """Replicas spread over the nodes that may run them. A node whose GPU is reset, or that boots, is drained already."""
        empty = self.step.step.node if isinstance(self.step.step, NodeStep) else ""
        pods: dict[str, PodState] = {}
        for pool in self.fleet.pools:
            nodes = [n.name for n in self.fleet.nodes if pool.name in n.pools and n.name != empty]
            for n, endpoint in enumerate(pool.endpoints[: pool.size] if pool.workload else ()):
                on = nodes[n % len(nodes)] if nodes else None
                pods[f"{pool.name}-{n}"] = self._pod(f"{pool.name}-{n}", pool.name, on, endpoint.address)
        used = {n.name: sum(p.node == n.name for p in pods.values()) for n in self.fleet.nodes}
        gpu = {self.step.step.gpu: "sick"} if isinstance(self.step.step, ResetGpu) else {}
        nodes_now = [
            NodeState(name=n.name, ready=True, cordoned=n.name == empty, gpus=n.gpus, gpus_used=used[n.name],
                      boot_id=f"boot-{n.name}", sick_gpus=gpu if n.name == empty else {}, agent_seen_at=self.now)
            for n in self.fleet.nodes
        ]  # fmt: skip
        spare = NodeState(name="spare", ready=True, cordoned=False, gpus=1000, gpus_used=0)
        return ClusterState(
            nodes={n.name: n for n in (*nodes_now, spare)},
            pods=pods,
            workloads={p.name: self._workload(p) for p in self.fleet.pools if p.workload is not None},
        )

    def _pod(self, name: str, pool: str, node: str | None, address: str | None, young: bool = False) -> PodState:
        age = self.now + _OLD if young else self.now - _OLD
        return PodState(
            name=name, uid=f"uid-{name}", pool=pool, node=node, ready=True, deleting=False, address=address,
            created_at=age, template="now",
        )  # fmt: skip

    def _workload(self, pool: Pool) -> WorkloadState:
        """A change is marked a minute before the fault, so that a rollback has something to go back to."""
        made = [("before", 1, self.now - _OLD), ("now", 2, self.now - timedelta(minutes=5))]
        return WorkloadState(
            pool=pool.name, desired=pool.size, ready=pool.size, updated=pool.size, available=pool.size, observed=True,
            paused=False, template="now", gpus_per_replica=1, image="engine:now", max_unavailable=1,
            disruptions_allowed=1,
            revisions=tuple(Revision(template=t, number=n, created_at=at, image=f"engine:{t}") for t, n, at in made),
        )  # fmt: skip

    def _settings(self) -> Settings:
        step, out = self.step.step, Settings()
        for route in self.fleet.routes:
            out |= {weight_key(route.name, p): 100 // len(route.pools) for p in route.pools}
            out |= {admit_key(route.name, t): 100 for t in route.tiers}
        for pool in self.fleet.pools:
            out |= {endpoint_key(pool.name, e.address): "in" for e in pool.endpoints}
            out |= {connections_key(pool.name): 0}
            if pool.workload is not None:
                out |= {replicas_key(pool.name): pool.size, image_key(pool.name): "engine:now"}
                out |= {template_key(pool.name): "now", paused_key(pool.name): "off", autoscale_key(pool.name): "on"}
                out |= {env_key(pool.name, e): "now" for e in (step.env if isinstance(step, RolloutHotfix) else ())}
        for node in self.state.nodes.values():
            out |= {cordon_key(node.name): "on" if node.cordoned else "off", boot_key(node.name): node.boot_id or "b"}
        if isinstance(step, ResetGpu):
            out[gpu_key(step.node, step.gpu)] = 0
        return out

    def _apply(self, change: Change) -> None:
        """As if it had acted, and what it took out serves again elsewhere."""
        self.settings = {**self.settings, **change.after}
        nodes, pods = dict(self.state.nodes), dict(self.state.pods)
        for key in change.after:
            family, _, rest = key.partition("/")
            if family == "cordon":
                nodes[rest] = nodes[rest].model_copy(update={"cordoned": change.after[key] == "on"})
            if family == "pod":
                pool, _, name = rest.partition("/")
                gone = pods.pop(name)
                pods[f"{name}+"] = self._pod(f"{name}+", pool, "spare", gone.address, young=True)
        self.state = self.state.model_copy(update={"nodes": nodes, "pods": pods})
