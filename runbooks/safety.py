"""The gates: pure functions from a Question (step, change, policy) and Facts to a verdict with its reason.

The worst answer of all gates counts: deny, then hold, then ask, then allow. Never fail open: an Unknown fact denies,
unless policy lists the gate in `ask_on_unknown`. A new gate is one function appended to GATES.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Literal

from runbooks.base import Model
from runbooks.change import CannotPlan, Change, NothingToDo, replicas_key
from runbooks.detection import Target
from runbooks.facts import Facts, GuardView, Known, PoolState, StandingReceipt, Unknown
from runbooks.fleet import Fleet
from runbooks.levers import (
    IncreaseCapacity,
    IsolateEndpoint,
    Kind,
    RebalanceNodes,
    RestartEngine,
    RollbackChange,
    RolloutHotfix,
    kind,
)
from runbooks.plan import GateVerdict, PlannedStep, Verdict
from runbooks.policy import ClassPolicy, LeverPolicy, Policy


class Question(Model):
    """What is asked of the gates."""

    step: PlannedStep
    change: Change | NothingToDo | CannotPlan
    failure_class: str
    target: Target
    workflow_id: str
    purpose: Literal["act", "undo", "restore"]
    alert_age_s: float | None = None
    policy: Policy
    fleet: Fleet

    @property
    def for_class(self) -> ClassPolicy:
        """The class's policy."""
        return self.policy.for_class(self.failure_class)

    @property
    def limits(self) -> LeverPolicy:
        """The lever's limits."""
        return self.policy.for_lever(self.step.step.lever)


Gate = Callable[[Question, Facts], GateVerdict]
RANK = {"allow": 0, "ask": 1, "hold": 2, "deny": 3}


def _say(
    gate: str, outcome: Literal["allow", "ask", "hold", "deny"], reason: str, until: datetime | None = None
) -> GateVerdict:
    return GateVerdict(gate=gate, outcome=outcome, reason=reason, until=until)


def _unknown(q: Question, gate: str, what: str, fact: Unknown) -> GateVerdict:
    """Unknown denies. Policy may turn that into Ask for the short list that its type allows, and no other gate."""
    if gate in q.policy.ask_on_unknown:
        return _say(gate, "ask", f"{what} is unknown ({fact.why}); policy asks people")
    return GateVerdict(gate=gate, outcome="deny", reason=f"{what} is unknown: {fact.why}", unknown=True)


def freshness_bound_s(policy: Policy) -> float:
    """At most two scrape periods old, and 5 s at least."""
    return max(2 * policy.timing.scrape_period_s, 5.0)


def g1_freshness(q: Question, f: Facts) -> GateVerdict:
    """Evidence is fresh when judged. Stale queues did the harm in oai-2026-03-04; missing data in ops.detection_gap."""
    bound = freshness_bound_s(q.policy)
    facts_age = (f.now - f.oldest).total_seconds()
    if facts_age > bound:
        why = f"the oldest fact is {facts_age:.1f} s old; {bound:.0f} s is the most"
        return GateVerdict(gate="G1", outcome="deny", reason=why, unknown=True)  # asked again, it may be younger
    if q.purpose != "act":
        return _say("G1", "allow", f"facts are {facts_age:.1f} s old")
    if _goes_on(q, f):
        return _say("G1", "allow", f"facts are {facts_age:.1f} s old; the rings before are the evidence")
    if isinstance(f.skew_s, Unknown):
        return _unknown(q, "G1", "the detector's clock", f.skew_s)
    if abs(f.skew_s.value) > q.policy.timing.max_skew_s:
        return _say("G1", "deny", f"the detector's clock is {f.skew_s.value:+.0f} s off ours; its times prove nothing")
    if q.alert_age_s is not None and q.alert_age_s > q.policy.timing.max_alert_age_s:
        return _say(
            "G1",
            "deny",
            f"the alert was {q.alert_age_s / 60:.0f} min old when it came; {q.policy.timing.max_alert_age_s / 60:.0f} min is the most",
        )
    if isinstance(f.evidence_at, Unknown):
        return _unknown(q, "G1", "the time of the evidence", f.evidence_at)
    age = (f.now - f.evidence_at.value).total_seconds()
    if age > bound:
        why = f"the newest evidence is {age:.1f} s old; {bound:.0f} s is the most"
        # Old because nobody could look just now: the next look brings new evidence, or shows that the fault is gone.
        return GateVerdict(gate="G1", outcome="deny", reason=why, unknown=isinstance(f.fault, Unknown))
    return _say("G1", "allow", f"evidence {max(age, 0):.1f} s old, facts {facts_age:.1f} s (limit {bound:.0f} s)")


