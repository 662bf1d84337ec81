"""What a replay of one incident came to: the row of `--json`, and whether it is what the file expects. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from runbooks.incident import Incident, Refusal

NOISE_REQUESTS = 25.0
NOISE_SHARE = 0.005
"""More failed requests than doing nothing cost are harm beyond these: so many, or this share of all that failed there. Where
an endpoint is taken out, a few requests that it would have answered go with it."""
NOISE_BELOW_S = 60.0
"""Seconds below the minimum beyond doing nothing that are no harm: a replica that is replaced takes about that long."""


class Refused(NamedTuple):
    """A lever that was not done, and why. `target`: of its case."""

    lever: str
    gate: str
    why: str
    target: str


class Harm(BaseModel):
    """What it cost users beyond doing nothing; fewer failed requests are a negative number."""

    model_config = ConfigDict(frozen=True)

    failed_requests: float | None
    below_minimum_s: float | None
    violations: tuple[str, ...] = ()


class Row(BaseModel):
    """One entry of `--json`."""

    model_config = ConfigDict(frozen=True, populate_by_name=True)

    incident: str
    truth_class: str
    found_class: str | None = Field(alias="class")
    levers: tuple[str, ...]
    refused: tuple[dict[str, str], ...]
    outcome: str | None
    ttm_s: float | None
    human_ttm_s: float | None
    harm: Harm
    expectations_failed: tuple[str, ...]
    real_s: float
    mode: str | None = None
    detail: dict[str, Any] = Field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """With the key `class`."""
        return self.model_dump(mode="json", by_alias=True)


class Run(NamedTuple):
    """What a run did, as the expectations ask for it. `done`: lever and target id of each act, undo and restore left out."""

    failure_class: str | None
    done: tuple[tuple[str, str], ...]
    refused: tuple[Refused, ...]
    outcome: str | None
    paged: bool
    mitigated_s: float | None
    harm: Harm
    nothing_failed: float
    cases_that_acted: int


def failed_expectations(incident: Incident, run: Run) -> Iterator[str]:
    """One sentence for each expectation that does not hold."""
    expect = incident.expect
    # A synthetic one's class is a label for accuracy and kappa: what signals a fault makes is not its author's to promise.
    if run.failure_class not in expect.classes and incident.kind != "synthetic":
        yield f"class: {run.failure_class or 'none'}, expected {' or '.join(expect.classes)}"
    levers = list(dict.fromkeys(lever for lever, _ in run.done))
    own = {r.lever for r in expect.refused}
    for lever in levers:
        if lever not in (*expect.allowed, *expect.required) and lever not in own:
            yield f"levers: {lever} was done and is not allowed"
    for required in expect.required:
        if required not in levers:
            yield f"levers: {required} was not done"
    for refusal in expect.refused:
        yield from _refusal(refusal, run)
    if run.outcome not in expect.outcome:
        yield f"outcome: {run.outcome or 'no case'}, expected {' or '.join(expect.outcome)}"
    if expect.paged is not None and expect.paged is not run.paged:
        yield "paged: people were told" if run.paged else "paged: nobody was told"
    within, mitigated_s = expect.mitigated_within, run.mitigated_s
    if within is not None and (mitigated_s is None or mitigated_s > within):
        took = "never" if mitigated_s is None else f"after {mitigated_s:.0f} s"
        yield f"mitigated_within: mitigated {took}, expected within {within:.0f} s"
    if not expect.harm:
        yield from harms(run.harm, run.nothing_failed)
    most = expect.most_cases_that_act
    if most is not None and run.cases_that_acted > most:
        yield f"most_cases_that_act: {run.cases_that_acted} cases acted, expected {most} at most"


def _refusal(wanted: Refusal, run: Run) -> Iterator[str]:
    at = f" on {wanted.target}" if wanted.target else ""
    found = [
        r
        for r in run.refused
        if (r.lever, r.gate) == (wanted.lever, wanted.gate)
        and wanted.saying in r.why
        and wanted.target in ("", r.target)
    ]
    if not found:
        saying = f" saying {wanted.saying!r}" if wanted.saying else ""
        yield f"refused: {wanted.lever} was not refused by {wanted.gate}{saying}{at}"
    if not wanted.ever and any(lever == wanted.lever and wanted.target in ("", target) for lever, target in run.done):
        yield f"refused: {wanted.lever} was done{at}"


def harms(harm: Harm, nothing_failed: float) -> Iterator[str]:
    """Harm beyond noise. `nothing_failed`: requests that fail when nothing is done."""
    failed, below = harm.failed_requests, harm.below_minimum_s
    if failed is not None and failed > max(NOISE_REQUESTS, NOISE_SHARE * nothing_failed):
        yield f"harm: {failed:.0f} more requests failed than doing nothing would have cost"
    if below is not None and below > NOISE_BELOW_S:
        yield f"harm: pools were below their minimum for {below:.0f} s more than doing nothing would have cost"
    for violation in harm.violations:
        yield f"harm: {violation}"
