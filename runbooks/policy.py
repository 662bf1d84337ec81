"""Policy: what may happen by itself, who must agree, and how much at once. Checked as a whole; its digest is in every verdict."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field, model_validator

from runbooks.base import Model, Name, Seconds, Share, Time, digest


class ClassPolicy(Model):
    """Per failure class: how much is left to Interlock."""

    mode: Literal["observe", "ask", "auto"] = Field(
        default="ask", description="observe: decide and record, touch nothing. ask: people approve. auto: gates decide."
    )
    approvers: Name = Field(default="sre-oncall", description="Group whose members may decide.")
    quorum: int = Field(default=1, ge=1, le=5)
    never: tuple[str, ...] = Field(default=(), description="People who never approve this class, by verified subject.")
    four_eyes: bool = Field(
        default=True, description="Who reported the fault or asked for the change does not approve it."
    )
    accept_unverified: bool = Field(
        default=False,
        description="Count one decision whose sender Temporal did not verify. Never for quorum over 1 or G6.",
    )
    approval_ttl_s: Seconds = Field(
        default=1800.0, gt=0, description="An approval request and its approval end after this."
    )


class LeverPolicy(Model):
    """Per lever: limits in serving units."""

    largest_increment: Share = Field(default=0.25, gt=0, description="Largest share of a route moved at once.")
    largest_share: Share = Field(
        default=1.0, description="Largest share of one route moved, standing receipts included."
    )
    max_endpoints_down: int = Field(default=1, ge=0, description="Absolute: endpoints out per pool, standing included.")
    max_share_down: Share = Field(default=0.5, description="Share of a pool's endpoints out, standing included.")
    max_acts_per_hour: int = Field(default=20, ge=0, description="In one domain. 0 blocks the lever.")
    attempts: int = Field(default=2, ge=1, description="On one target within cooldown_s (G10, used by the Guard).")
    cooldown_s: Seconds = Field(default=3600.0, le=86400, description="Attempts are remembered for a day.")
    max_nodes_out: int = Field(default=1, ge=0, description="Nodes out of scheduling in a domain, standing included.")
    max_gpus: int = Field(default=8, ge=0, description="GPUs taken out or taken more, standing included.")
    unattended: bool = Field(
        default=False, description="G6: an irreversible lever may act without a named, verified person."
    )
    ask_over_share: Share = Field(default=1.0, description="A larger move than this asks people even in auto.")
    ineffective_s: Seconds = Field(
        default=3600.0, description="A remedy that did not help a target is not tried on it again for so long (G10)."
    )


class DomainPolicy(Model):
    """What one domain takes in an hour over all levers, when it stops by itself, and when many faults are one."""

    endpoints_per_hour: int = Field(default=40, ge=0, description="Endpoints taken out or replaced.")
    endpoints_per_hour_in_pool: int = Field(default=20, ge=0, description="The same, in any one pool.")
    nodes_per_hour: int = Field(default=4, ge=0, description="Nodes taken out of scheduling.")
    gpus_per_hour: int = Field(default=64, ge=0, description="GPUs taken out, or taken more.")
    share_per_hour: float = Field(default=4.0, ge=0, description="Whole routes' worth of traffic moved or refused.")
    breaker_acts: int = Field(default=60, ge=1, description="So many acts within breaker_window_s trip the breaker.")
    breaker_bad: int = Field(default=3, ge=1, description="So many bad outcomes within breaker_window_s trip it.")
    breaker_window_s: Seconds = Field(default=3600.0, gt=0)
    correlate_targets: int = Field(
        default=5, ge=2, description="So many unrelated sick targets within correlate_within_s are one fault (G13)."
    )
    correlate_within_s: Seconds = Field(default=120.0, gt=0)
    correlate_quiet_s: Seconds = Field(
        default=900.0, gt=0, description="They stay one fault until no further target has asked for so long."
    )


class Freeze(Model):
    """A time in which changes stop (G15). What removes load from a sick part goes on."""

    name: Name
    starts: Time
    ends: Time
    domains: tuple[Name, ...] = Field(default=(), description="Empty: all.")
    then: Literal["deny", "ask"] = Field(
        default="deny", description="ask: a named, verified person may allow a change."
    )
    reason: str = Field(min_length=1, max_length=300)

    @model_validator(mode="after")
    def _forwards(self) -> Freeze:
        if self.ends <= self.starts:
            raise ValueError(f"freezes.{self.name}.ends: it ends before it starts; give a later time")
        return self


class ErrorBudget(Model):
    """When a route has spent this much of its error budget, changes stop (G15)."""

    least_left: Share = Field(default=0.1, description="Share of the error budget that must be left for a change.")
    then: Literal["deny", "ask"] = "ask"


class Placement(Model):
    """Where requests may be served (G12)."""

    residency: dict[str, tuple[str, ...]] = Field(
        default_factory=dict,
        description="Residency label → labels of pools that may also serve it. Its own always may.",
    )
    undeclared: Literal["allow", "deny"] = Field(
        default="allow", description="For a move between pools that declare no residency at all."
    )


class Timing(Model):
    """How old facts may be and how long things may take, seconds."""

    scrape_period_s: Seconds = Field(default=15.0, gt=0, description="Of the slowest metric that gates use.")
    settle_s: Seconds = Field(
        default=2.0, description="After a change, facts count only when they are this much newer."
    )
    permit_ttl_s: Seconds = Field(
        default=5.0, gt=0, le=30, description="Act within this of the oldest fact (at least 5 s old facts are allowed)."
    )
    max_skew_s: Seconds = Field(default=10.0, description="A detector clock further off than this denies (G1).")
    max_alert_age_s: Seconds = Field(default=900.0, description="Evidence older than this at arrival is not acted on.")
    hold_s: Seconds = Field(default=10.0, gt=0, description="How long a Hold without its own time lasts.")
    hold_limit_s: Seconds = Field(
        default=900.0, description="Held longer than this, a step is given up and people told."
    )
    replan_after_s: Seconds = Field(
        default=300.0, gt=0, description="Held or queued longer than this, a case plans again before it acts (G14)."
    )
    control_answer_s: Seconds = Field(
        default=2.0, gt=0, description="A control plane that takes longer to answer is sick itself (G11)."
    )
    linger_s: Seconds = Field(
        default=900.0,
        description="A case that people were told about stays open this long after the detector's last word: repeats join it.",
    )


class Policy(Model):
    """The whole of it."""

    name: str
    version: int = Field(default=1, ge=1, description="Counted up by whoever edits it; the digest tells if he forgot.")
    default: ClassPolicy = ClassPolicy()
    classes: dict[str, ClassPolicy] = Field(default_factory=dict)
    levers: dict[str, LeverPolicy] = Field(default_factory=dict)
    domain: DomainPolicy = DomainPolicy()
    freezes: tuple[Freeze, ...] = ()
    error_budget: ErrorBudget = ErrorBudget()
    placement: Placement = Placement()
    min_answering: Share = Field(
        default=0.5, description="G5: never fewer of a pool's endpoints in rotation than this share."
    )
    min_answering_count: int = Field(default=1, ge=1, description="G5: nor fewer than this many.")
    ask_on_unknown: tuple[Literal["G2", "G3", "G8", "G9", "G10", "G13", "G15"], ...] = Field(
        default=(),
        description="Gates where an Unknown fact asks people instead of denying. Never G1, G4, G5, G11, G12, G16.",
    )
    timing: Timing = Timing()
    groups: dict[Name, tuple[str, ...]] = Field(
        default_factory=dict, description="Group → people, by verified subject."
    )

    @property
    def digest(self) -> str:
        """The hash of exactly this policy."""
        return digest(self)

    @property
    def ref(self) -> str:
        """What a verdict names: name, version and hash."""
        return f"{self.name}/{self.version}@{self.digest}"

    def frozen(self, domain: str, now: datetime) -> Freeze | None:
        """The freeze that holds in this domain now, the strictest first."""
        held = [f for f in self.freezes if f.starts <= now < f.ends and (not f.domains or domain in f.domains)]
        return min(held, key=lambda f: (f.then != "deny", f.ends), default=None)

    def for_class(self, failure_class: str) -> ClassPolicy:
        """The class's own policy, else the default."""
        return self.classes.get(failure_class, self.default)

    def for_lever(self, lever: str) -> LeverPolicy:
        """The lever's own limits, else the defaults, which are tight."""
        return self.levers.get(lever, LeverPolicy())
