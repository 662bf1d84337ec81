"""`interlock policy check`: a policy as a whole, held against the catalogue and the fleet. Errors stop a worker's start.

An error is what cannot be meant: a name that there is none of, a quorum that nobody can reach, a limit that stops every
increment. A warning is what may be meant and is easily missed.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Literal

from runbooks.base import Model
from runbooks.decisions import same_person
from runbooks.fleet import Fleet
from runbooks.levers import LEVERS
from runbooks.library import Library
from runbooks.loader import CatalogError, Document
from runbooks.planning import near
from runbooks.policy import ClassPolicy, Freeze, Policy
from runbooks.policy_limits import limit_findings, unattended_findings
from runbooks.policy_probe import about
from runbooks.safety import GATES


class Finding(Model):
    """One sentence about one field. `of`: which file the field is in."""

    severity: Literal["error", "warning"]
    of: Literal["policy", "fleet"] = "policy"
    field: tuple[str | int, ...]
    text: str

    def line(self, policy: Document | None = None, fleet: Document | None = None) -> str:
        """`error: file:line: field: sentence`; without a document only the field."""
        document = policy if self.of == "policy" else fleet
        where = document.at(self.field) if document is not None else f"{self.of}: {'.'.join(map(str, self.field))}"
        return f"{self.severity}: {where}: {self.text}"


def check_policy(policy: Policy, library: Library, fleet: Fleet | None, now: datetime) -> list[Finding]:
    """Everything that is wrong with it, errors first. `fleet` None: what depends on it is looked up on a sample fleet."""
    found = [
        *_names(policy, library),
        *_groups(policy),
        *_unverified(policy),
        *(Finding.model_validate(f) for f in unattended_findings(policy, library)),
        *(Finding.model_validate(f) for f in limit_findings(policy, library, fleet, now)),
        *_freezes(policy, fleet, now),
        *_unknowns(policy),
        *(_of_fleet(policy, fleet) if fleet is not None else ()),
    ]
    return sorted(dict.fromkeys(found), key=lambda f: f.severity)


def require_sound(policy: Policy, library: Library, fleet: Fleet, now: datetime) -> list[str]:
    """For a worker's start: the warnings, to be logged. CatalogError with every error: a worker with those must not start."""
    found = check_policy(policy, library, fleet, now)
    errors = [f.line().removeprefix("error: ") for f in found if f.severity == "error"]
    if errors:
        raise CatalogError(errors)
    return [f.line().removeprefix("warning: ") for f in found]


def error(text: str, *field: str | int) -> Finding:
    return Finding(severity="error", field=field, text=text)


def warning(text: str, *field: str | int) -> Finding:
    return Finding(severity="warning", field=field, text=text)


def _names(policy: Policy, library: Library) -> Iterator[Finding]:
    classes = [c.id for c in library.taxonomy.classes]
    for name in policy.classes:
        if name not in classes:
            yield error(f"there is no such failure class{near(name, classes)}", "classes", name)
    for name in policy.levers:
        if name not in LEVERS:
            yield error(f"there is no such lever{near(name, LEVERS)}", "levers", name)
        elif name == "page":
            yield warning("page needs no permit, so nothing reads its limits: take it out", "levers", name)


def _rules(policy: Policy) -> Iterator[tuple[tuple[str, ...], ClassPolicy]]:
    """Each rule by which people may be asked, with its place. In observe nobody is."""
    for place, rule in (
        (("default",), policy.default),
        *((("classes", name), rule) for name, rule in policy.classes.items()),
    ):
        if rule.mode != "observe":
            yield place, rule


def _groups(policy: Policy) -> Iterator[Finding]:
    told: set[str] = set()
    heard: set[tuple[str, int]] = set()
    for place, rule in _rules(policy):
        name = rule.approvers
        if name not in policy.groups:
            close = near(name, list(policy.groups)) if policy.groups else ""
            fix = f"add it there ([] when its people come by the groups of their tokens){close}"
            yield error(f"{name} is not named under `groups`: {fix}", *place, "approvers")
            continue
        if not policy.groups[name]:
            if name not in told:
                told.add(name)
                text = f"{name} names nobody: only people whose verified token says {name} can approve; name them here if theirs do not"
                yield warning(text, "groups", name)
            continue
        people = _people(policy.groups[name])
        may = [p for p in people if not any(same_person(p, n) for n in rule.never)]
        if len(may) < rule.quorum:
            without = f" without {', '.join(rule.never)}" if rule.never else ""
            text = f"{rule.quorum} must approve and {name} has {len(may)}{without}: name more people there, or ask for fewer"
            yield error(text, *place, "quorum")
        elif len(may) == rule.quorum and rule.four_eyes and (name, rule.quorum) not in heard:
            heard.add((name, rule.quorum))
            everybody = "the only one" if len(may) == 1 else f"all {len(may)}"
            text = f"{everybody} of {name} must approve, and whoever reported the fault may not: name one more there"
            yield warning(text, *place, "quorum")
    for name, people_of in policy.groups.items():
        if len(_people(people_of)) < len(people_of):
            yield warning("one person stands there twice and has one voice: keep one spelling", "groups", name)


