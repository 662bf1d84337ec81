"""`check`: before-state and facts in parallel, all gates, and when they allow, the Guard. The only way to a Permit."""

from __future__ import annotations

import asyncio

from temporalio import activity

from activities.facts import Clock, Gatherer, alert_age_s, evidence_time, known, skew, utc_now
from activities.failures import port_failures
from activities.guard_client import GuardClient
from activities.ports import Actuator, Cluster, ClusterSnapshot, Journal, Snapshot, Traffic
from runbooks.change import CannotPlan, Change, NothingToDo, Receipt
from runbooks.cluster import ClusterState
from runbooks.detection import node_queue
from runbooks.explained import explained
from runbooks.facts import Approval, Facts, GuardView, Known, PoolState, Settings, Unknown
from runbooks.fleet import Dependency, Fleet
from runbooks.gates.headroom import reserved
from runbooks.gates.question import Question
from runbooks.guard import AcquireRequest, Answer
from runbooks.levers import ClusterStep, IncreaseCapacity, NodeStep, Page
from runbooks.plan import CheckRequest, CheckResult
from runbooks.planning import plan_change, plan_restore
from runbooks.policy import Policy
from runbooks.safety import judge

PRIORITY = {"undo": 0, "restore": 3, "act": 5}
FIRST = {"isolate_endpoint": 1, "shed_load": 2}
"""Isolate, shed, undo and restore go before long moves."""


