"""What a Gateway controller says of an HTTPRoute: does the data plane follow the spec that stands there now?

Only conditions of the object's present generation count: an older `Accepted` speaks of other weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from activities.adapters.gateway_route import RouteObject

WANTED = {"Accepted": "True", "ResolvedRefs": "True"}
UNWANTED = "PartiallyInvalid"
"""True when the controller dropped some rules, or goes on with those of an older generation."""


@dataclass(frozen=True)
class Word:
    """`accepted`: by every gateway that the route names. `rejected`: one said no. `waiting`: one has not said yet."""

    state: Literal["accepted", "waiting", "rejected"]
    why: str


def word_on(seen: RouteObject) -> Word:
    """The controllers' word on the generation that was read."""
    namespace = seen.place.namespace
    reports = (seen.body.get("status") or {}).get("parents") or []
    parents = seen.body["spec"].get("parentRefs") or []
    if not parents:
        return Word("waiting", f"{seen.place} names no gateway")
    words: list[Word] = []
    for parent in parents:
        same = [r for r in reports if _id(r.get("parentRef", {}), namespace) == _id(parent, namespace)]
        words += [_judged(parent["name"], r.get("conditions") or [], seen.generation) for r in same]
        if not same:
            words.append(Word("waiting", f"no controller has reported for gateway {parent['name']}"))
    order = ("rejected", "waiting", "accepted")
    return min(words, key=lambda w: order.index(w.state))


def _judged(gateway: str, conditions: list[dict[str, Any]], generation: int) -> Word:
    now = {c["type"]: c for c in conditions if c.get("observedGeneration") == generation}
    for kind in (*WANTED, UNWANTED):
        found = now.get(kind, {}).get("status")
        if found == ("True" if kind == UNWANTED else "False"):
            told = f"{now[kind].get('reason')}: {now[kind].get('message')}"
            return Word("rejected", f"gateway {gateway} says {kind}={found} ({told})")
    missing = [kind for kind, status in WANTED.items() if now.get(kind, {}).get("status") != status]
    if missing:
        return Word("waiting", f"gateway {gateway} has not said {' or '.join(missing)} of generation {generation} yet")
    return Word("accepted", f"gateway {gateway} serves generation {generation}")


def _id(ref: dict[str, Any], namespace: str) -> tuple[Any, ...]:
    kind = (ref.get("group", "gateway.networking.k8s.io"), ref.get("kind", "Gateway"))
    return (*kind, ref.get("namespace", namespace), ref.get("name"), ref.get("sectionName"), ref.get("port"))
