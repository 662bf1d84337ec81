"""Which part of the fleet each fault makes sick: to warn of an alert about something that is well."""

from __future__ import annotations

from collections.abc import Iterator

from runbooks.detection import Target
from runbooks.incident import Alert, Incident
from runbooks.incident_faults import Fault
from runbooks.incident_finding import Finding, warning


def sick(incident: Incident) -> Iterator[Finding]:
    """A warning for each alert whose target no fault touches at that time."""
    for number, alert in enumerate(incident.timeline.alerts):
        if not any(_meant(incident, alert, fault) for fault in incident.timeline.faults):
            yield warning(
                f"no fault makes {alert.target} sick by then; where the alert was false in life as well, all is well",
                "timeline",
                "alerts",
                number,
                "target",
            )


def _meant(incident: Incident, alert: Alert, fault: Fault) -> bool:
    begun = incident.seconds(fault.at) <= incident.seconds(alert.at)
    lasts = fault.ends is None or incident.seconds(fault.ends) + LATE_S > incident.seconds(alert.at)
    target = Target.of(alert.target)
    return begun and lasts and any(target.related(one) for one in touched(incident, fault))


LATE_S = 600.0
"""An alert may come so long after its fault has gone: detectors look at windows."""


def touched(incident: Incident, fault: Fault) -> list[Target]:
    """The targets that a fault is about: pools, nodes or whole clusters. Its load and errors may reach others of its route."""
    fleet, data = incident.fleet, fault.model_dump()
    pools = {p.name: Target(cluster=p.cluster, service=p.name) for p in fleet.pools}
    routes = {r.name: [pools[p] for p in r.pools] for r in fleet.routes}
    named = [data.get("pool", ""), *data.get("pools", ()), data.get("of", "")]
    found = [pools[n] for n in named if n in pools]
    for route in routes:
        if route in (data.get("route"), data.get("of")):
            found += routes[route]
    for cluster in fleet.clusters:
        if cluster.name in (data.get("cluster"), data.get("of")):
            found.append(Target(cluster=cluster.name))
    if node := data.get("node"):
        found.append(Target(cluster=node.rpartition("-n")[0], node=node))
    if fault.fault == "dependency":
        found += [pools[p.name] for p in fleet.pools if fault.name in p.depends_on]
    if fault.fault == "by_hand":
        for key in fault.sets:
            parts = key.split("/")[1:]
            found += [pools[p] for p in parts if p in pools]
            found += [t for p in parts for t in routes.get(p, [])]
            found += [Target(cluster=p.rpartition("-n")[0], node=p) for p in parts if _is_node(incident, p)]
    return found


def _is_node(incident: Incident, name: str) -> bool:
    cluster, _, number = name.rpartition("-n")
    return number.isdecimal() and any(c.name == cluster for c in incident.fleet.clusters)
