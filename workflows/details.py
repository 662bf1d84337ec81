"""The run page in the Temporal UI, as Markdown: what is proposed and why, in ten seconds, at 3 am.

What the UI's renderer does (2.54, looked at): half the window's width; a line break stays one; tables have no padding, so
lists are used; `&lt;` is shown as typed, so untrusted text is escaped by backslashes; images and bare URLs are live.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from functools import lru_cache

from runbooks.change import Change, Receipt
from runbooks.decisions import takes_unverified
from runbooks.detection import Target, workflow_id
from runbooks.facts import Facts, Known, Unknown
from runbooks.people import Pending, Rights
from runbooks.plan import CheckResult, Envelope, GateVerdict, PlannedStep
from runbooks.record import CaseRecord, Event

MARK = {"deny": "**DENY**", "hold": "**HOLD**", "ask": "**ASK**", "allow": "allow"}
"""Words, not colours or pictures; the gravest first."""
NOT_HERE = (
    "Not checked here: whether this lever is the right one, prompts that are in flight already, faults of other domains, "
    "and load that comes after the facts were read."
)
LAST = 12
"""Timeline lines shown; the record has all."""
RENDERED = 200
"""Timeline lines that are rendered at all: the page is made anew with each of them."""
LAST_WAITING = 4
"""Fewer while a person must decide: the question must not be pushed off the screen."""
_MARKED = str.maketrans({c: f"\\{c}" for c in "\\`*_{}[]#|&<>!~$"})


def esc(text: object, most: int = 300) -> str:
    """Untrusted text as plain text: no markup, no link, no image, no line break; `most` characters of it."""
    return _escaped(str(text)[:most])


@lru_cache(maxsize=2048)  # the page is made anew with each line of the timeline, from the same lines as before
def _escaped(text: str) -> str:
    printable = text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)
    return printable.translate(_MARKED).replace("://", "\\://")


def page(record: CaseRecord, state: str, waiting: str = "") -> str:
    """The whole page: the answer to the last sender, what is wrong, what is asked, what has happened."""
    target = record.target.id if record.target else "no target"
    asking = state == "waiting_approval"
    ended = f", {record.outcome.replace('_', ' ')}" if record.outcome else ""
    lines = [f"## {esc(target)}: {esc(state.replace('_', ' '))}{ended}", ""]
    last = record.decisions[-1] if record.decisions else None
    if last is not None and not last.accepted:
        lines += [f"> **Decision not counted** ({esc(last.who)}, {last.at:%H:%M:%S} UTC): {esc(last.why)}", ""]
    lines += [*_why(record), ""]
    if waiting:
        lines += [waiting, ""]
    lines += ["**Timeline** (UTC)", ""]
    told = _told(record.timeline[-RENDERED:])
    shown = told[-(LAST_WAITING if asking else LAST) :]
    lines += [f"- {line}" for line in shown]
    if left := len(told) - len(shown) + len(record.timeline[:-RENDERED]):
        lines += ["", f"{left} earlier, and all reasons: *Queries → `status`*"]
    return "\n".join(lines)


def _told(timeline: Sequence[Event]) -> list[str]:
    """Events as lines. The reasons of gates that allow are left out, and what is said again in a row is said once."""
    lines: list[str] = []
    before = ""
    for e in timeline:
        text = e.text.split(": ", 1)[0] if e.what == "gates: allow" else e.text
        said = f"**{esc(e.what)}** {esc(text, 160)}"
        if said != before:
            lines.append(f"{e.at:%H:%M:%S} {said}")
        before = said
    return lines


def _why(record: CaseRecord) -> list[str]:
    """Class, rule, evidence, and the plan's or the end's own word."""
    lines = []
    found, why = record.classification, esc(record.why)
    if record.outcome:
        moments = {
            "opened": record.opened_at,
            "first act": record.first_act_at,
            "mitigated": record.mitigated_at,
            "restored": record.restored_at,
            "closed": record.closed_at,
        }
        lines += [
            f"**End**: {why}",
            "**Times** (UTC): " + ", ".join(f"{k} {t:%H:%M:%S}" for k, t in moments.items() if t),
        ]
        why = ""
    if found is None:
        return [*lines, f"**Class**: none yet. {why}"]
    named = f"{found.failure_class} by rule {found.rule}"
    # The plan's word begins with class and rule: said once is enough.
    lines.append(f"**Class**: {why}" if record.why.startswith(named) and why else f"**Class**: {esc(named)}. {why}")
    return [*lines, *([f"**Evidence**: {'; '.join(map(esc, found.evidence))}"] if found.evidence else [])]


def request(result: CheckResult, step: PlannedStep, pending: Pending, rights: Rights, approved: tuple[str, ...]) -> str:
    """What people are asked, the exact JSON to send included."""
    step_id, plan = json.dumps(pending.step, ensure_ascii=False), json.dumps(pending.digest)
    unverified = (
        "Or anybody who reaches this UI: policy counts one decision here whose sender is not verified."
        if takes_unverified(rights)
        else "It cannot be taken back: a named person, verified by Temporal's login or with `interlock approve`."
        if rights.irreversible
        else "The sender must be verified: by Temporal's login, or with `interlock approve`."
    )
    lines = [
        f"### Approve `{step.envelope.lever}`?",
        "",
        f"**What**: {esc(step.envelope.direction)}. In all at most {_bounds(step.envelope)} by policy, in increments, each verified.",
        *state_now(result.facts),
        *first_change(result.change),
        f"**Who**: {rights.quorum} of group {esc(rights.group)}. {unverified}"
        + (f" Approved so far: {esc(', '.join(approved))}." if approved else "")
        + _not(rights),
        f"**Until**: {pending.expires_at:%H:%M:%S} UTC. Then people are told, this is not done, and the runbook goes on.",
        "**How**: *More Actions → Send a Signal → `decide`* with this JSON; to say no, write `reject` for `approve`. Then press "
        "R: when it is not here, submit it once more (this UI drops a first one at times). Until it acts, `withdraw` in its "
        "place takes your own approval back; once it acts, the signal *`abort`* takes back what was done.",
        "",
        "```json",
        f'{{"step": {step_id}, "plan": {plan},',
        ' "decision": "approve", "reason": "…"}',  # in two lines: one would run off the frame
        "```",
        "",
        *gates(result),
        "",
        NOT_HERE,
    ]
    return "\n".join(lines)


def _not(rights: Rights) -> str:
    """Who may not approve, and why."""
    told = [f"{esc(p)} (by policy)" for p in rights.never] + [f"{esc(p)} (asked for it)" for p in rights.requesters]
    return f" **Not**: {', '.join(told)}." if told else ""


def asked_page(step: PlannedStep, pending: Pending, rights: Rights, target: Target) -> tuple[str, str]:
    """Title and body of the page that tells people that a step waits for them: plain text, ready to paste."""
    case = workflow_id(target)
    decide = {"step": pending.step, "plan": pending.digest, "decision": "approve", "reason": "…"}
    words = ["interlock", "approve", case, "--step", pending.step, "--digest", pending.digest, "--reason", "…"]
    lines = [
        f"{step.envelope.direction}: at most {_bounds(step.envelope)}.",
        f"Wanted: {rights.quorum} of group {rights.group}, until {pending.expires_at:%H:%M:%S} UTC.",
        *([f"Not: {', '.join((*rights.never, *rights.requesters))}."] if rights.never or rights.requesters else []),
        f"Look: interlock cases show {shlex.quote(case)}",
        f"Command line: {shlex.join(words)}",
        f"Temporal UI: workflow {case} → More Actions → Send a Signal → decide, with",
        json.dumps(decide, ensure_ascii=False),
        "Without a decision nothing is changed, and people are told again.",
    ]
    return f"Approval asked: {step.step.lever} on {target.id}", "\n".join(lines)


def stands(direction: str, receipts: Sequence[Receipt], why: str) -> str:
    """What a mitigated case shows: what it changed, why it still stands, and how to take it back by hand."""
    newest = receipts[-1].id if receipts else ""
    by_hand = f" By hand: `interlock undo {newest}`" + (", then the ones before it" if len(receipts) > 1 else "") + "."
    return f"{esc(direction)} stands. {esc(why)}" + (by_hand if newest else "")


def _bounds(envelope: Envelope) -> str:
    """The envelope's outer bounds in words."""
    parts = []
    if envelope.largest_share:
        parts.append(f"{envelope.largest_share:.0%} of the route's traffic")
    if envelope.largest_endpoints:
        parts.append(f"{envelope.largest_endpoints} endpoint(s)")
    if envelope.largest_nodes:
        parts.append(f"{envelope.largest_nodes} node(s)")
    if envelope.largest_gpus:
        parts.append(f"{envelope.largest_gpus} GPU(s)")
    return " and ".join(parts) or "no traffic and no endpoint"