def _goes_on(q: Question, f: Facts) -> bool:
    """True for a later ring of a rollout: the ring before has proven the version, and as a rule has mended the fault with
    which it began. Half of the pools on another version is no end."""
    if q.purpose != "act" or not isinstance(q.step.step, RolloutHotfix) or isinstance(f.guard, Unknown):
        return False
    mine = q.workflow_id + "#"
    return any(s.lever == q.step.step.lever and s.case.startswith(mine) for s in f.guard.value.standing)


def _named(standing: Sequence[StandingReceipt]) -> str:
    """What stands already, so that a person sees what counts against him."""
    return f" ({', '.join(f'{s.lever} on {s.target_id} stands' for s in standing[:3])})" if standing else ""


def g2_blast_radius(q: Question, f: Facts) -> GateVerdict:
    """Absolute count and share, standing receipts included: a drain too wide took every backend in oai-2024-05-21."""
    if not isinstance(q.change, Change) or q.purpose != "act":
        return _say("G2", "allow", "nothing more is taken away")
    if isinstance(f.guard, Unknown):
        return _unknown(q, "G2", "what already stands in the domain", f.guard)
    limits, blast = q.limits, q.change.blast
    standing = f.guard.value.standing
    if f.guard.value.acts_last_hour >= limits.max_acts_per_hour:
        return _say(
            "G2",
            "deny",
            f"{f.guard.value.acts_last_hour} acts in the last hour; the limit is {limits.max_acts_per_hour}",
        )
    for pool, count in blast.endpoints_down.items():
        found = q.fleet.pool(pool)
        if found is None:
            return _say("G2", "deny", f"pool {pool} is not in the inventory")
        down = count + sum(s.endpoints_down.get(pool, 0) for s in standing)
        if down > limits.max_endpoints_down:
            return _say(
                "G2",
                "deny",
                f"{down} endpoints of {pool} would be out; the limit is {limits.max_endpoints_down}{_named(standing)}",
            )
        if down / len(found.endpoints) > limits.max_share_down + 1e-9:
            return _say(
                "G2",
                "deny",
                f"{down} of {len(found.endpoints)} endpoints of {pool} would be out; the limit is {limits.max_share_down:.0%}",
            )
    for pool, count in blast.restarting.items():
        down = count + sum(s.endpoints_down.get(pool, 0) for s in standing)
        if down > limits.max_endpoints_down:
            return _say(
                "G2",
                "deny",
                f"{down} replicas of {pool} would be down; the limit is {limits.max_endpoints_down}{_named(standing)}",
            )
    over = _nodes_and_gpus(q, q.change, standing)
    if over is not None:
        return over
    for route, share in blast.share_moved.items():
        total = share + sum(s.share_moved.get(route, 0.0) for s in standing)
        if share > limits.largest_increment + 1e-9:
            return _say(
                "G2", "deny", f"{share:.0%} of {route} at once; the largest increment is {limits.largest_increment:.0%}"
            )
        if total > limits.largest_share + 1e-9:
            return _say(
                "G2",
                "deny",
                f"{total:.0%} of {route} would be moved; the limit is {limits.largest_share:.0%}{_named(standing)}",
            )
    if blast.refused_share > limits.largest_increment + 1e-9:
        return _say(
            "G2",
            "deny",
            f"{blast.refused_share:.0%} more refused at once; the largest increment is {limits.largest_increment:.0%}",
        )
    return _say(
        "G2",
        "allow",
        f"{blast.endpoints} endpoint(s) out, {blast.largest_share:.0%} of traffic, {len(standing)} standing",
    )