class SafetyActivities:
    """Judges one increment at a time."""

    def __init__(
        self,
        traffic: Traffic,
        gatherer: Gatherer,
        guard: GuardClient,
        policy: Policy,
        fleet: Fleet,
        journal: Journal,
        cluster: Cluster | None = None,
        clock: Clock = utc_now,
    ) -> None:
        self._cluster = cluster
        self._journal = journal
        self._traffic = traffic
        self._gather = gatherer
        self._guard = guard
        self._policy = policy
        self._fleet = fleet
        self._clock = clock

    @activity.defn(name="check")
    async def check(self, req: CheckRequest) -> CheckResult:
        """May this increment be done now? With outcome allow the Guard has been asked, and its permit is in the answer."""
        domain = req.step.domains[0] if req.step.domains else req.target.domain
        declared, placed = await asyncio.gather(
            known(self._traffic.read(domain), 4, self._clock), self._placed(req, domain)
        )
        facts, change = await self._facts(req, domain, declared, placed)
        question = Question(
            step=req.step,
            change=change,
            failure_class=req.failure_class,
            target=req.target,
            workflow_id=req.workflow_id,
            purpose=req.purpose,
            alert_age_s=alert_age_s(req.detections),
            policy=self._policy,
            fleet=self._fleet,
        )
        verdict = judge(question, facts)
        done = isinstance(change, NothingToDo)
        result = CheckResult(
            verdict=verdict,
            facts=facts,
            change=change if isinstance(change, Change) else None,
            complete=done,
            explained=await self._explained(req, domain, facts),
            left=await self._left(req),
        )
        if (
            result.explained
            or verdict.outcome != "allow"
            or not isinstance(change, Change)
            or req.observe
            or not isinstance(declared, Known)
            or result.left
        ):
            return result
        epochs = [declared.value.epoch, *([placed.value.epoch] if isinstance(placed, Known) else [])]
        with port_failures():
            answer = await self._acquire(req, domain, change, facts, max(epochs))
        return result.model_copy(
            update={
                "guard": answer.kind,
                "guard_why": answer.why,
                "permit": answer.permit,
                "retry_after_s": answer.retry_after_s,
            }
        )

    async def _placed(self, req: CheckRequest, domain: str) -> Known[ClusterSnapshot] | Unknown | None:
        """The cluster as it is now; None for a step that does not touch one."""
        if not isinstance(req.step.step, ClusterStep | NodeStep):
            return None
        if self._cluster is None:
            return Unknown(why="this worker has no cluster set (INTERLOCK_KUBERNETES__…)")
        return await known(self._cluster.read(domain), 4, self._clock)

    async def _facts(
        self,
        req: CheckRequest,
        domain: str,
        declared: Known[Snapshot] | Unknown,
        placed: Known[ClusterSnapshot] | Unknown | None,
    ) -> tuple[Facts, Change | NothingToDo | CannotPlan]:
        async def pools() -> Known[dict[str, PoolState]] | Unknown:
            if isinstance(declared, Unknown):
                return declared
            return await self._gather.pools(domain, declared.value)

        reading = asyncio.ensure_future(pools())
        need_fault = req.purpose != "undo"
        view, state, fault, baseline, leans_on = await asyncio.gather(
            known(self._guard.view(domain), 4, self._clock),
            reading,
            self._gather.fault(req.target, req.step, lambda: reading) if need_fault else _not_needed(),
            self._gather.baseline(req.step.indicators) if need_fault else _not_needed(),
            self._gather.dependencies(self._leans_on(req)),
        )
        own = await self._own(req) if placed is not None else {}
        acted = declared if placed is None else placed
        change = await self._deaf(req) or self._plan(req, acted, placed, state, view, own)
        before = await self._before(change, acted, self._traffic if placed is None else self._cluster)
        facts = Facts(
            now=self._clock(),
            evidence_at=evidence_time(req.detections, fault),
            fault=fault,
            before=before,
            pools=state,
            guard=view,
            verifier=baseline,
            skew_s=skew(req.detections),
            cluster=_state(placed),
            dependencies=leans_on,
            rejoin=req.rejoin,
            approval=self._approval(req),
        )
        return facts, change

    async def _explained(self, req: CheckRequest, domain: str, facts: Facts) -> str:
        """Is this target only sick because of a change of another case? What is not known explains nothing."""
        view, state = facts.guard, facts.cluster
        if req.purpose != "act" or not isinstance(view, Known) or not any(s.nodes for s in view.value.standing):
            return ""
        if state is None and self._cluster is not None:
            state = _state(await known(self._cluster.read(domain), 4, self._clock))
        placed = state.value if isinstance(state, Known) else None
        return explained(req.target, req.detections, view.value, placed, req.workflow_id, self._fleet)

    def _leans_on(self, req: CheckRequest) -> list[Dependency]:
        """What more replicas of the step's pool would load."""
        step = req.step.step
        pool = self._fleet.pool(step.pool) if isinstance(step, IncreaseCapacity) else None
        names = pool.workload.depends_on if pool is not None and pool.workload is not None else ()
        return [d for d in self._fleet.dependencies if d.name in names]

    async def _own(self, req: CheckRequest) -> Settings:
        """What this case's changes left: its own freeze must not keep it from rolling back."""
        with port_failures():
            return {k: v for r in await self._journal.unsettled(req.workflow_id) for k, v in r.after.items()}

    async def _left(self, req: CheckRequest) -> tuple[Receipt, ...]:
        """What a case that knows of no act of this step has done all the same: a Reset of the workflow forgets it."""
        if req.purpose != "act":
            return ()
        with port_failures():
            open_ones = await self._journal.unsettled(req.workflow_id)
            mine = [
                r
                for r in open_ones
                if r.case == req.case and r.step_id == req.step.id and r.id not in req.known_receipts
            ]
            # An intent is no act: only what has a receipt was done.
            return tuple([r for r in mine if await self._journal.receipt(r.permit_id) is not None])

    async def _deaf(self, req: CheckRequest) -> CannotPlan | None:
        """An act for a node where nobody listens would hold the domain until it is given up: it is not begun."""
        step = req.step.step
        if req.purpose != "act" or not isinstance(step, NodeStep):
            return None
        heard = await known(self._guard.listens(node_queue(step.node)), 4, self._clock)
        if isinstance(heard, Unknown):
            return CannotPlan(why=f"whether the agent of {step.node} listens is unknown: {heard.why}")
        if heard.value:
            return None
        why = (
            f"no agent of {step.node} listens: run `interlock worker --node {step.node}` there, or with --bmc elsewhere"
        )
        return CannotPlan(why=why)  # asked again for a minute: an agent may just be starting

    def _plan(
        self,
        req: CheckRequest,
        declared: Known[Snapshot] | Known[ClusterSnapshot] | Unknown,
        placed: Known[ClusterSnapshot] | Unknown | None,
        pools: Known[dict[str, PoolState]] | Unknown,
        view: Known[GuardView] | Unknown,
        own: Settings,
    ) -> Change | NothingToDo | CannotPlan:
        if isinstance(declared, Unknown):
            return CannotPlan(why=f"what stands there now could not be read: {declared.why}")
        settings = declared.value.settings
        if req.purpose != "act":
            if req.receipt is None:
                return CannotPlan(why="there is no receipt to take back")
            return plan_restore(req.receipt.before, settings, req.receipt.after, req.share_back)
        if len(req.step.domains) > 1:
            # Several locks in sorted order, all or Hold, is the safety issue's; until then it is refused, not half locked.
            return CannotPlan(
                why=f"the step changes {len(req.step.domains)} domains, and only one can be locked at a time"
            )
        if isinstance(req.step.step, Page):
            return CannotPlan(why="page changes nothing and needs no permit")
        return plan_change(
            req.step.step,
            req.purpose,
            req.increment,
            settings,
            pools.value if isinstance(pools, Known) else None,
            self._fleet,
            self._policy.for_lever(req.step.step.lever),
            # Unknown denies in G4 whatever is planned here.
            reserved(view.value, req.workflow_id, self._clock()) if isinstance(view, Known) else {},
            placed.value.state if isinstance(placed, Known) else None,
            own,
        )

    async def _before(
        self,
        change: Change | NothingToDo | CannotPlan,
        declared: Known[Snapshot] | Known[ClusterSnapshot] | Unknown,
        actuator: Actuator | None,
    ) -> Known[Settings] | Unknown:
        """What the proxy really applies must be what the files declare, else nobody knows what undo would restore."""
        if isinstance(declared, Unknown):
            return declared
        assert actuator is not None  # else nothing could have been read
        if not isinstance(change, Change):
            return Known(value={}, observed_at=declared.observed_at)
        applied = await known(actuator.effective(list(change.before)), 4, self._clock)
        if isinstance(applied, Unknown):
            return applied
        for key, value in change.before.items():
            if applied.value.get(key) != value:
                return Unknown(why=f"{key} is declared as {value!r} but {applied.value.get(key)!r} is what is applied")
        return Known(value={k: declared.value.settings[k] for k in change.before}, observed_at=applied.observed_at)

    def _approval(self, req: CheckRequest) -> Approval | None:
        if not req.approvers or req.approval_expires_at is None:
            return None
        return Approval(
            digest=req.approval_digest,
            approvers=req.approvers,
            verified=req.approval_verified,
            expires_at=req.approval_expires_at,
        )

    async def _acquire(self, req: CheckRequest, domain: str, change: Change, facts: Facts, seen_epoch: int) -> Answer:
        limits = self._policy.for_lever(req.step.step.lever)
        timing = self._policy.timing
        return await self._guard.acquire(
            AcquireRequest(
                domain=domain,
                case=req.case,
                workflow_id=req.workflow_id,
                run_id=activity.info().workflow_run_id or "",
                target=req.target,
                step_id=req.step.id,
                increment=req.increment,
                attempt=req.attempt,
                purpose=req.purpose,
                lever=req.step.step.lever,
                change_digest=change.digest,
                blast=change.blast,
                facts_oldest_at=facts.oldest,
                seen_epoch=seen_epoch,
                priority=PRIORITY[req.purpose]
                if req.purpose != "act"
                else FIRST.get(req.step.step.lever, PRIORITY["act"]),
                settle_s=timing.settle_s,
                permit_ttl_s=timing.permit_ttl_s,
                max_acts_per_hour=limits.max_acts_per_hour,
                attempts=limits.attempts,
                cooldown_s=limits.cooldown_s,
            )
        )


def _state(placed: Known[ClusterSnapshot] | Unknown | None) -> Known[ClusterState] | Unknown | None:
    if isinstance(placed, Known):
        return Known[ClusterState](
            value=placed.value.state, observed_at=min(placed.observed_at, placed.value.observed_at)
        )
    return placed


async def _not_needed() -> Unknown:
    return Unknown(why="not needed to take a change back")
