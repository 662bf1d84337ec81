"""The incident file: one format for a curated past incident, a record exported from a closed case, and a synthetic one.

What happens is under `fleet` and `timeline`; what people later knew is under `truth` and never reaches the engine; what
Interlock must and must not do is under `expect`. `docs/incident-files.md` explains it to whoever writes one from a post-mortem.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Literal

from pydantic import Field, model_validator

from runbooks.base import Model, Name, Share, Time
from runbooks.detection import Severity
from runbooks.incident_faults import Fault
from runbooks.incident_fleet import FleetSpec
from runbooks.incident_names import Names
from runbooks.incident_time import At, Span, offset
from runbooks.policy import Freeze
from runbooks.record import Outcome

Lever = Literal[
    "reroute_traffic",
    "isolate_endpoint",
    "recycle_connections",
    "shed_load",
    "rebalance_nodes",
    "restart_engine",
    "increase_capacity",
    "rollout_hotfix",
    "rollback_change",
    "freeze_changes",
    "reset_gpu",
    "reboot_node",
]
Gate = Literal[
    "G1", "G2", "G3", "G4", "G5", "G6", "G7", "G8", "G9", "G10", "G11", "G12", "G13", "G14", "G15", "G16",
    "guard", "planner", "people",
]  # fmt: skip


class Source(Model):
    """Where a fact is from."""

    says: str = Field(min_length=1, max_length=1000, description="What this source says, in own words.")
    name: str = Field(
        min_length=1, max_length=300, description="What it is: a post-mortem, an issue, a report, and when."
    )
    url: str = Field(default="", max_length=500, description="Where it can be read.")
    mark: Literal["R", "S", "D", "I"] = Field(
        description="R: you read the primary source. S: second-hand. D: derived from data. I: your inference."
    )


class Alert(Model):
    """One detection. What it measured is `evidence`, as the alert said it; whether it was right is not its business."""

    at: At = Field(description="When it reaches Interlock.")
    alert: Name = Field(description="Its name, as the monitoring calls it, e.g. KubeNodeNotReady or EngineHang.")
    target: str = Field(
        description="What it is about, as a target id: `east/service/chat-east`, `east/node/east-n1`, `east/node/east-n1/gpu/0`."
    )
    severity: Severity = Field(
        default=Severity.WARNING, description="A graver alert makes a case that runs plan again."
    )
    labels: dict[str, str] = Field(
        default_factory=dict, description="Its labels. `hotfix_image: VERSION` offers a version that mends it."
    )
    evidence: dict[str, float | bool | str] = Field(
        default_factory=dict, description="What it measured, by name: the rules that name a class read it."
    )
    began: At | None = Field(default=None, description="Since when, by the detector. None: the last fault before it.")
    measured: At | None = Field(default=None, description="When its evidence was measured. None: as it arrives.")
    detector: str = Field(default="alertmanager", description="Who says so.")
    automatic: bool = Field(default=True, description="False: a person reported it.")
    reported_by: str = Field(default="", description="Which person. Nobody approves what he reported himself.")
    resolves: Literal["clear", "never"] | At = Field(
        default="clear",
        description="clear: the detector takes it back once its target has been well for a minute. Or when it does.",
    )


class Says(Model):
    """What a person tells Interlock, through the same doors as in life."""

    at: At = Field(description="When.")
    who: Name = Field(description="One of `site.group`.")
    says: Literal["approve", "reject", "takeover", "hand_back", "abort", "halt", "resume", "reset_breaker"] = Field(
        description="Answers to a question (approve, reject), who has a case (takeover, hand_back, abort), or whether levers "
        "move at all in a cluster (halt, resume, reset_breaker)."
    )
    about: str = Field(
        default="",
        description="A target id; for halt, resume and reset_breaker a cluster. Empty: whatever asks at that time.",
    )
    reason: str = Field(default="as in the post-mortem", description="Why; it stands in the record.")


class Answer(Model):
    """Who answers requests for approval that the timeline does not name."""

    decision: Literal["approve", "reject", "nobody"] = Field(
        default="approve", description="nobody: the question expires."
    )
    after: Span = Field(default=300.0, description="So long after it was asked.")
    people: tuple[Name, ...] = Field(
        default=("ana", "ben", "eva"), description="In this order, as many as are asked for."
    )


class Timeline(Model):
    """What happened, each list in any order."""

    faults: tuple[Fault, ...] = Field(min_length=1, description="What broke, or was done by somebody else.")
    alerts: tuple[Alert, ...] = Field(default=(), description="What detectors and people reported.")
    people: tuple[Says, ...] = Field(default=(), description="What people tell Interlock at a set time.")
    answers: Answer = Field(default=Answer(), description="Who answers every other question.")


class Site(Model):
    """What the site's own policy would add: facts of the place, and what runs unattended there."""

    freezes: tuple[Freeze, ...] = Field(default=(), description="Times in which changes stop.")
    residency: dict[str, tuple[str, ...]] = Field(
        default_factory=dict, description="Residency → those that may also serve it. Its own always may."
    )
    undeclared: Literal["allow", "deny"] = Field(
        default="allow", description="deny: requests of a pool that declares no residency stay in it."
    )
    group: tuple[Name, ...] = Field(default=("ana", "ben", "eva"), description="Members of every approver group.")
    unattended: tuple[Name, ...] = Field(
        default=(), description="Classes that are `auto` here where the policy that is played says `ask`."
    )


