"""A Plan: a runbook applied to one case, rendered once. Its envelope is what people approve."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from runbooks.base import Model, Seconds, Share, Time, digest
from runbooks.change import Change, Permit, Receipt
from runbooks.detection import Detection, Target
from runbooks.facts import Facts, Rejoin
from runbooks.levers import Step
from runbooks.policy import ClassPolicy, Timing
from runbooks.schema import Criterion, RestoreRule, Verify
from runbooks.taxonomy_looked import Looked


class IndicatorQuery(Model):
    """An indicator rendered for this case: where to ask and what."""

    name: str
    source: Literal["prometheus", "scrape", "probe", "cluster"]
    query: str = Field(description="PromQL; or a metric name; or the route or endpoint to generate on.")
    unit: str
    scope: str = Field(
        default="", description="For scrape and probe: pool, route or endpoint address. For cluster: pool or node."
    )

    @property
    def generates(self) -> bool:
        """True when it is a real generation, of a route or endpoint or of every replica of a pool."""
        return self.source == "probe" or (self.source == "cluster" and self.query in ("replicas_serving", "rolled_out"))


class PlannedStep(Model):
    """One step, ready to be checked. `envelope` bounds what an approval of it covers."""

    id: str
    step: Step
    targets: tuple[str, ...]
    domains: tuple[str, ...]
    verify: Verify | None
    indicators: tuple[IndicatorQuery, ...]
    on_cannot_tell: Literal["undo", "keep_and_page"]
    restore: RestoreRule
    then: Literal["stand", "next", "enable"] = "stand"
    by_pool: dict[str, tuple[IndicatorQuery, ...]] = Field(
        default_factory=dict, description="For a rollout: the same indicators for each pool that a ring changes."
    )
    rejoin_pool: str = Field(default="", description="For a node: the pool whose replica proves it under load.")
    healthy: Criterion | None = Field(default=None, description="See Runbook.healthy.")
    healthy_indicator: IndicatorQuery | None = None
    attended: bool = Field(
        default=False,
        description="People must agree even where policy lets the class act unattended: its class rests on no proof (G7).",
    )
    envelope: Envelope

    @property
    def digest(self) -> str:
        """What an approval names."""
        return self.envelope.digest


class Envelope(Model):
    """The outer bounds of a step: nothing outside of it happens under an approval of it."""

    step_id: str
    lever: str
    targets: tuple[str, ...]
    direction: str
    largest_share: Share
    largest_endpoints: int
    largest_nodes: int = 0
    largest_gpus: int = 0

    @property
    def digest(self) -> str:
        """Bound to the approval."""
        return digest(self)


class Classification(Model):
    """Which class, which rule said so, from what."""

    failure_class: str
    confidence: Share
    rule: str
    evidence: tuple[str, ...]


class Plan(Model):
    """All steps of one case. `runbook` is the file's name and content digest."""

    failure_class: str
    title: str
    runbook: str
    policy: str = Field(description="Digest of the policy that planned it.")
    steps: tuple[PlannedStep, ...]
    why: str


class Diagnosis(Model):
    """What triage returns."""

    classification: Classification
    plan: Plan
    policy: ClassPolicy
    timing: Timing
    look: Literal["no", "cluster", "whole"] = Field(
        default="no", description="What triage should read itself before anything is done: what no rule is sure of."
    )


class TriageRequest(Model):
    """`now` is workflow time: triage is pure and reads no clock. `looked`: what it has read of the target itself. `before`: the
    case's class so far, while an alert that it was found by still fires."""

    detections: tuple[Detection, ...]
    now: Time
    looked: Looked | None = None
    before: Classification | None = None


class Sample(Model):
    """One reading. `value` is None when it could not be had, and `why` says so."""

    indicator: str
    value: float | None
    observed_at: Time
    why: str = ""


class GateVerdict(Model):
    """One gate's answer: the SRE reads `reason`."""

    gate: str
    outcome: Literal["allow", "ask", "hold", "deny"]
    reason: str
    until: Time | None = None
    unknown: bool = Field(default=False, description="A fact could not be had: asked again, it may be there.")
    lasting: bool = Field(default=False, description="A denial that waiting a minute will not change.")


class Verdict(Model):
    """The worst of all gates."""

    outcome: Literal["allow", "ask", "hold", "deny"]
    gates: tuple[GateVerdict, ...]
    policy: str
    until: Time | None = None

    @property
    def may_pass(self) -> bool:
        """Denied by nothing but what is not known at this moment: worth asking again before people are told."""
        denied = [g for g in self.gates if g.outcome == "deny"]
        return bool(denied) and all(g.unknown for g in denied)

    def because(self) -> str:
        """The reasons behind the outcome, in one sentence."""
        return "; ".join(f"{g.gate}: {g.reason}" for g in self.gates if g.outcome == self.outcome) or "all gates allow"


