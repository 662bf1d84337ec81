"""`interlock incident check`: what can be known to be wrong with an incident file before it is played.

The models know what one file must be (runbooks/incident.py). Here is what only taxonomy, runbooks and policy can tell, and
what is allowed and hardly meant.
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterator, Sequence

from runbooks.change import ONE_WAY
from runbooks.detection import Detection, Target, TargetKind
from runbooks.incident import Alert, Incident
from runbooks.incident_finding import Finding, error, warning
from runbooks.incident_loads import loads
from runbooks.incident_sick import sick
from runbooks.library import Library
from runbooks.plan import Classification
from runbooks.planning import near
from runbooks.policy import Policy
from runbooks.taxonomy import classify

SETTINGS = {"weight": 3, "endpoint": 3, "connections": 2, "admit": 3, "cordon": 2, "replicas": 2, "image": 2, "env": 3}
SETTINGS |= {"template": 2, "paused": 2, "autoscale": 2}
"""Families of settings that `by_hand` may set (runbooks/change.py), and how many parts their keys have."""


def check_incident(incident: Incident, library: Library, policy: Policy) -> list[Finding]:
    """Everything that is wrong or odd with it, errors first, each by its place in the file."""
    found = [
        *_classes(incident, library),
        *_alerts(incident, library),
        *_expected(incident, library, policy),
        *_people(incident, library, policy),
        *_times(incident),
        *_site(incident),
        *_by_hand(incident),
        *loads(incident.fleet),
        *sick(incident),
        *_told(incident),
    ]
    return sorted(dict.fromkeys(found), key=lambda f: f.severity)


def _classes(incident: Incident, library: Library) -> Iterator[Finding]:
    groups = {c.id: c.group for c in library.taxonomy.classes}
    truth = incident.truth
    named = [(("truth", "failure_class"), truth.failure_class), (("truth", "second_label"), truth.second_label)]
    expected = [(("expect", "classes", i), name) for i, name in enumerate(incident.expect.classes)]
    alone = [(("site", "unattended", i), name) for i, name in enumerate(incident.site.unattended)]
    for field, name in [*named, *expected, *alone]:
        if name is not None and name not in groups:
            yield error(f"there is no failure class {name!r}{near(name, list(groups))}", *field)
    group = groups.get(truth.failure_class)
    if group is not None and group != truth.group:
        yield error(f"{truth.failure_class} is in the group {group}, not {truth.group}", "truth", "group")
    if truth.failure_class in groups and not {truth.failure_class, truth.second_label} & {*incident.expect.classes}:
        yield warning(
            f"{truth.failure_class}, the true class, is not in it; say in `because` why the engine cannot or need not see it",
            "expect",
            "classes",
        )


def _alerts(incident: Incident, library: Library) -> Iterator[Finding]:
    vocabulary = library.taxonomy.evidence
    known = sorted({alert for rule in library.taxonomy.rules for alert in rule.alerts})
    read = sorted({name for one in vocabulary for name in (one.name, *one.aliases)})
    lost = {
        target for target, alerts in _by_target(incident).items() if _class_of(incident, alerts, library).rule == "none"
    }
    for number, alert in enumerate(incident.timeline.alerts):
        here = ("timeline", "alerts", number)
        if alert.alert not in known and alert.target in lost:
            told = f"no rule of the taxonomy knows {alert.alert!r} or what it measured, so it is `unknown` and people are told"
            yield warning(told + _meant(alert.alert, known), *here, "alert")
        for name in alert.evidence:
            if read and name not in read:
                told = f"the taxonomy's evidence has no such name, so no rule reads it{_meant(name, read)}"
                yield warning(told, *here, "evidence", name)
        if not alert.automatic and not alert.reported_by:
            yield warning("a person reported it: say who in `reported_by`", *here, "automatic")


def _meant(name: str, known: Sequence[str]) -> str:
    """`; did you mean …?`, or nothing: all of them would be a page."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def explained(incident: Incident, library: Library) -> Iterator[str]:
    """What the rules make of the alerts of each target by themselves, and what the runbook then asks for."""
    for target_id, alerts in _by_target(incident).items():
        found = _class_of(incident, alerts, library)
        book = library.pick(found.failure_class, Target.of(target_id).kind)
        steps = ", ".join(step.lever for step in book[1].steps) if book is not None else "page"
        why = (
            f"by rule {found.rule}"
            if found.rule not in ("none", "tie", "low-confidence")
            else "; ".join(found.evidence)
        )
        yield f"{target_id}: {found.failure_class} ({why}), which asks for {steps}"