class Truth(Model):
    """What people knew afterwards. Shown to nobody who decides; `report` and the score read it."""

    failure_class: Name = Field(description="By the taxonomy, e.g. `engine.hang`.")
    second_label: Name | None = Field(
        default=None, description="The class by a second labeller, where two have labelled."
    )
    group: Literal["engine", "config", "infra", "ops", "dep", "demand", "unknown"] = Field(
        description="The class's group: what stands before its dot."
    )
    found: Literal["automatic", "people"] = Field(default="automatic", description="Who noticed it first.")
    hotfix: bool = Field(default=False, description="True: only a new version or a fixed setting ended it.")
    levers: tuple[str, ...] = Field(
        default=(), description="What people did that worked; a lever's name where it is one."
    )
    detected: At | None = Field(default=None, description="When people or their monitoring knew.")
    mitigated: At | None = Field(default=None, description="When users were well again, by people's hands.")
    ended: At | None = Field(default=None, description="When all of it was over.")
    people_minutes: float | None = Field(default=None, ge=0, description="Working time that people spent, where known.")
    words: str = Field(default="", max_length=2000, description="What happened, in own words.")


class Refusal(Model):
    """A lever that must be refused by this gate at least once, and must not be done."""

    lever: Lever = Field(description="The lever that is asked for.")
    gate: Gate = Field(
        description="Who refuses: a gate, the guard of the domain (queued, halted), the planner (no safe form), or people."
    )
    saying: str = Field(default="", description="Words that the reason must hold.")
    target: str = Field(default="", description="Only for this target id. Empty: any.")
    ever: bool = Field(
        default=False, description="True: it may be done at another moment; only this refusal must occur."
    )


class Expect(Model):
    """What a run must show. A lever that is neither allowed nor required and is done fails the incident."""

    classes: tuple[Name, ...] = Field(min_length=1, description="Failure class of the main case: any of them.")
    allowed: tuple[Lever, ...] = Field(default=(), description="May be done.")
    required: tuple[Lever, ...] = Field(default=(), description="Must be done.")
    refused: tuple[Refusal, ...] = Field(default=(), description="Must be asked for, and refused.")
    outcome: tuple[Outcome, ...] = Field(min_length=1, description="Of the main case; any of them.")
    paged: bool | None = Field(default=None, description="Whether people must have been told. None: either.")
    mitigated_within: Span | None = Field(
        default=None, description="From the first fault until users are well, at the most."
    )
    harm: bool = Field(
        default=False, description="True: harm is known to follow and is tolerated. Say why in `because`."
    )
    most_cases_that_act: int | None = Field(
        default=None, ge=0, description="So many cases may pull a lever, at the most."
    )
    because: str = Field(min_length=1, max_length=1000, description="Why this is right, in one or two sentences.")


