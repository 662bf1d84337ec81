"""What `policy show` prints: first what would happen, then who is asked and what could stop it."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from runbooks.policy_probe import Stop
from runbooks.policy_show import DomainShown, PeopleShown, Shown, StepShown

MODES = {
    "observe": "OBSERVE: it decides and records, and touches nothing",
    "ask": "ASK: people approve each step that acts",
    "auto": "AUTO: the gates decide, people are asked only where they want it",
}
WIDTH = 118


def as_text(shown: Shown) -> str:
    """For a terminal."""
    where = "an invented fleet; --fleet FILE for your own" if shown.sample_fleet else "your fleet"
    lines = [
        f"{shown.failure_class} on {'an' if shown.kind.value[0] in 'aeiou' else 'a'} {shown.kind.value}: {shown.definition}",
        _mode(shown),
        f"policy {shown.policy}; runbook {shown.runbook}",
        f"for example {shown.target} ({where})",
        "",
    ]
    for n, step in enumerate(shown.steps):
        lines += _step(n + 1, step, shown)
    lines += [f"   left out there: {why}" for why in shown.left_out]
    lines.append("")
    lines += _people(shown)
    if any(s.lever != "page" for s in shown.steps):
        for domain in shown.domains:
            lines += _domain(domain)
        lines += ["", "What could stop it, all else being well", *_stops(shown)]
    if shown.other_kinds:
        also = ", ".join(k.value for k in shown.other_kinds)
        lines += ["", f"The class has runbooks for other targets too: --target {also}"]
    return "\n".join(lines)


def _mode(shown: Shown) -> str:
    acting = [s for s in shown.steps if s.lever != "page"]
    return MODES[shown.mode] if acting else "PAGE ONLY: its runbook has no step that acts"


def _step(n: int, step: StepShown, shown: Shown) -> list[str]:
    if step.lever == "page":
        before = "" if n == 1 else "when the steps before did not do: "
        return textwrap.wrap(f"{n}. page  {before}{step.does}", WIDTH, subsequent_indent="   ")
    what = {"allow": "acts by itself", "ask": "asks people", "hold": "waits", "deny": "REFUSED even when all is well"}
    mode = "would act (observed only)" if shown.mode == "observe" and step.outcome == "allow" else what[step.outcome]
    lines = [f"{n}. {step.lever} ({step.kind.value})  {mode}: {step.does}"]
    lines += _wrapped("increments", _increments(step))
    lines += _wrapped(
        "limits", ", ".join(f"{name} {value:g}" for name, value in step.limits.items()) or "none of its own"
    )
    for why in step.because:
        lines += _wrapped("gates", why)
    if step.now:
        lines += _wrapped("RIGHT NOW", step.now)
    lines += _wrapped("proven by", step.proof)
    if step.worse == step.cannot_tell:
        lines += _wrapped("worse or unclear", step.worse)
    else:
        lines += _wrapped("worse", step.worse) + _wrapped("cannot tell", step.cannot_tell)
    lines += _wrapped("afterwards", step.back)
    return lines


def _increments(step: StepShown) -> str:
    n = len(step.increments)
    if not n:
        return f"none: {step.ends_early or 'nothing to change there'}"
    listed = "; ".join(step.increments[:4]) + (f"; … {n - 4} more" if n > 4 else "")
    return f"{n}, each checked and proven: {listed}" + (f"; then: {step.ends_early}" if step.ends_early else "")


def _wrapped(label: str, text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=f"   {label:<16} ", subsequent_indent=" " * 20)


def _people(shown: Shown) -> list[str]:
    if shown.people is None:
        quiet = "Nobody is asked" if shown.mode != "observe" else "Nobody is asked: nothing is touched"
        return [f"{quiet}. When no step helps or may act, people are paged."]
    return _asked(shown.people)


def _asked(people: PeopleShown) -> list[str]:
    members = ", ".join(people.members) or "nobody by name: only whose verified token says so"
    lines = [f"Who approves: {people.quorum} of {people.group} ({members})"]
    rules = [
        *([f"never {', '.join(people.never)}"] if people.never else []),
        *(["not who reported the fault"] if people.four_eyes else ["also who reported the fault"]),
        "an unverified sender counts" if people.accept_unverified else "verified senders only",
        *(
            ["for what cannot be taken back a named, verified person"]
            if people.named and people.accept_unverified
            else []
        ),
    ]
    return [
        *lines,
        f"   {'; '.join(rules)}",
        f"   asked for {people.ttl_s / 60:g} min. When nobody decides, people are paged and the next step is tried; "
        "rejected: the next step",
        "   on the last approval all gates are asked again, within the approved plan only",
    ]


def _domain(one: DomainShown) -> list[str]:
    lines: list[str] = []
    freeze = one.freeze
    if freeze is not None:
        does = "changes are refused" if freeze.then == "deny" else "changes ask a named, verified person"
        lines.append(
            f"Freeze in {one.domain}: {freeze.name} until {freeze.ends:%Y-%m-%d %H:%M} ({freeze.reason}): {does}; "
            "what takes load from a sick part goes on"
        )
    if one.view is None:
        lines.append(f"Guard of {one.domain}: budgets left are not known, {one.why}")
        return lines
    view = one.view
    state = view.halted or view.breaker or view.dirty or view.correlated
    held = f"held by {view.holder}" if view.holder else "free"
    lines.append(f"Guard of {one.domain}: {state or held}; {len(view.standing)} change(s) stand, {view.queue} wait")
    lines += _wrapped("left this hour", ", ".join(f"{name} {left}" for name, left in one.left.items()))
    if view.shadow:
        lines += _wrapped(
            "observed", ", ".join(f"{lever} {n}" for lever, n in view.shadow.items()) + " in the last hour"
        )
    return lines


def _stops(shown: Shown) -> list[str]:
    """By what a person would see, each with the gates that mind; the same word for a fact that is unknown."""
    every = [s for g in shown.gates for s in g.stops]
    rows = [
        ("unknown: refuses", [s for s in every if s.outcome == "deny" and s.words.endswith("is unknown")]),
        ("unknown: asks", [s for s in every if s.outcome == "ask" and s.words.endswith("is unknown")]),
        ("refuses when", [s for s in every if s.outcome == "deny" and not s.words.endswith("is unknown")]),
        ("asks when", [s for s in every if s.outcome == "ask" and not s.words.endswith("is unknown")]),
        ("waits while", [s for s in every if s.outcome == "hold"]),
    ]
    lines: list[str] = []
    for label, stops in rows:
        lines += _wrapped(label, _by_words(stops)) if stops else []
    return lines


def _by_words(stops: Sequence[Stop]) -> str:
    gates: dict[str, list[str]] = {}
    for stop in stops:
        gates.setdefault(stop.words.removesuffix(" is unknown"), []).append(stop.gate)
    return "; ".join(f"{words} ({' '.join(dict.fromkeys(names))})" for words, names in gates.items())
