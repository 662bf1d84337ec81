"""Small readings of Kubernetes objects: quantities, times, conditions, owners, selectors. Pure."""

from __future__ import annotations

from datetime import datetime

from activities.adapters.kube_errors import Json
from activities.errors import Permanent

_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}
HASH = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"


def name(thing: Json) -> str:
    """The object's name."""
    return str(thing["metadata"]["name"])


def version(thing: Json) -> str:
    """What a compare-and-set compares."""
    return str(thing["metadata"]["resourceVersion"])


def notes(thing: Json) -> dict[str, str]:
    """Never None."""
    return dict(thing["metadata"].get("annotations") or {})


def labels(thing: Json) -> dict[str, str]:
    """Never None."""
    return dict(thing["metadata"].get("labels") or {})


def count(quantity: object) -> int:
    """A whole number of something, as Kubernetes writes it. Permanent: not one."""
    text = str(quantity)
    digits = text.rstrip("kMGi")
    unit = text[len(digits) :]
    if not digits.isdigit() or unit not in _UNITS:
        raise Permanent(f"the API server counts {text!r} of something that comes in whole pieces")
    return int(digits) * _UNITS[unit]


def moment(text: str) -> datetime:
    """An RFC 3339 time of the API server."""
    return datetime.fromisoformat(text)


def condition(thing: Json, kind: str) -> Json:
    """The condition, empty when there is none."""
    found = (thing.get("status") or {}).get("conditions") or []
    return next((c for c in found if c.get("type") == kind), {})


def said(about: Json) -> str:
    """Reason and message of a condition or a waiting container, in one line."""
    return ": ".join(str(about[k]) for k in ("reason", "message") if about.get(k))


def owned_by(thing: Json, uid: str) -> bool:
    """True when the object of this uid controls it."""
    return any(o.get("uid") == uid and o.get("controller") for o in thing["metadata"].get("ownerReferences") or [])


def asked(pod_spec: Json, resource: str) -> int:
    """How much of a resource a pod holds: its containers together, or its largest init container."""

    def of(container: Json) -> int:
        resources = container.get("resources") or {}
        given = {**(resources.get("limits") or {}), **(resources.get("requests") or {})}
        return count(given.get(resource, 0))

    together = sum(of(c) for c in pod_spec.get("containers") or [])
    return max([together, *(of(c) for c in pod_spec.get("initContainers") or [])])


def selects(selector: Json | None, on: dict[str, str]) -> bool:
    """Whether a label selector matches; None selects nothing, an empty one everything."""
    if selector is None:
        return False
    exact = all(on.get(k) == v for k, v in (selector.get("matchLabels") or {}).items())
    return exact and all(_holds(rule, on) for rule in selector.get("matchExpressions") or [])


def _holds(rule: Json, on: dict[str, str]) -> bool:
    key, values = rule["key"], rule.get("values") or []
    match rule["operator"]:
        case "In":
            return on.get(key) in values
        case "NotIn":
            return on.get(key) not in values
        case "Exists":
            return key in on
        case "DoesNotExist":
            return key not in on
        case other:
            raise Permanent(f"a selector has the operator {other!r}, which is not known here")


def bare(template: Json) -> Json:
    """A ReplicaSet's pod template without the label that tells it from others: as its Deployment had it."""
    about = template.get("metadata") or {}
    kept = {k: v for k, v in (about.get("labels") or {}).items() if k != HASH}
    return {**template, "metadata": {**about, "labels": kept}}
