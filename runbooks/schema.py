"""A Runbook: for one failure class, the ordered steps, how each is verified, and what to do when it fails."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from runbooks.base import Model, Name, Seconds


class Criterion(Model):
    """One indicator and the bound that proves `Better`, and optionally the one that proves `Worse`.

    No expression language: a number, and which side of it is good.
    """

    indicator: Name
    below: float | None = Field(default=None, description="Better needs value <= this.")
    above: float | None = Field(default=None, description="Better needs value >= this.")
    worse_above: float | None = Field(default=None, description="A value over this is proof of Worse.")
    worse_below: float | None = Field(default=None, description="A value under this is proof of Worse.")

    @model_validator(mode="after")
    def _one_side(self) -> Criterion:
        if (self.below is None) == (self.above is None):
            raise ValueError(f"criterion {self.indicator!r}: give exactly one of `below` and `above`")
        return self


class Verify(Model):
    """How an increment is proven. At least one criterion must be a real generation (G9)."""

    criteria: tuple[Criterion, ...] = Field(min_length=1)
    soak_s: Seconds = Field(default=10.0, description="Better must hold this long, seconds.")
    deadline_s: Seconds = Field(default=60.0, description="After this the effect is CannotTell, seconds.")
    every_s: Seconds = Field(default=2.0, gt=0, description="Time between samples, seconds.")
    min_samples: int = Field(default=3, ge=2, le=60, description="Distinct fresh sample times that Better needs.")

    @model_validator(mode="after")
    def _bounded(self) -> Verify:
        if self.deadline_s < self.soak_s:
            raise ValueError("verify.deadline_s is shorter than verify.soak_s: Better could never be proven")
        if self.deadline_s / self.every_s > 60:
            raise ValueError("verify: more than 60 samples before the deadline; raise every_s or lower deadline_s")
        return self


class RestoreRule(Model):
    """When and how a standing change goes back to normal."""

    clear_for_s: Seconds = Field(default=20.0, description="The fault must have been gone this long, seconds.")
    every_s: Seconds = Field(default=5.0, gt=0, description="Time between looks, seconds.")
    ramp: tuple[float, ...] = Field(default=(1.0,), description="Shares of the way back, ascending, ending in 1.0.")

    @model_validator(mode="after")
    def _ascending(self) -> RestoreRule:
        if list(self.ramp) != sorted(set(self.ramp)) or not self.ramp or self.ramp[-1] != 1.0 or self.ramp[0] <= 0:
            raise ValueError("restore.ramp must ascend and end in 1.0, for example [0.25, 0.5, 1.0]")
        return self


class StepSpec(Model):
    """One step as written: `with` holds the lever's parameters, each string a jinja2 template."""

    lever: Name
    parameters: dict[str, Any] = Field(default_factory=dict, alias="with")
    verify: Verify | None = Field(default=None, description="Required for every lever but page.")
    on_cannot_tell: Literal["undo", "keep_and_page"] = "undo"
    restore: RestoreRule = RestoreRule()
    then: Literal["stand", "next", "enable"] = Field(
        default="stand",
        description="When it was Better: stand and watch, or go on (a drained node is reset before it comes back). enable: "
        "it only makes room for the next step, and is taken back at once when nothing of that one stands.",
    )

    @model_validator(mode="after")
    def _verified(self) -> StepSpec:
        if self.lever != "page" and self.verify is None:
            raise ValueError(f"step {self.lever!r}: `verify` is missing; nothing acts without a verify")
        return self


class Runbook(Model):
    """Steps in order. A refused or undone step falls through to the next; after the last, people are told."""

    failure_class: Name = Field(alias="class")
    title: str
    applies_to: tuple[Literal["cluster", "service", "endpoint", "node", "gpu"], ...] = Field(min_length=1)
    steps: tuple[StepSpec, ...] = Field(min_length=1)
    healthy: Criterion | None = Field(
        default=None, description="The fault is gone while this holds. Empty: real generations to the target decide."
    )
    source: str = Field(description="Where this comes from, with its mark (P, S, R, K, I).")