def _nodes_and_gpus(q: Question, change: Change, standing: Sequence[StandingReceipt]) -> GateVerdict | None:
    """A node that is out must rejoin, checked under load, before a second goes (they did not in oai-2023-03-20)."""
    blast, limits = change.blast, q.limits
    mine = f"{q.target.id}"
    others = [s for s in standing if not (s.target_id == mine and s.lever in ("rebalance_nodes", "reboot_node"))]
    # GPUs that are out and GPUs that are taken more are two things: a surge must not keep a sick node in service.
    alike = [s for s in others if (s.lever == "increase_capacity") == (q.step.step.lever == "increase_capacity")]
    out = {n for s in others for n in s.nodes} | set(blast.nodes)
    if blast.nodes and len(out) > limits.max_nodes_out:
        return _say(
            "G2",
            "deny",
            f"{len(out)} nodes would be out ({', '.join(sorted(out))}); the limit is {limits.max_nodes_out}",
        )
    gpus = blast.gpus + sum(s.gpus for s in alike) if blast.gpus else 0
    if gpus > limits.max_gpus:
        return _say("G2", "deny", f"{gpus} GPUs would be taken; the limit is {limits.max_gpus}{_named(standing)}")
    return None


def _pool(q: Question, f: Facts, gate: str, name: str) -> PoolState | GateVerdict:
    if isinstance(f.pools, Unknown):
        return _unknown(q, gate, f"the state of pool {name}", f.pools)
    state = f.pools.value.get(name)
    if state is None:
        return _unknown(q, gate, f"the state of pool {name}", Unknown(why="it was not measured"))
    return state


def _going(q: Question) -> dict[str, int]:
    """Replicas that a restore or an undo takes away again, by pool."""
    if q.purpose == "act" or not isinstance(q.change, Change):
        return {}
    out: dict[str, int] = {}
    for key, after in q.change.after.items():
        before, (family, _, pool) = q.change.before.get(key), key.partition("/")
        if family == "replicas" and isinstance(before, int) and isinstance(after, int) and after < before:
            out[pool] = before - after
    return out


def _no_fewer(q: Question, state: PoolState, left: int) -> bool:
    """True for a rollout that only replaces what is broken anyway: it must not be kept from mending a broken pool."""
    return isinstance(q.step.step, RolloutHotfix | RollbackChange) and state.answering == left


def _answering(q: Question, f: Facts, gate: str, state: PoolState) -> int | GateVerdict:
    """Endpoints that answer now and would still be in rotation after the change."""
    if state.answering is None:
        return _unknown(q, gate, f"how many endpoints of {state.pool} answer", Unknown(why="they could not be probed"))
    assert isinstance(q.change, Change)
    blast = q.change.blast
    down = blast.endpoints_down.get(state.pool, 0) + blast.restarting.get(state.pool, 0)
    step = q.step.step
    if state.pool in _going(q):
        # Of those that are too many the controller ends first what is not ready: an undo of what never served takes none.
        return min(state.answering, int(q.change.after[replicas_key(state.pool)]))
    # By default the fault of an endpoint is that it gave no token just now: then it is not among those that answer. By a
    # runbook's own criterion (bad output) or on another target the one that is taken out may well be one of them.
    if isinstance(step, RolloutHotfix | RollbackChange):
        # The controller lets replicas that are not ready go first: the more are broken, the less it takes.
        return min(state.answering, max(0, state.endpoints - down))
    sick = (
        isinstance(step, IsolateEndpoint | RestartEngine)
        and step.endpoint is not None
        and q.step.healthy is None
        and q.target.endpoint == step.endpoint
        and isinstance(f.fault, Known)
        and f.fault.value.holds
    )
    return state.answering - (0 if sick else down)


RESERVED_FOR_S = 30.0
"""How long a granted move is counted beside the measured load: until the load's window surely shows it, seconds."""


