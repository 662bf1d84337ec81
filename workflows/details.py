"""The run page in the Temporal UI, as Markdown: what is proposed and why, in ten seconds, at 3 am."""

from __future__ import annotations

import json

from runbooks.change import Change
from runbooks.facts import Facts, Known, Unknown
from runbooks.people import Pending, Rights
from runbooks.plan import CheckResult, PlannedStep
from runbooks.record import CaseRecord

MARK = {"allow": "✅ allow", "ask": "🙋 ask", "hold": "⏳ hold", "deny": "⛔ deny"}
NOT_HERE = (
    "Not checked here: residency and tenancy of prompts already in flight, correlated faults of other domains, "
    "the error budget, and whether the actuator depends on the sick plane."
)
LAST = 12
"""Timeline lines shown; the record has all."""


def esc(text: object) -> str:
    """Untrusted text as plain text: no markup, no link, no image, no table cell."""
    out = str(text)[:300]
    for bad, good in (
        ("&", "&amp;"),
        ("<", "&lt;"),
        (">", "&gt;"),
        ("|", "&#124;"),
        ("`", "&#96;"),
        ("[", "&#91;"),
        ("]", "&#93;"),
        ("*", "&#42;"),
        ("_", "&#95;"),
        ("#", "&#35;"),
        ("\n", " "),
        ("\r", " "),
    ):
        out = out.replace(bad, good)
    return out


def page(record: CaseRecord, state: str, waiting: str = "") -> str:
    """The whole page."""
    target = record.target.id if record.target else "no target"
    found = record.classification
    cls = (
        f"**{esc(found.failure_class)}** ({esc(found.rule)}, confidence {found.confidence:.0%})"
        if found
        else "not classified"
    )
    lines = [f"## {esc(target)}: {esc(state.replace('_', ' '))}", "", f"Class {cls}. {esc(record.why)}", ""]
    if found and found.evidence:
        lines += ["Evidence: " + "; ".join(esc(e) for e in found.evidence), ""]
    if waiting:
        lines += [waiting, ""]
    refused = [d for d in record.decisions if not d.accepted]
    if refused:
        last = refused[-1]
        lines += [
            f"> ⛔ **Decision not counted** ({esc(last.who)}, {last.at:%H:%M:%S}): {esc(last.why)}",
            "",
        ]
    lines += ["### Timeline", "", "| when | what | |", "|---|---|---|"]
    lines += [f"| {e.at:%H:%M:%S} | {esc(e.what)} | {esc(e.text)} |" for e in record.timeline[-LAST:]]
    return "\n".join(lines)


def request(result: CheckResult, step: PlannedStep, pending: Pending, rights: Rights, approved: tuple[str, ...]) -> str:
    """What people are asked, the exact JSON to send included."""
    env = step.envelope
    answer = {"step": pending.step, "plan": pending.digest, "decision": "approve", "reason": "…"}
    unverified = (
        "Here one decision counts even when Temporal does not verify its sender (policy)."
        if rights.accept_unverified and rights.quorum == 1
        else "The sender must be verified: by Temporal's login, or with `interlock approve`."
    )
    lines = [
        f"### 🙋 Approve `{esc(env.lever).replace('&#95;', '_')}`?",
        "",
        f"**What will change**: {esc(env.direction)}: at most {env.largest_share:.0%} of traffic and "
        f"{env.largest_endpoints} endpoint(s), in increments, each verified.",
        "",
        f"**Who**: {rights.quorum} of group {esc(rights.group)}. {unverified} "
        f"**Until** {pending.expires_at:%H:%M:%S} UTC."
        + (f" Approved so far: {esc(', '.join(approved))}." if approved else ""),
        "",
        *first_change(result.change),
        *gates(result),
        "",
        "**To decide**: *More Actions → Send a Signal → `decide`*, with this JSON (`reject` to refuse):",
        "",
        "```json",
        json.dumps(answer, ensure_ascii=False),
        "```",
        "",
        esc(NOT_HERE),
    ]
    return "\n".join(lines)


def first_change(change: Change | None) -> list[str]:
    """The first increment, setting by setting."""
    if change is None:
        return []
    rows = [
        f"| `{k}` | {esc(change.before[k])} | {esc(v)} |" for k, v in change.after.items() if change.before.get(k) != v
    ]
    return ["First increment:", "", "| setting | now | then |", "|---|---|---|", *rows, ""]


def gates(result: CheckResult) -> list[str]:
    """Every gate's verdict with its facts."""
    rows = [f"| {g.gate} | {MARK[g.outcome]} | {esc(g.reason)} |" for g in result.verdict.gates]
    return ["| gate | verdict | because |", "|---|---|---|", *rows, "", facts_line(result.facts)]


def facts_line(facts: Facts) -> str:
    """How old the picture is, and what is not known."""
    named = {
        "fault": facts.fault,
        "before": facts.before,
        "pools": facts.pools,
        "guard": facts.guard,
        "verifier": facts.verifier,
    }
    unknown = [f"{n} ({esc(f.why)})" for n, f in named.items() if isinstance(f, Unknown)]
    ages = [(facts.now - f.observed_at).total_seconds() for f in named.values() if isinstance(f, Known)]
    line = f"Facts are of {facts.now:%H:%M:%S} UTC, the oldest {max(ages, default=0):.1f} s old."
    return line + (f" Unknown: {', '.join(unknown)}." if unknown else " Nothing is unknown.")