def _people(names: tuple[str, ...]) -> list[str]:
    """Each person once, however often and however spelled."""
    out: list[str] = []
    for name in names:
        if not any(same_person(name, other) for other in out):
            out.append(name)
    return out


def _unverified(policy: Policy) -> Iterator[Finding]:
    for place, rule in _rules(policy):
        if rule.accept_unverified and (rule.quorum > 1 or rule.never):
            because = f"quorum is {rule.quorum}" if rule.quorum > 1 else "`never` names people it could come from"
            yield warning(f"it never counts here, because {because}: take it out", *place, "accept_unverified")
        elif rule.accept_unverified:
            text = "anybody who reaches Temporal can approve this class under any name: take it out where people depend on it"
            yield warning(text, *place, "accept_unverified")


def _freezes(policy: Policy, fleet: Fleet | None, now: datetime) -> Iterator[Finding]:
    domains = fleet.domains() if fleet is not None else ()
    for index, freeze in enumerate(policy.freezes):
        if freeze.ends <= now:
            yield warning(f"{freeze.name} ended at {freeze.ends:%Y-%m-%d %H:%M}: take it out", "freezes", index, "ends")
        for domain in freeze.domains:
            if domains and domain not in domains:
                text = f"{freeze.name} names {domain}, and the fleet has no such cluster{near(domain, domains)}"
                yield error(text, "freezes", index, "domains")
        for other in policy.freezes[:index]:
            if other.name == freeze.name:
                yield warning(f"two freezes are called {freeze.name}: give each its name", "freezes", index, "name")
            if other.then != freeze.then and other.ends > now and _overlap(freeze, other):
                strict = freeze if freeze.then == "deny" else other
                text = (
                    f"{freeze.name} ({freeze.then}) and {other.name} ({other.then}) hold at the same time, and then "
                    f"{strict.name} denies: give both the same `then`, or part their times"
                )
                yield warning(text, "freezes", index, "then")


def _overlap(one: Freeze, other: Freeze) -> bool:
    places = not one.domains or not other.domains or set(one.domains) & set(other.domains)
    return bool(places) and one.starts < other.ends and other.starts < one.ends


def _unknowns(policy: Policy) -> Iterator[Finding]:
    """What each listed gate was built against, in its own words: so much is given away."""
    told = dict(map(about, GATES))
    for index, gate in enumerate(policy.ask_on_unknown):
        text = (
            f"{gate} asks people where it cannot know ({told[gate]}), and people cannot know either: take it out if none of "
            "them looks it up"
        )
        yield warning(text, "ask_on_unknown", index)


def _of_fleet(policy: Policy, fleet: Fleet) -> Iterator[Finding]:
    yield from _controls(fleet)
    labels = {p.residency for p in fleet.pools if p.residency}
    for label, also in policy.placement.residency.items():
        for name in (label, *also):
            if name not in labels:
                known = near(name, sorted(labels)) if labels else "; no pool declares one"
                text = f"no pool of the fleet has residency {name}, so this allows nothing{known}"
                yield warning(text, "placement", "residency", label)
    blind = [index for index, route in enumerate(fleet.routes) if not route.error_budget]
    if blind:
        names = ", ".join(fleet.routes[index].name for index in blind[:5]) + (", …" if len(blind) > 5 else "")
        text = (
            f"{len(blind)} of {len(fleet.routes)} route(s) have no error budget query ({names}), so G15 lets changes through while "
            "users already suffer: give PromQL of the share that is left"
        )
        yield Finding(severity="warning", of="fleet", field=("routes", blind[0], "error_budget"), text=text)


def _controls(fleet: Fleet) -> Iterator[Finding]:
    """A cluster without any is an error: no lever ever moves there, and nobody would see it before the first incident."""
    for cluster in fleet.domains():
        wanted = ["traffic"]
        if any(p.cluster == cluster and p.workload is not None for p in fleet.pools):
            wanted.append("cluster")
        if any(n.cluster == cluster for n in fleet.nodes):
            wanted.append("node")
        missing = [kind for kind in wanted if fleet.control(cluster, kind) is None]
        if not missing:
            continue
        add = ", ".join(f"{{cluster: {cluster}, kind: {kind}, runs_on: []}}" for kind in missing)
        whole = missing == wanted
        what = "every lever" if whole else f"every lever through the {' or '.join(missing)} control"
        yield Finding(
            severity="error" if whole else "warning",
            of="fleet",
            field=("controls",),
            text=f"G11 refuses {what} in {cluster}, because nothing says what it runs on; add `controls: [{add}]`, "
            "with the ids in runs_on of what it needs to work",
        )