def reserved(view: GuardView, workflow_id: str, now: datetime) -> dict[str, float]:
    """Tokens/s promised to pools by other cases' young moves. The own case's increments were verified under load."""
    out: dict[str, float] = {}
    for standing in view.standing:
        if standing.case.startswith(workflow_id + "#") or (now - standing.since).total_seconds() > RESERVED_FOR_S:
            continue
        for pool, tps in standing.reserved_tps.items():
            out[pool] = out.get(pool, 0.0) + tps
    return out


def _coming_back(q: Question, f: Facts) -> dict[str, float]:
    """Tokens/s that a restore gives back to each pool whose weight it raises."""
    if q.purpose != "restore" or not isinstance(q.change, Change) or isinstance(f.pools, Unknown):
        return {}
    out: dict[str, float] = {}
    for key, after in q.change.after.items():
        family, _, rest = key.partition("/")
        before = q.change.before.get(key)
        if family != "weight" or not isinstance(after, int) or not isinstance(before, int) or after <= before:
            continue
        route = q.fleet.route(rest.rpartition("/")[0])
        load = [f.pools.value[p].load_tps for p in (route.pools if route else ()) if p in f.pools.value]
        total = sum(x for x in load if x is not None)
        weights = sum(
            v for k, v in (f.before.value if isinstance(f.before, Known) else {}).items() if isinstance(v, int)
        )
        out[rest.rpartition("/")[2]] = total * (after - before) / weights if weights else total
    return out


def g3_headroom(q: Question, f: Facts) -> GateVerdict:
    """Whatever receives the load has room for it: rerouted load killed the second cluster in oai-2024-04-10."""
    if not isinstance(q.change, Change) or (q.purpose == "undo" and not _going(q)):
        return _say("G3", "allow", "nothing receives more load")
    blast = q.change.blast
    notes: list[str] = []
    for pool in blast.endpoints_down | blast.restarting | _going(q):
        state = _pool(q, f, "G3", pool)
        if isinstance(state, GateVerdict):
            return state
        left = _answering(q, f, "G3", state)
        if isinstance(left, GateVerdict):
            return left
        if _no_fewer(q, state, left) or (q.purpose == "undo" and left == state.answering):
            notes.append(f"{pool} loses none that answers")
            continue
        if state.load_tps is None:
            return _unknown(q, "G3", f"the load of {pool}", Unknown(why="tokens/s could not be measured"))
        spec = q.fleet.pool(pool)
        room = left * (spec.tokens_per_second if spec else 0.0)
        if state.load_tps > room:
            return _say(
                "G3",
                "deny",
                f"{pool} is asked for {state.load_tps:.0f} tokens/s and the {left} endpoint(s) left can serve {room:.0f}",
            )
        notes.append(f"{pool} carries {state.load_tps:.0f} of {room:.0f} tokens/s")
    if isinstance(f.guard, Unknown):
        return _unknown(q, "G3", "the headroom that is promised already", f.guard)
    lacking = _dependencies(q, f, notes)
    if lacking is not None:
        return lacking
    promised = reserved(f.guard.value, q.workflow_id, f.now)
    for pool, more in (blast.reserved_tps | _coming_back(q, f)).items():
        extra = more + promised.get(pool, 0.0)
        state = _pool(q, f, "G3", pool)
        if isinstance(state, GateVerdict):
            return state
        if state.load_tps is None:
            return _unknown(q, "G3", f"the load of {pool}", Unknown(why="tokens/s could not be measured"))
        route = q.fleet.route_of(pool)
        limit = state.capacity_tps * (route.target_utilisation if route else 0.8)
        if state.load_tps + extra > limit:
            return _say(
                "G3", "deny", f"{pool} would carry {state.load_tps + extra:.0f} tokens/s; {limit:.0f} is its limit"
            )
        notes.append(f"{pool} would carry {state.load_tps + extra:.0f} of {limit:.0f} tokens/s")
    return _say("G3", "allow", "; ".join(notes) or "nothing receives more load")


