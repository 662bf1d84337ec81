"""`check`: before-state and facts in parallel, all gates, and when they allow, the Guard. The only way to a Permit."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from temporalio import activity

from activities.facts import Clock, Gatherer, alert_age_s, evidence_time, known, skew, utc_now
from activities.failures import port_failures
from activities.guard_client import GuardClient
from activities.permits import Permits
from activities.picture import control_now, domain_of, state_of, told
from activities.ports import Actuator, Cluster, Journal, Traffic
from activities.standing_now import Declared, applied_by, declared_by
from runbooks.change import CannotPlan, Change, NothingToDo, Receipt
from runbooks.detection import TargetKind, node_queue
from runbooks.explained import explained
from runbooks.facts import Approval, Facts, GuardView, Known, PoolState, Settings, Unknown
from runbooks.fleet import Dependency, Fleet
from runbooks.gates.dependencies import could_load
from runbooks.gates.headroom import reserved
from runbooks.gates.question import Question, allowed_by_people
from runbooks.levers import ClusterStep, NodeStep, Page, is_change
from runbooks.plan import CheckRequest, CheckResult, GateVerdict, Verdict
from runbooks.planning import plan_change, plan_restore
from runbooks.policy import Policy
from runbooks.safety import judge
from runbooks.several import one_picture, one_view

LATELY = timedelta(seconds=60)
"""How long a domain whose faults were one is asked about that first."""
NEVER = datetime.min.replace(tzinfo=UTC)


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
        self._permits = Permits(guard, policy, clock)
        self._correlated: dict[str, datetime] = {}

    @activity.defn(name="check")
    async def check(self, req: CheckRequest) -> CheckResult:
        """May this increment be done now? With outcome allow the Guard has been asked, and its permit is in the answer."""
        domains = req.step.domains or (req.target.domain,)
        if (member := await self._member(req, req.target.domain)) is not None:
            return member
        declared, placed = await asyncio.gather(
            declared_by(self._traffic, domains, self._clock), self._placed(req, domains)
        )
        facts, change = await self._facts(req, domains, declared, placed)
        question = Question(
            step=req.step,
            change=change,
            failure_class=req.failure_class,
            target=req.target,
            workflow_id=req.workflow_id,
            increment=req.increment,
            purpose=req.purpose,
            alert_age_s=alert_age_s(req.detections),
            planned_at=req.planned_at,
            waited_s=req.waited_s,
            policy=self._policy,
            fleet=self._fleet,
        )
        question = question.model_copy(update={"approved": allowed_by_people(question, facts)})
        verdict = judge(question, facts)
        left, begun = await self._left(req)
        result = CheckResult(
            verdict=verdict,
            facts=told(facts, req),
            change=change if isinstance(change, Change) else None,
            complete=isinstance(change, NothingToDo),
            explained=await self._explained(req, domains, facts),
            left=left,
            begun=begun,
        )
        if result.explained or result.left or result.complete:
            return result
        if verdict.outcome != "allow":
            return await self._announced(req, domains, result)
        if not isinstance(change, Change) or not isinstance(declared, Known):
            return result
        acted = declared if placed is None else placed
        writes = domain_of(change, self._fleet, domains)
        if writes is None or not isinstance(acted, Known):
            return result
        # The highest epoch that either system has seen: one Guard counts for both.
        seen = [d.value.epochs for d in (declared, placed) if isinstance(d, Known)]
        epochs = {d: max(e[d] for e in seen) for d in domains}
        with port_failures():
            answer = await self._permits.acquire(req, domains, writes, change, facts, epochs)
        return result.model_copy(
            update={
                "guard": answer.kind,
                "guard_why": answer.why,
                "permit": answer.permit,
                "retry_after_s": answer.retry_after_s,
            }
        )

    async def _member(self, req: CheckRequest, domain: str) -> CheckResult | None:
        """While the faults of a domain are one, a member learns it by one question: two hundred that each read the whole
        cluster first would keep the Guard from answering any of them."""
        lately = self._clock() - self._correlated.get(domain, NEVER) < LATELY
        if (
            req.purpose != "act"
            or req.observe
            or req.known_receipts
            or req.target.kind is TargetKind.CLUSTER
            or not lately
        ):
            return None
        with port_failures():
            answer = await self._permits.announce(req, domain)
        if answer.kind != "correlated":
            return None
        unread = Unknown(why=f"it was not read: {answer.why}")
        facts = Facts(
            now=self._clock(),
            evidence_at=evidence_time(req.detections, unread),
            fault=unread,
            before=unread,
            pools=unread,
            guard=unread,
            verifier=unread,
            skew_s=skew(req.detections),
            control=unread,
        )
        gate = GateVerdict(gate="G13", outcome="deny", reason=f"{answer.why}; the domain's case has it", lasting=True)
        verdict = Verdict(outcome="deny", gates=(gate,), policy=self._policy.ref)
        return CheckResult(verdict=verdict, facts=facts, guard="correlated", guard_why=answer.why)

    async def _announced(self, req: CheckRequest, domains: Sequence[str], result: CheckResult) -> CheckResult:
        """A case that may not act is counted all the same: two hundred that each wait for a click are one fault."""
        view = result.facts.guard
        if isinstance(view, Known) and view.value.correlated:
            self._correlated[req.target.domain] = self._clock()
        if req.purpose != "act" or req.observe or not isinstance(view, Known):
            return result
        stopped = view.value.halted or view.value.breaker
        if req.target.id in view.value.asked and not view.value.correlated and not stopped:
            return result
        with port_failures():
            answers = await asyncio.gather(*(self._permits.announce(req, d) for d in domains))
        correlated = next((a for a in answers if a.kind == "correlated"), None)
        if correlated is None:
            return result
        return result.model_copy(update={"guard": correlated.kind, "guard_why": correlated.why})

    async def _placed(self, req: CheckRequest, domains: Sequence[str]) -> Known[Declared] | Unknown | None:
        """The clusters as they are now; None for a step that does not touch one."""
        if not isinstance(req.step.step, ClusterStep | NodeStep):
            return None
        if self._cluster is None:
            return Unknown(why="this worker has no cluster set (INTERLOCK_KUBERNETES__…)")
        return await declared_by(self._cluster, domains, self._clock)

    async def _facts(
        self,
        req: CheckRequest,
        domains: Sequence[str],
        declared: Known[Declared] | Unknown,
        placed: Known[Declared] | Unknown | None,
    ) -> tuple[Facts, Change | NothingToDo | CannotPlan]:
        async def pools() -> Known[dict[str, PoolState]] | Unknown:
            if isinstance(declared, Unknown):
                return declared
            snapshots = declared.value.by_domain
            return one_picture(await asyncio.gather(*(self._gather.pools(d, snapshots[d]) for d in domains)))

        reading = asyncio.ensure_future(pools())
        need_fault = req.purpose != "undo"
        views, state, fault, baseline, leans_on, budget = await asyncio.gather(
            asyncio.gather(*(known(self._guard.view(d), 4, self._clock) for d in domains)),
            reading,
            self._gather.fault(req.target, req.step, lambda: reading) if need_fault else _not_needed(),
            self._gather.baseline(req.step.indicators) if need_fault else _not_needed(),
            self._gather.dependencies(self._leans_on(req)),
            self._gather.error_budget(self._route_of(req)) if is_change(req.step.step) else _none(),
        )
        view = one_view(views, req.workflow_id)
        own = await self._own(req) if placed is not None else {}
        acted = declared if placed is None else placed
        change = await self._deaf(req) or self._plan(req, acted, placed, state, view, own)
        if isinstance(change, Change) and domain_of(change, self._fleet, domains) is None:
            change = CannotPlan(why="this increment would write in two domains at once: give each domain its own ring")
        before, answered = await self._before(change, acted, self._traffic if placed is None else self._cluster)
        facts = Facts(
            now=self._clock(),
            evidence_at=evidence_time(req.detections, fault),
            fault=fault,
            before=before,
            pools=state,
            guard=view,
            verifier=baseline,
            skew_s=skew(req.detections),
            cluster=state_of(placed),
            dependencies=leans_on,
            control=control_now(req, acted, before, answered),
            error_budget=budget,
            rejoin=req.rejoin,
            approval=self._approval(req),
        )
        return facts, change

    async def _explained(self, req: CheckRequest, domains: Sequence[str], facts: Facts) -> str:
        """Is this target only sick because of a change of another case? What is not known explains nothing."""
        view, state = facts.guard, facts.cluster
        if req.purpose != "act" or not isinstance(view, Known) or not any(s.nodes for s in view.value.standing):
            return ""
        if state is None and self._cluster is not None:
            state = state_of(await declared_by(self._cluster, domains, self._clock))
        placed = state.value if isinstance(state, Known) else None
        return explained(req.target, req.detections, view.value, placed, req.workflow_id, self._fleet)

    def _route_of(self, req: CheckRequest) -> str:
        """PromQL of the error budget of what the case is about; empty when none is declared."""
        pools = [t.split("/")[2] for t in req.step.targets if "/service/" in t]
        route = self._fleet.route_of(req.target.service or (pools[0] if pools else ""))
        return route.error_budget if route is not None else ""

    def _leans_on(self, req: CheckRequest) -> list[Dependency]:
        """What the step would load beside its pools."""
        names = could_load(req.step.step, self._fleet) if req.purpose == "act" else ()
        return [d for d in self._fleet.dependencies if d.name in names]

    async def _own(self, req: CheckRequest) -> Settings:
        """What this case's changes left: its own freeze must not keep it from rolling back."""
        with port_failures():
            return {k: v for r in await self._journal.unsettled(req.workflow_id) for k, v in r.after.items()}

    async def _left(self, req: CheckRequest) -> tuple[tuple[Receipt, ...], bool]:
        """What a case that knows of no act of this step has done all the same: a Reset of the workflow forgets it. And
        whether something was begun that has no receipt: an intent is no act, but it may become one."""
        if req.purpose != "act":
            return (), False
        with port_failures():
            open_ones = await self._journal.unsettled(req.workflow_id)
            mine = [
                r
                for r in open_ones
                if r.case == req.case and r.step_id == req.step.id and r.id not in req.known_receipts
            ]
            done = tuple([r for r in mine if await self._journal.receipt(r.permit_id) is not None])
            return done, len(done) < len(mine)

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
        declared: Known[Declared] | Unknown,
        placed: Known[Declared] | Unknown | None,
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
            self._policy.placement.residency,
        )

    async def _before(
        self,
        change: Change | NothingToDo | CannotPlan,
        declared: Known[Declared] | Unknown,
        actuator: Actuator | None,
    ) -> tuple[Known[Settings] | Unknown, float]:
        """What the proxy really applies must be what the files declare, else nobody knows what undo would restore.

        With how long the system took to answer, seconds."""
        if isinstance(declared, Unknown):
            return declared, 0.0
        assert actuator is not None  # else nothing could have been read
        if not isinstance(change, Change):
            return Known(value={}, observed_at=declared.observed_at), declared.value.took_s
        applied, took_s = await applied_by(actuator, list(change.before), self._clock)
        if isinstance(applied, Unknown):
            return applied, took_s
        for key, value in change.before.items():
            if applied.value.get(key) != value:
                why = f"{key} is declared as {value!r} but {applied.value.get(key)!r} is what is applied"
                return Unknown(why=why), took_s
        before = {k: declared.value.settings[k] for k in change.before}
        return Known(value=before, observed_at=applied.observed_at), max(took_s, declared.value.took_s)

    def _approval(self, req: CheckRequest) -> Approval | None:
        if not req.approvers or req.approval_expires_at is None:
            return None
        return Approval(
            digest=req.approval_digest,
            approvers=req.approvers,
            verified=req.approval_verified,
            expires_at=req.approval_expires_at,
        )


async def _not_needed() -> Unknown:
    return Unknown(why="not needed to take a change back")


async def _none() -> None:
    return None
