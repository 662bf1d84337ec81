"""What the run says at its end, for people and as one JSON object."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pydantic import Field

from tests.kube.demo.view import NodeLine
from tests.kube.demo.writes import ACCOUNT, Audit, meaning, words
from worker.commands.demo import in_words
from worker.demo.summary import Summary

LONGEST = 150
"""Letters of one line of the timeline: the record has all."""
TEDIOUS = ("fault gone?",)


class ClusterSummary(Summary):
    """`ok`: mitigated, restored, minimum healthy never crossed, and nothing written but what the lever writes."""

    node: str
    minimum: dict[str, int] = Field(description="Pool → replicas that must serve at every instant.")
    least: dict[str, int] = Field(description="Pool → fewest that ever served.")
    minimum_violations: int
    events_judged: int = Field(description="Events of the watch at which the minimum was judged.")
    writes: tuple[str, ...] = Field(description="What Interlock's service account changed, by the audit log, in order.")
    only_its_own_writes: bool


def told(
    summary: ClusterSummary,
    record: dict[str, Any],
    broken: float,
    seen: Sequence[tuple[str, Sequence[NodeLine]]],
    audit: Audit,
) -> str:
    """The whole story for people."""
    parts = ["", "WHERE THE REPLICAS WERE"]
    for when, nodes in seen:
        parts.append(f"  {when}")
        parts += [f"    {n.name}  {n.words:<20}  {'  '.join(f'{p} {s}' for p, s in n.pods) or '-'}" for n in nodes]
    parts += ["  Kubernetes puts new replicas on it again; those that run elsewhere stay where they are."]
    parts += ["", f"TIMELINE of {record['case']} (seconds since the node failed)"]
    parts += timeline(record, broken)
    parts += ["", f"WHAT INTERLOCK WROTE to the API server, by its audit log, as {ACCOUNT}"]
    parts += [f"  {w.at.timestamp() - broken:6.1f}  {words(w)} → {w.status}   ({meaning(w)})" for w in audit.acts]
    own = "nothing that is not the lever's own" if summary.only_its_own_writes else "NOT ONLY the lever's own writes"
    parts += [f"  {own}; beside it {audit.fence} move(s) of the fence, {audit.dry_runs} dry run(s)"]
    parts += [f"  REFUSED by its roles: {words(w)}" for w in audit.refused]
    held = "never crossed" if not summary.minimum_violations else f"CROSSED {summary.minimum_violations} times"
    least = ", ".join(f"{p} {n} of at least {summary.minimum[p]}" for p, n in summary.least.items())
    parts += ["", f"MINIMUM HEALTHY {held}, judged at {summary.events_judged} events; fewest that served: {least}"]
    again = f"the case in the Temporal UI again: .venv/bin/temporal server start-dev --db-filename {summary.state}/temporal.db"
    return "\n".join([*parts, in_words(summary), again])


def timeline(record: dict[str, Any], broken: float) -> list[str]:
    """The record's events, one line each, the first letters of it; reasons of gates that allowed are left out."""
    found: list[str] = []
    for event in record["timeline"]:
        if event["what"] in TEDIOUS:
            continue
        at = datetime.fromisoformat(event["at"]).timestamp() - broken
        text = " ".join(str(event["text"]).split())
        if event["what"] == "gates: allow":
            text = text.partition(":")[0]
        line = f"{event['what']}: {text}"
        found.append(f"  {at:6.1f}  {line if len(line) <= LONGEST else line[: LONGEST - 1] + '…'}")
    return found