def _dependencies(q: Question, f: Facts, notes: list[str]) -> GateVerdict | None:
    """What more replicas lean on has room for them: restarts failed through a full pool in oai-2024-06-04."""
    step = q.step.step
    pool = q.fleet.pool(step.pool) if isinstance(step, IncreaseCapacity) else None
    wanted = pool.workload.depends_on if pool is not None and pool.workload is not None else ()
    if not wanted or q.purpose != "act" or not isinstance(step, IncreaseCapacity):
        return None
    if not isinstance(f.dependencies, Known):
        fact = f.dependencies or Unknown(why="it was not measured")
        return _unknown(q, "G3", f"the headroom of {', '.join(wanted)}", fact)
    for name in wanted:
        room = f.dependencies.value.get(name)
        if room is None:
            return _unknown(q, "G3", f"the headroom of {name}", Unknown(why="it was not measured"))
        if room < step.at_once:
            return _say("G3", "deny", f"{name} has room for {room:g} more replica(s), and {step.at_once} are wanted")
        notes.append(f"{name} has room for {room:g} more")
    return None


def g4_one_change(q: Question, f: Facts) -> GateVerdict:
    """One change at a time per domain, over all levers: two at once did the harm in oai-2022-11-17."""
    if isinstance(f.guard, Unknown):
        return GateVerdict(
            gate="G4", outcome="deny", reason=f"the Guard could not be asked: {f.guard.why}", unknown=True
        )
    view = f.guard.value
    until = f.now + timedelta(seconds=q.policy.timing.hold_s)
    if view.dirty is not None:
        return _say("G4", "hold", f"the domain is dirty: {view.dirty}", until)
    if view.halted is not None and q.purpose == "act":
        return _say("G4", "hold", view.halted, until)
    if view.holder not in (None, q.workflow_id):
        return _say("G4", "allow", f"held by {view.holder}: the Guard will queue this step")
    return _say("G4", "allow", "the domain is free")


def minimum(policy: Policy, endpoints: int) -> int:
    """Fewest endpoints of a pool that must go on answering."""
    return max(policy.min_answering_count, math.ceil(policy.min_answering * endpoints - 1e-9))


def g5_minimum_healthy(q: Question, f: Facts) -> GateVerdict:
    """The minimum healthy is never crossed, standing receipts included: lessons of oai-2024-05-21."""
    if not isinstance(q.change, Change) or (q.purpose != "act" and not _going(q)):
        return _say("G5", "allow", "no endpoint is taken out")
    notes: list[str] = []
    for pool in q.change.blast.endpoints_down:
        state = _pool(q, f, "G5", pool)
        if isinstance(state, GateVerdict):
            return state.model_copy(update={"outcome": "deny"})
        left = _answering(q, f, "G5", state)
        if isinstance(left, GateVerdict):
            return left.model_copy(update={"outcome": "deny"})
        least = minimum(q.policy, state.endpoints)
        if left < least:
            return _say(
                "G5", "deny", f"{left} of {state.endpoints} endpoints of {pool} would answer; {least} is the minimum"
            )
        notes.append(f"{left} of {state.endpoints} in {pool} go on answering (minimum {least})")
    for pool in q.change.blast.restarting | _going(q):
        state = _pool(q, f, "G5", pool)
        if isinstance(state, GateVerdict):
            return state.model_copy(update={"outcome": "deny"})
        left = _answering(q, f, "G5", state)
        if isinstance(left, GateVerdict):
            return left.model_copy(update={"outcome": "deny"})
        least = minimum(q.policy, state.endpoints)
        if left < least and left != state.answering:
            return _say("G5", "deny", f"{left} replica(s) of {pool} would answer meanwhile; {least} is the minimum")
        notes.append(f"{left} of {state.endpoints} in {pool} answer meanwhile (minimum {least})")
    for pool in q.change.blast.reserved_tps:
        state = _pool(q, f, "G5", pool)
        if isinstance(state, GateVerdict):
            return state.model_copy(update={"outcome": "deny"})
        if state.answering is None:
            return _unknown(q, "G5", f"how many endpoints of {pool} answer", Unknown(why="they could not be probed"))
        if state.answering < minimum(q.policy, state.endpoints):
            return _say("G5", "deny", f"receiving pool {pool} is itself below its minimum")
        notes.append(f"{state.answering} of {state.endpoints} answer in receiving {pool}")
    return _say("G5", "allow", "; ".join(notes) or "no endpoint is taken out")


