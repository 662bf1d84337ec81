"""Policy: what may happen by itself, who must agree, and how much at once. Checked as a whole; its digest is in every verdict."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from runbooks.base import Model, Name, Seconds, Share, digest


class ClassPolicy(Model):
    """Per failure class: how much is left to Interlock."""

    mode: Literal["observe", "ask", "auto"] = Field(
        default="ask", description="observe: decide and record, touch nothing. ask: people approve. auto: gates decide."
    )
    approvers: Name = Field(default="sre-oncall", description="Group whose members may decide.")
    quorum: int = Field(default=1, ge=1, le=5)
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
    cooldown_s: Seconds = 3600.0
    max_nodes_out: int = Field(default=1, ge=0, description="Nodes out of scheduling in a domain, standing included.")
    max_gpus: int = Field(default=8, ge=0, description="GPUs taken out or taken more, standing included.")
    unattended: bool = Field(
        default=False, description="G6: an irreversible lever may act without a named, verified person."
    )
    ask_over_share: Share = Field(default=1.0, description="A larger move than this asks people even in auto.")


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
    linger_s: Seconds = Field(
        default=900.0,
        description="A case that people were told about stays open this long after the detector's last word: repeats join it.",
    )


class Policy(Model):
    """The whole of it."""

    name: str
    default: ClassPolicy = ClassPolicy()
    classes: dict[str, ClassPolicy] = Field(default_factory=dict)
    levers: dict[str, LeverPolicy] = Field(default_factory=dict)
    min_answering: Share = Field(
        default=0.5, description="G5: never fewer of a pool's endpoints in rotation than this share."
    )
    min_answering_count: int = Field(default=1, ge=1, description="G5: nor fewer than this many.")
    ask_on_unknown: tuple[Literal["G2", "G3", "G8", "G9"], ...] = Field(
        default=(),
        description="Gates where an Unknown fact asks people instead of denying. Never G1, G4, G5, G11, G12, G16.",
    )
    timing: Timing = Timing()
    groups: dict[Name, tuple[str, ...]] = Field(
        default_factory=dict, description="Group → people, by verified subject."
    )

    @property
    def digest(self) -> str:
        """Version of exactly this policy."""
        return digest(self)

    def for_class(self, failure_class: str) -> ClassPolicy:
        """The class's own policy, else the default."""
        return self.classes.get(failure_class, self.default)

    def for_lever(self, lever: str) -> LeverPolicy:
        """The lever's own limits, else the defaults, which are tight."""
        return self.levers.get(lever, LeverPolicy())