class CheckRequest(Model):
    """One question to the gates. `attempt` counts checks of the same increment, so that a retry gets the same answer."""

    case: str
    workflow_id: str
    target: Target
    failure_class: str
    detections: tuple[Detection, ...]
    step: PlannedStep
    increment: int
    attempt: int
    purpose: Literal["act", "undo", "restore"]
    receipt: Receipt | None = Field(default=None, description="For undo and restore: what to take back.")
    share_back: Share = Field(default=1.0, description="For a ramped restore: how much of the way back.")
    approvers: tuple[str, ...] = ()
    approval_verified: bool = False
    approval_digest: str = ""
    approval_expires_at: Time | None = None
    observe: bool = False
    rejoin: Rejoin | None = Field(default=None, description="For the restore of a node: how it did under load.")
    planned_at: Time
    waited_s: Seconds = Field(default=0.0, description="How long this step has been held or queued by now.")
    known_receipts: tuple[str, ...] = Field(default=(), description="Ids of what the case knows that it has done.")


class CheckResult(Model):
    """The gates' answer, with the facts that they saw. `permit` only with outcome allow."""

    verdict: Verdict
    facts: Facts
    change: Change | None = None
    permit: Permit | None = None
    complete: bool = Field(default=False, description="True when the step needs no further increment.")
    explained: str = Field(
        default="", description="Another case's change that makes this target look sick: nothing to mend."
    )
    left: tuple[Receipt, ...] = Field(
        default=(), description="Acts of this very case and step that stand by the journal, oldest first."
    )
    begun: bool = Field(
        default=False, description="An act of this step was begun that has no receipt, and the case forgot it."
    )
    guard: Literal["permit", "queued", "correlated", "halted", "refused", "shadow", "none"] = "none"
    guard_why: str = ""
    retry_after_s: Seconds = 0.0


class ApplyRequest(Model):
    """Act under a permit."""

    case: str
    workflow_id: str
    target_id: str
    step: PlannedStep
    change: Change
    permit: Permit
    ends: dict[str, str] = Field(
        default_factory=dict, description="Receipts that this act ends, and how: undone or restored. Its own: `self`."
    )


class VerifyRequest(Model):
    """One tick of a verify: earlier samples come along, so that judging stays pure."""

    step: PlannedStep
    receipt: Receipt
    since: Time
    now: Time
    baseline: dict[str, float]
    samples: tuple[Sample, ...] = ()


class Effect(Model):
    """Better, Worse, CannotTell; `Pending` while the soak runs."""

    outcome: Literal["better", "worse", "cannot_tell", "pending"]
    why: str
    samples: tuple[Sample, ...] = ()


PlannedStep.model_rebuild()


class RejoinRequest(Model):
    """Let a cordoned node serve a replica that is not in rotation, and ask it for tokens."""

    case: str
    cluster: str
    node: str
    pool: str
    parallel: int = Field(default=4, ge=1, description="Generations at once: an idle check proves nothing.")
    rounds: int = Field(default=5, ge=1)
    deadline_s: Seconds = 120.0


class WatchRequest(Model):
    """Is the fault that this step mitigates gone? Asked while its change stands."""

    target: Target
    step: PlannedStep
    workflow_id: str = ""
    receipts: tuple[str, ...] = Field(default=(), description="What stands, by the case's own word.")


class WatchResult(Model):
    """`gone` is None when it could not be measured: that restores nothing."""

    gone: bool | None
    detail: str
    absent: bool = Field(default=False, description="Nobody is there any more whom the fault could hold.")
    by_hand: tuple[str, ...] | None = Field(
        default=(), description="Of the receipts: what people took back or settled. None: the journal could not say."
    )


class ReadBackRequest(Model):
    """What became of an act whose result is unknown."""

    apply: ApplyRequest
    failed: str = Field(
        default="", description="How it failed, by type. Permanent: by the agent's own word it did not come about."
    )


class ReadBack(Model):
    """`unknown` is an answer: people are told, nothing is assumed. `partly`: of several objects some are written and the
    others are as before; the receipt is of all, since a way back passes over what stands at `before` already."""

    state: Literal["applied", "partly", "not_applied", "unknown"]
    why: str
    receipt: Receipt | None = None