def g6_irreversible(q: Question, f: Facts) -> GateVerdict:
    """What cannot be taken back needs a named, verified person: a herd of restarts did more harm in gcp-2025-06-12."""
    if q.purpose != "act" or kind(q.step.step) is not Kind.IRREVERSIBLE:
        return _say("G6", "allow", "it can be taken back")
    if q.limits.unattended:
        return _say("G6", "allow", f"policy lets {q.step.step.lever} act without a named person")
    if q.for_class.mode == "observe":
        return _say("G6", "allow", "observe mode: decided and recorded, nothing is touched")
    if f.approval is None or not f.approval.verified or not f.approval.approvers:
        return _say("G6", "ask", f"{q.step.step.lever} cannot be taken back: a named, verified person must approve")
    if f.approval.digest != q.step.envelope.digest or f.approval.expires_at <= f.now:
        return _say("G6", "ask", "the approval is for another plan, or has ended")
    return _say("G6", "allow", f"approved by {', '.join(f.approval.approvers)}, verified")


def g7_approval(q: Question, f: Facts) -> GateVerdict:
    """The approval shows the plan, is bound to its envelope and ends. Humans approved harm they could not see in oai-2024-05-21."""
    if q.purpose != "act":
        return _say("G7", "allow", "undo and restore return to what stood before")
    env = q.step.envelope
    if isinstance(q.change, Change) and (
        q.change.blast.largest_share > env.largest_share + 1e-9
        or q.change.blast.endpoints > env.largest_endpoints
        or len(q.change.blast.nodes) > env.largest_nodes
        or q.change.blast.gpus > env.largest_gpus
    ):
        return _say(
            "G7", "deny", f"the change ({q.change.note or 'no note'}) is outside of the plan's envelope {env.digest}"
        )
    rule = q.for_class
    if rule.mode == "observe":
        return _say("G7", "allow", "observe mode: decided and recorded, nothing is touched")
    share = q.change.blast.largest_share if isinstance(q.change, Change) else 0.0
    if rule.mode == "auto" and share <= q.limits.ask_over_share:
        return _say("G7", "allow", f"class {q.failure_class} runs unattended by policy")
    wanted = f"{rule.quorum} of group {rule.approvers}"
    if f.approval is None:
        return _say("G7", "ask", f"policy wants {wanted} to approve")
    if f.approval.digest != env.digest:
        return _say("G7", "ask", f"the approval is for plan {f.approval.digest}, this is {env.digest}")
    if f.approval.expires_at <= f.now:
        return _say("G7", "ask", f"the approval ended at {f.approval.expires_at:%H:%M:%S}")
    if len(set(f.approval.approvers)) < rule.quorum:
        return _say("G7", "ask", f"{len(set(f.approval.approvers))} of {rule.quorum} have approved")
    if not f.approval.verified and not (rule.accept_unverified and rule.quorum == 1):
        return _say("G7", "ask", "an unverified decision does not count for this class")
    who = ", ".join(f.approval.approvers)
    return _say("G7", "allow", f"approved by {who}{'' if f.approval.verified else ' (unverified)'}")


def g8_before_state(q: Question, f: Facts) -> GateVerdict:
    """The way back is known before the act."""
    if isinstance(f.before, Unknown):
        return _unknown(q, "G8", "the before-state", f.before)
    if isinstance(q.change, CannotPlan):
        return GateVerdict(gate="G8", outcome="deny", reason=q.change.why, lasting=q.change.lasting)
    if isinstance(q.change, NothingToDo):
        return _say("G8", "allow", q.change.why)
    for key, value in q.change.before.items():
        found = f.before.value.get(key)
        if found != value:
            return _say("G8", "deny", f"{key} is {found!r}, the change starts from {value!r}")
    return _say("G8", "allow", f"{len(q.change.before)} setting(s) recorded")