def _class_of(incident: Incident, alerts: Sequence[Alert], library: Library) -> Classification:
    return classify([_detection(incident, a) for a in alerts], library.taxonomy)


def _by_target(incident: Incident) -> dict[str, list[Alert]]:
    by: dict[str, list[Alert]] = {}
    for alert in incident.timeline.alerts:
        by.setdefault(alert.target, []).append(alert)
    return by


def _cases(incident: Incident, library: Library, policy: Policy) -> Iterator[tuple[str, TargetKind]]:
    """Class and kind of target of each case that may be: as the file expects, and as the rules read its alerts."""
    by = _by_target(incident)
    for target_id, alerts in by.items():
        kind = Target.of(target_id).kind
        yield _class_of(incident, alerts, library).failure_class, kind
        yield from ((name, kind) for name in incident.expect.classes)
    if len(by) >= policy.domain.correlate_targets:  # many at once are one fault of the domain (G13)
        yield from ((name, TargetKind.CLUSTER) for name in incident.expect.classes)


def _detection(incident: Incident, alert: Alert) -> Detection:
    at = incident.moment(alert.at)
    return Detection(
        alert=alert.alert,
        target=Target.of(alert.target),
        labels=alert.labels,
        evidence=alert.evidence,
        started_at=at,
        observed_at=at,
    )


def _expected(incident: Incident, library: Library, policy: Policy) -> Iterator[Finding]:
    """Whether a run could show it at all."""
    expect, cases = incident.expect, dict.fromkeys(_cases(incident, library, policy))
    books = [b for name, kind in cases if (b := library.pick(name, kind)) is not None]
    levers = {step.lever for _, book in books for step in book.steps}
    where = "the runbooks of " + (", ".join(sorted({f"{name} ({kind})" for name, kind in cases})) or "no case at all")
    some = f"; they have {', '.join(sorted(levers - {'page'})) or 'no lever but page'}"
    for field in ("required", "allowed"):
        for i, lever in enumerate(getattr(expect, field)):
            if lever not in levers:
                say = error if field == "required" else warning
                yield say(f"{where} have no {lever}, so it is never done{some}", "expect", field, i)
    for i, refusal in enumerate(expect.refused):
        if refusal.lever not in levers:
            yield error(
                f"{where} have no {refusal.lever}, so nobody asks for it and no gate refuses it{some}",
                "expect",
                "refused",
                i,
                "lever",
            )
    yield from _ends(incident)


def _ends(incident: Incident) -> Iterator[Finding]:
    """Outcomes, harm and bounds that contradict what may be done."""
    expect = incident.expect
    acts = bool(expect.allowed or expect.required)
    if expect.paged is False and set(expect.outcome) == {"paged"}:
        yield error("the outcome `paged` means that people are told; take one of the two out", "expect", "paged")
    if not acts and set(expect.outcome) <= {"restored", "fixed"}:
        wants = "/".join(expect.outcome)
        yield error(f"{wants} needs a lever, and none is in `allowed` or `required`", "expect", "outcome")
    if not incident.timeline.alerts and (expect.required or expect.refused):
        yield error("without an alert there is no case; add one under `alerts`", "timeline", "alerts")
    if expect.mitigated_within is not None and not acts and "self_resolved" not in expect.outcome:
        yield warning("nothing may be done, so nothing is mitigated", "expect", "mitigated_within")


def _people(incident: Incident, library: Library, policy: Policy) -> Iterator[Finding]:
    answers, said = incident.timeline.answers, incident.timeline.people
    if len(set(answers.people)) != len(answers.people):
        yield error("a name is given twice, and nobody counts twice", "timeline", "answers", "people")
    for name in incident.expect.classes:
        rule = policy.for_class(name)
        if rule.mode == "ask" and answers.decision == "approve" and len(answers.people) < rule.quorum and not said:
            text = f"{name} asks {rule.quorum} people, and here are {len(answers.people)}: nothing is ever approved"
            yield warning(text, "timeline", "answers", "people")
    for i, one in enumerate(said):
        wants_cluster = one.says in ("halt", "resume", "reset_breaker")
        if one.about and wants_cluster and Target.of(one.about).kind is not TargetKind.CLUSTER:
            yield error(f"{one.says} is about a cluster; write its name", "timeline", "people", i, "about")
        if not one.about and wants_cluster and len(incident.fleet.clusters) > 1:
            yield warning(f"no cluster is named, so {one.says} is about all", "timeline", "people", i, "about")


