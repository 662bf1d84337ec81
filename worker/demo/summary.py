"""What a run says at its end: one JSON object, the same for people, tests and CI."""

from __future__ import annotations

from pydantic import Field

from runbooks.base import Model


class CaseSummary(Model):
    """One fault and what became of it. Seconds and milliseconds are None where the moment was never reached."""

    class_: str = Field(serialization_alias="class", description="As Interlock classified it; the fault is `fault`.")
    fault: str
    lever: str
    outcome: str = Field(description="restored, or what else the case closed as; `not acted` in observe.")
    fault_to_detection_s: float | None = Field(description="Fault made → intake took the detection in.")
    alert_to_first_act_ms: float | None = Field(description="Intake → first change at Envoy, time for people included.")
    alert_to_mitigated_s: float | None
    waited_for_people_s: float = 0.0
    failed_requests_before: int = Field(
        description="Left before the mitigation, or before the last soak if there is none."
    )
    failed_requests_after: int = Field(description="Left in the soak after it, while the fault was still there.")
    restored: bool


class Summary(Model):
    """The whole run. `ok`: every case did what this policy promises."""

    ok: bool
    policy: str
    engines: str
    engines_note: str
    requests: int
    failed_requests: int
    cases: tuple[CaseSummary, ...]
    picture: str
    state: str
    ui: str

    def line(self) -> str:
        """The last line of `--json`."""
        return self.model_dump_json(by_alias=True)