def state_now(facts: Facts) -> list[str]:
    """What users have at this moment: how many endpoints of each pool give tokens, and what the step's indicators say."""
    if isinstance(facts.pools, Unknown):
        return [f"**Now**: how the pools do is unknown ({esc(facts.pools.why)})."]
    users = facts.verifier.value if isinstance(facts.verifier, Known) else {}
    felt = [f"{esc(name)} {value:.3g}" for name, value in users.items() if value is not None]
    told = [
        f"{esc(p.pool)} {'?' if p.answering is None else p.answering} of {p.endpoints} answer"
        for p in facts.pools.value.values()
    ]
    return [f"**Now**: {', '.join(told)}." + (f" Users: {', '.join(felt)}." if felt else "")] if told or felt else []


def first_change(change: Change | None) -> list[str]:
    """The first increment, setting by setting."""
    if change is None:
        return []
    moved = [
        f"`{k}` {esc(change.before[k])} → **{esc(v)}**" for k, v in change.after.items() if change.before.get(k) != v
    ]
    return [f"**First**: {', '.join(moved)}" + (f" ({esc(change.note)})" if change.note else "")]


def gates(result: CheckResult) -> list[str]:
    """Every gate's verdict with its facts, the gravest first."""
    order = list(MARK)
    ranked = sorted(result.verdict.gates, key=lambda g: order.index(g.outcome))  # stable: else as they were judged
    return ["**Gates**. " + facts_line(result.facts), "", *map(_gate, ranked)]


def _gate(g: GateVerdict) -> str:
    return f"- {g.gate} {MARK[g.outcome]}: {esc(g.reason, 200)}"


def facts_line(facts: Facts) -> str:
    """How old the picture is, and what is not known."""
    named = {
        "fault": facts.fault,
        "before": facts.before,
        "pools": facts.pools,
        "guard": facts.guard,
        "verifier": facts.verifier,
        "cluster": facts.cluster,
        "dependencies": facts.dependencies,
    }
    unknown = [f"{n} ({esc(f.why)})" for n, f in named.items() if isinstance(f, Unknown)]
    ages = [(facts.now - f.observed_at).total_seconds() for f in named.values() if isinstance(f, Known)]
    line = f"Facts are of {facts.now:%H:%M:%S} UTC, the oldest {max(ages, default=0):.1f} s old."
    line += f" **Unknown**: {', '.join(unknown)}." if unknown else " Nothing is unknown."
    return line + " All are read, and all gates asked, once more before it acts."