def _times(incident: Incident) -> Iterator[Finding]:
    """A clock shows the next moment after `starts`: what was meant to lie before it lands on the next day."""
    for i, alert in enumerate(incident.timeline.alerts):
        for field, at in (("began", alert.began), ("measured", alert.measured)):
            if at is not None and incident.seconds(at) > incident.seconds(alert.at):
                yield error(
                    f"{at} is after the alert itself; a clock time is the next one after `starts`, so write an earlier day "
                    f"in full, as 2024-04-10T22:33:00Z",
                    *("timeline", "alerts", i, field),
                )
        if alert.resolves not in ("clear", "never") and incident.seconds(alert.resolves) <= incident.seconds(alert.at):
            yield error("it is taken back before it comes", "timeline", "alerts", i, "resolves")
    order = [(n, at) for n in ("detected", "mitigated", "ended") if (at := getattr(incident.truth, n)) is not None]
    for (first, a), (then, b) in itertools.pairwise(order):
        if incident.seconds(a) > incident.seconds(b):
            text = (
                f"{first} {a} is after {then} {b}; a clock time is the next one after `starts`, so write a day in full"
            )
            yield error(text, "truth", first)


def _site(incident: Incident) -> Iterator[Finding]:
    clusters = [c.name for c in incident.fleet.clusters]
    for i, freeze in enumerate(incident.site.freezes):
        for j, domain in enumerate(freeze.domains):
            if domain not in clusters:
                yield error(
                    f"there is no cluster {domain!r}{near(domain, clusters)}", *("site", "freezes", i, "domains", j)
                )
    declared = sorted({p.residency for p in incident.fleet.pools if p.residency})
    for name, others in incident.site.residency.items():
        for one in (name, *others):
            if one not in declared:
                yield warning(
                    f"no pool has the residency {one!r}{near(one, declared) if declared else ''}",
                    "site",
                    "residency",
                    name,
                )
    for i, cluster in enumerate(incident.fleet.clusters):
        for field in ("traffic_runs_on", "cluster_runs_on"):
            for j, target in enumerate(getattr(cluster, field)):
                try:
                    Target.of(target)
                except ValueError:
                    text = f"{target!r} is no target id; write a cluster or CLUSTER/node/NAME"
                    yield error(text, "fleet", "clusters", i, field, j)


def _by_hand(incident: Incident) -> Iterator[Finding]:
    """Settings that nobody could set."""
    known = {p.name for p in incident.fleet.pools} | {r.name for r in incident.fleet.routes}
    known |= {f"{c.name}-n{n}" for c in incident.fleet.clusters for n in range(1, c.nodes + 1)}
    for i, fault in enumerate(incident.timeline.faults):
        if fault.fault != "by_hand":
            continue
        for key in fault.sets:
            family, *rest = key.split("/")
            here = ("timeline", "faults", i, "sets", key)
            if family in ONE_WAY:
                yield error(f"{family} is no setting: use the faults crash, node_down or gpu", *here)
            elif family not in SETTINGS:
                yield error(f"there is no setting {family!r}{near(family, sorted(SETTINGS))}", *here)
            elif len(rest) + 1 != SETTINGS[family]:
                yield error(f"a key of {family} has {SETTINGS[family]} parts, as in {EXAMPLES[family]}", *here)
            elif rest[0] not in known:
                yield error(f"the fleet has no {rest[0]!r}{near(rest[0], sorted(known))}", *here)


EXAMPLES = {
    "weight": "weight/chat/chat-east: 0",
    "endpoint": "endpoint/chat-east/chat-east-0:8000: out",
    "connections": "connections/chat-east: 10",
    "admit": "admit/chat/batch: 50",
    "cordon": "cordon/east-n1: on",
    "replicas": "replicas/chat-east: 4",
    "image": "image/chat-east: v2",
    "env": "env/chat-east/FLAG: on",
    "template": "template/chat-east: 5f6d",
    "paused": "paused/chat-east: on",
    "autoscale": "autoscale/chat-east: off",
}


def _told(incident: Incident) -> Iterator[Finding]:
    """What a reader of the file must be able to tell apart: what was published, and what is ours."""
    if incident.kind == "past" and not incident.inferred.strip():
        yield warning(
            "nobody publishes the size of a fleet: say here which figures are yours (replicas, rates, loads, which alert)",
            "inferred",
        )