def g9_verifiable(q: Question, f: Facts) -> GateVerdict:
    """It can be proven by a real generation, with soak: an idle health check proves nothing (NVSentinel #695)."""
    if q.purpose == "undo":
        return _say("G9", "allow", "undo returns to what stood before, and waits for no proof")
    if q.step.verify is None:
        return _say("G9", "deny", "the step has no verify")
    if not any(i.generates for i in q.step.indicators):
        return _say("G9", "deny", "no criterion of the verify is a real generation")
    if isinstance(f.verifier, Unknown):
        return _unknown(q, "G9", "what verify will measure", f.verifier)
    if q.purpose == "restore" and isinstance(q.step.step, RebalanceNodes):
        unproven = _unproven(q.step.step.node, f)
        if unproven is not None:
            return unproven
    missing = {c.indicator for c in q.step.verify.criteria} - set(f.verifier.value)
    if missing:
        return _unknown(q, "G9", "what verify will measure", Unknown(why=f"no reading of {', '.join(sorted(missing))}"))
    return _say("G9", "allow", f"{len(q.step.verify.criteria)} indicator(s), soak {q.step.verify.soak_s:.0f} s")


REJOIN_FOR_S = 60.0
"""How long a node's check under load speaks for it, seconds."""


def _unproven(node: str, f: Facts) -> GateVerdict | None:
    """A node may take pods again only after it made tokens under load: an idle check passes on a sick GPU."""
    if f.rejoin is None or f.rejoin.node != node:
        return _say("G9", "deny", f"{node} has not been checked under load")
    age = (f.now - f.rejoin.observed_at).total_seconds()
    if age > REJOIN_FOR_S:
        return _say(
            "G9", "deny", f"the check of {node} under load is {age:.0f} s old; {REJOIN_FOR_S:.0f} s is the most"
        )
    return None if f.rejoin.ok else _say("G9", "deny", f"{node} failed under load: {f.rejoin.why}")


def g16_fault_now(q: Question, f: Facts) -> GateVerdict:
    """The fault holds at this moment (act), or is gone from the target (restore): measured, not believed."""
    if q.purpose == "undo":
        return _say("G16", "allow", "undo does not need the fault")
    if isinstance(f.fault, Unknown):
        return GateVerdict(
            gate="G16", outcome="deny", reason=f"whether the fault still holds is unknown: {f.fault.why}", unknown=True
        )
    until = f.now + timedelta(seconds=q.policy.timing.hold_s)
    if q.purpose == "act":
        if not f.fault.value.holds and _goes_on(q, f):
            return _say("G16", "allow", f"the rings before have mended it: {f.fault.value.detail}")
        if not f.fault.value.holds:
            return _say("G16", "hold", f"the fault cannot be seen now: {f.fault.value.detail}", until)
        return _say("G16", "allow", f.fault.value.detail)
    if f.fault.value.holds:
        return _say("G16", "hold", f"the fault is still there: {f.fault.value.detail}", until)
    return _say("G16", "allow", f"the fault is gone: {f.fault.value.detail}")


GATES: tuple[Gate, ...] = (
    g1_freshness,
    g2_blast_radius,
    g3_headroom,
    g4_one_change,
    g5_minimum_healthy,
    g6_irreversible,
    g7_approval,
    g8_before_state,
    g9_verifiable,
    g16_fault_now,
)


def judge(q: Question, f: Facts) -> Verdict:
    """All gates, always all of them: an SRE sees every reason, not the first."""
    gates = tuple(gate(q, f) for gate in GATES)
    worst = max(gates, key=lambda g: RANK[g.outcome])
    until = max((g.until for g in gates if g.outcome == "hold" and g.until), default=None)
    return Verdict(outcome=worst.outcome, gates=gates, policy=q.policy.digest, until=until)
