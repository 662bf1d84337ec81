"""What triage found when it looked for itself: readings of a target by name, each Known or Unknown. Nothing is defaulted."""

from __future__ import annotations

from pydantic import Field

from runbooks.base import Model, Name, Seconds, Time
from runbooks.detection import Target
from runbooks.facts import Known, Unknown
from runbooks.taxonomy_evidence import Measured

TOLD_AT_MOST = 12


class LookRequest(Model):
    """Look at this target. `now` is workflow time. Not `whole`: at its cluster alone, and only for a moment."""

    target: Target
    now: Time
    whole: bool = True


class Looked(Model):
    """One look. The names of `readings` are those of the evidence in the catalogue; what does not concern the target has none."""

    target: Target
    began: Time
    took_s: Seconds
    readings: dict[Name, Known[Measured] | Unknown] = Field(default_factory=dict)

    @property
    def evidence(self) -> dict[str, Measured]:
        """What could be read."""
        return {name: one.value for name, one in self.readings.items() if isinstance(one, Known)}

    @property
    def unread(self) -> dict[str, str]:
        """What could not, and why."""
        return {name: one.why for name, one in self.readings.items() if isinstance(one, Unknown)}

    def told(self) -> str:
        """One line for the timeline: what is not nought first, since that is what an SRE looks for."""
        found = sorted(self.evidence.items(), key=lambda item: item[1] in (0.0, False))
        words = [f"{name} {_short(value)}" for name, value in found[:TOLD_AT_MOST]]
        more = len(found) - TOLD_AT_MOST
        words += [f"{more} more"] if more > 0 else []
        unread = f"; not read: {', '.join(sorted(self.unread))}" if self.unread else ""
        return f"in {self.took_s:.1f} s: {', '.join(words) or 'nothing'}{unread}"


def _short(value: Measured) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
