"""An incident, and the policy for its site, moved to the virtual clock: the test server cannot be sent to 2024."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from runbooks.decisions import approver_groups
from runbooks.incident import Incident
from runbooks.policy import Placement, Policy


def moved(incident: Incident, starts: datetime) -> Incident:
    """The same incident from another moment on; every time in it is written out, whatever clock it was told by.

    What nothing has ended by its end is mended by people then, so that what stands can be restored and cases close.
    """

    def moment(at: Any) -> Any:
        if not isinstance(at, str) or at in ("clear", "never"):
            return at
        return (starts + timedelta(seconds=incident.seconds(at))).isoformat()

    def each(one: Any, *fields: str) -> Any:
        return one.model_copy(update={f: moment(getattr(one, f)) for f in fields})

    def fault(one: Any) -> Any:
        kept = each(one, "at", "ends")
        if one.fault == "by_hand" or one.ends is not None:
            return kept
        return kept.model_copy(update={"ends": (starts + timedelta(seconds=incident.lasts)).isoformat()})

    line, shift = incident.timeline, starts - incident.starts
    return incident.model_copy(
        update={
            "starts": starts,
            "timeline": line.model_copy(
                update={
                    "faults": tuple(fault(f) for f in line.faults),
                    "alerts": tuple(each(a, "at", "began", "measured", "resolves") for a in line.alerts),
                    "people": tuple(each(p, "at") for p in line.people),
                }
            ),
            "truth": each(incident.truth, "detected", "mitigated", "ended"),
            "site": incident.site.model_copy(
                update={
                    "freezes": tuple(
                        f.model_copy(update={"starts": f.starts + shift, "ends": f.ends + shift})
                        for f in incident.site.freezes
                    )
                }
            ),
        }
    )


def policy_at(incident: Incident, policy: Policy) -> Policy:
    """The policy with what its site adds: freezes, residency, what runs unattended, and who is in the groups of approvers."""
    residency = {**policy.placement.residency}
    for label, others in incident.site.residency.items():
        residency[label] = tuple(dict.fromkeys([*residency.get(label, ()), *others]))
    strict = "deny" in (policy.placement.undeclared, incident.site.undeclared)
    placement = Placement(residency=residency, undeclared="deny" if strict else "allow")
    rules = {name: policy.for_class(name) for name in incident.site.unattended}
    auto = {name: r.model_copy(update={"mode": "auto"}) for name, r in rules.items() if r.mode == "ask"}
    return policy.model_copy(
        update={
            "classes": {**policy.classes, **auto},
            "freezes": (*policy.freezes, *incident.site.freezes),
            "placement": placement,
            "groups": {**policy.groups, **dict.fromkeys(approver_groups(policy), incident.site.group)},
        }
    )


def observing(policy: Policy) -> Policy:
    """The same policy with every class in observe: what Interlock would have done, and does not."""
    watching = {"mode": "observe"}
    return policy.model_copy(
        update={
            "default": policy.default.model_copy(update=watching),
            "classes": {name: c.model_copy(update=watching) for name, c in policy.classes.items()},
        }
    )
