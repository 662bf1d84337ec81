"""One incident as a report counts it: a row, whether it comes from a closed case, an incident file or a replay. Pure.

None is "not known", and is counted as such: no figure of a row has a default that could be taken for a measurement.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from runbooks.base import Model, Seconds, Time

Mode = Literal["observe", "ask", "auto"]
Answer = Literal["approved", "rejected", "expired", "taken_over", "aborted", "handed_over", "void"]
"""void: the alert was taken back, or the plan changed, before anybody answered."""
By = Literal["alone", "approved", "interlock", "people", "itself"]
PEOPLE = "by people"
"""As a lever, where something else than a lever of Interlock did it."""


class Asked(Model):
    """One request for approval, and what came of it."""

    step: str
    lever: str = Field(description="Empty: the record does not tell any more.")
    gates: tuple[str, ...] = Field(description="Which gates wanted people.")
    at: Time
    answer: Answer | None = Field(description="None: the record ends while it waits.")
    waited_s: Seconds | None = Field(description="Until the answer.")
    acted: bool = Field(default=False, description="What was approved was done, as it was proposed.")
    helped: bool | None = Field(default=None, description="None: not done, or nobody can tell.")


class Done(Model):
    """A lever that changed something. `end` as in the record of its step; empty: not told."""

    lever: str
    end: str = ""

    @property
    def taken_back(self) -> bool:
        """It did not help, and was undone."""
        return self.end in ("undone", "stopped")


class Refused(Model):
    """A lever that a gate, the Guard, the planner or people refused, once per incident."""

    lever: str
    gate: str
    why: str
    later: bool | None = Field(description="True: allowed at a later look. None: not told.")


class Missing(Model):
    """What Interlock did not do and people did: the class observes, the gates refused it, or no runbook has it."""

    lever: str = Field(description="What people did; PEOPLE when it is no lever, empty when nobody has told.")
    why: Literal["observe", "refused", "no_step", "other_class"]
    gates: tuple[str, ...] = ()
    taken_for: str = Field(default="", description="other_class: what Interlock took it for.")


class Row(Model):
    """One incident. `label` is what it is counted under: people's word where there is one, else Interlock's."""

    name: str
    source: Literal["case", "file", "replay"]
    at: Time | None = Field(default=None, description="When it began, or was opened.")
    found_class: str | None = Field(description="Interlock's classification; None: it did not come to one.")
    truth: str | None = Field(description="People's label.")
    second: str | None = Field(default=None, description="The label of a second person.")
    group: str = Field(description="Of the label.")
    automatic: bool | None = Field(description="Found by a detector, not by people.")
    detected_after_s: Seconds | None = Field(description="Fault began → first detection.")
    mitigated_after_s: Seconds | None = Field(description="Fault began → proven better, by Interlock.")
    people_ttm_s: Seconds | None = Field(description="Fault began → over by people's hands, or its alerts resolved.")
    done: tuple[Done, ...] = ()
    people_levers: tuple[str, ...] = Field(default=(), description="What people did that ended it, where told.")
    asked: tuple[Asked, ...] = ()
    missing: tuple[Missing, ...] = ()
    refused: tuple[Refused, ...] = ()
    outcome: str | None
    by: By | None = Field(description="Who ended it. interlock: a replay, which does not tell whether it asked.")
    mode: Mode | None
    people_s: Seconds | None = Field(
        description="Clock time in which only people could bring it on: deciding, holding it, or having been told; or, "
        "where a file says so, the time that they worked."
    )
    hotfix: bool | None
    false_alarm: bool | None
    harm_requests: float | None = Field(default=None, description="A replay: failed requests beyond doing nothing.")
    failed: tuple[str, ...] = Field(default=(), description="A replay: expectations that did not hold.")

    @property
    def label(self) -> str:
        """What it is counted under."""
        return self.truth or self.found_class or "unknown"