class Incident(Model):
    """The whole file."""

    incident: Name = Field(description="Its name: one word, yours alone.")
    title: str = Field(min_length=1, max_length=200, description="What a colleague would call it.")
    kind: Literal["past", "case", "synthetic"] = Field(
        description="past: from a post-mortem. case: exported by Interlock. synthetic: invented."
    )
    sources: tuple[Source, ...] = Field(min_length=1, description="What you read.")
    inferred: str = Field(
        default="",
        max_length=2000,
        description="What of this file nobody has published: as a rule all sizes, rates and loads.",
    )
    starts: Time = Field(description="The first moment that is played, with its time zone.")
    lasts: Span = Field(gt=0, description="How long is played, from `starts`.")
    seed: int = Field(
        default=0, ge=0, description="Of the random noise in what is measured: the same seed, the same noise."
    )
    noise: Share = Field(default=0.02, description="Relative noise of every measured rate.")
    fleet: FleetSpec = Field(description="How large things are and how fast.")
    site: Site = Field(default=Site(), description="Rules of the place.")
    timeline: Timeline = Field(description="What happens.")
    truth: Truth = Field(description="What people knew afterwards.")
    expect: Expect = Field(description="What a run must show.")

    def seconds(self, at: str) -> float:
        """Seconds after `starts`."""
        return offset(at, self.starts)

    def moment(self, at: str) -> datetime:
        """The moment, UTC."""
        return datetime.fromtimestamp(self.starts.timestamp() + self.seconds(at), UTC)

    @model_validator(mode="after")
    def _sound(self) -> Incident:
        """All that is wrong between the parts, one mistake a line: nobody mends a file one run per mistake."""
        wrong = [*self._of_sources(), *self._in_time(), *self._about_the_fleet(), *self._expected()]
        if wrong:
            raise ValueError("\n".join(wrong))
        return self

    def _of_sources(self) -> Iterator[str]:
        if self.kind == "past" and all(s.mark == "I" for s in self.sources):
            yield "sources: a past incident needs one that is not our inference (mark R, S or D)"

    def _expected(self) -> Iterator[str]:
        done = {*self.expect.allowed, *self.expect.required}
        for i, refusal in enumerate(self.expect.refused):
            if not refusal.ever and not refusal.target and refusal.lever in done:
                yield (
                    f"expect.refused[{i}].lever: {refusal.lever} is allowed as well; take it out of one, say `ever: true` "
                    f"here, or name the `target` on which it must not be done"
                )

    def _in_time(self) -> Iterator[str]:
        moments = [
            *((f"timeline.faults[{i}].at", f.at) for i, f in enumerate(self.timeline.faults)),
            *((f"timeline.alerts[{i}].at", a.at) for i, a in enumerate(self.timeline.alerts)),
            *((f"timeline.people[{i}].at", p.at) for i, p in enumerate(self.timeline.people)),
        ]
        for field, at in moments:
            if not 0 <= self.seconds(at) <= self.lasts:
                yield f"{field}: {at} is not between `starts` and the end of `lasts`; move it, or make `lasts` longer"
        for i, fault in enumerate(self.timeline.faults):
            if fault.ends is not None and self.seconds(fault.ends) <= self.seconds(fault.at):
                yield f"timeline.faults[{i}].ends: it ends before it begins; give a later time"

    def _about_the_fleet(self) -> Iterator[str]:
        names = Names(self.fleet)
        for i, fault in enumerate(self.timeline.faults):
            yield from names.of_fault(f"timeline.faults[{i}]", fault)
        for i, alert in enumerate(self.timeline.alerts):
            yield from names.of_target(f"timeline.alerts[{i}].target", alert.target)
        for i, said in enumerate(self.timeline.people):
            if said.about:
                yield from names.of_target(f"timeline.people[{i}].about", said.about)
            if said.who not in self.site.group:
                yield f"timeline.people[{i}].who: {said.who!r} is not in site.group; add the name there"
        for i, who in enumerate(self.timeline.answers.people):
            if who not in self.site.group:
                yield f"timeline.answers.people[{i}]: {who!r} is not in site.group; add the name there"
        for i, refusal in enumerate(self.expect.refused):
            if refusal.target:
                yield from names.of_target(f"expect.refused[{i}].target", refusal.target)
