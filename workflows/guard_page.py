"""What a Guard's page in the Temporal UI shows: may levers move here, who holds the domain, what stands, who was refused."""

from __future__ import annotations

from collections.abc import Sequence

from runbooks.facts import GuardView
from runbooks.people import Ordered
from workflows.details import esc

SHOWN = 20


def guard_page(view: GuardView, orders: Sequence[Ordered]) -> str:
    """Markdown; untrusted text is escaped."""
    lines = [f"## Domain {esc(view.domain)}: {_state(view)}", ""]
    refused = next((o for o in reversed(orders) if not o.accepted), None)
    if refused is not None:
        lines += [
            f"> **{refused.action} not counted** ({esc(refused.who)}, {refused.at:%H:%M:%S} UTC): {esc(refused.why)}",
            "",
        ]
    for what in (view.halted, view.breaker, view.dirty, view.correlated):
        if what:
            lines += [f"- {esc(what)}"]
    if view.halted:
        lines += [
            "- undo and restore go on; `interlock resume DOMAIN --reason …` lets levers move again, and all is planned anew"
        ]
    if view.breaker:
        lines += ["- undo and restore go on; only a person resets it: `interlock breaker reset DOMAIN --reason …`"]
    lines += [f"- {view.acts_last_hour} act(s) in the last hour; {view.queue} case(s) wait for their turn", ""]
    lines += ["**What stands**", ""]
    lines += [f"- {esc(s.lever)} on {esc(s.target_id)} since {s.since:%H:%M:%S} UTC" for s in view.standing[:SHOWN]]
    if len(view.standing) > SHOWN:
        lines += [f"- and {len(view.standing) - SHOWN} more"]
    if not view.standing:
        lines += ["- nothing"]
    said = [f"- {o.at:%H:%M:%S} {o.action} by {esc(o.who)}: {esc(o.reason)}" for o in orders if o.accepted]
    return "\n".join([*lines, *(["", "**Orders** (UTC)", "", *said[-5:]] if said else [])])


def _state(view: GuardView) -> str:
    if view.halted:
        return "**HALTED**"
    if view.breaker:
        return "**BREAKER TRIPPED**"
    if view.dirty:
        return "**DIRTY**"
    return f"held by {esc(view.holder)}" if view.holder else "free"
