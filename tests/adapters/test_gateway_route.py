"""An HTTPRoute read as data: which rules carry the split, what the patch tests, whose word counts. No server here."""

from __future__ import annotations

from typing import Any

import pytest

from activities.adapters.envoy_document import Writer
from activities.adapters.gateway_route import EPOCH, PERMIT, Place, parse
from activities.adapters.gateway_status import word_on
from activities.errors import Permanent

PLACE = Place("chat", "prod", "llm", {"pool-a": "a-svc", "pool-b": "b-svc"})
A, B = "weight/chat/pool-a", "weight/chat/pool-b"


def backends(**weights: int) -> list[dict[str, Any]]:
    """backendRefs `a-svc`, `b-svc`, …"""
    return [{"name": f"{name}-svc", "port": 80, "weight": weight} for name, weight in weights.items()]


def condition(kind: str, status: str = "True", generation: int = 3) -> dict[str, Any]:
    """A condition of a parent's status."""
    return {
        "type": kind,
        "status": status,
        "observedGeneration": generation,
        "reason": "Because",
        "message": "of a test",
    }


def report(*conditions: dict[str, Any], gateway: str = "edge", **more: Any) -> dict[str, Any]:
    """What one controller says."""
    return {"parentRef": {"name": gateway, **more}, "conditions": list(conditions)}


GOOD = (condition("Accepted"), condition("ResolvedRefs"))


def route(*rules: list[dict[str, Any]], **fields: Any) -> dict[str, Any]:
    """An HTTPRoute of generation 3 with one parent; `notes`, `parents` and `reports` replace what is usual."""
    return {
        "metadata": {"resourceVersion": "77", "generation": 3, "annotations": fields.get("notes")},
        "spec": {
            "parentRefs": fields.get("parents", [{"name": "edge"}]),
            "rules": [{"backendRefs": r} for r in rules or (backends(a=90, b=10),)],
        },
        "status": {"parents": fields.get("reports", [report(*GOOD)])},
    }


def test_weights_are_read_from_every_rule_that_lists_exactly_the_pools() -> None:
    """A rule that pins a tenant to one pool is no split, whatever its weight."""
    seen = parse(PLACE, route(backends(a=1), backends(b=10, a=90), backends(a=90, b=10)))

    assert seen.settings == {A: 90, B: 10}
    assert [(r.rule, r.index, r.pool) for r in seen.refs] == [
        (1, 0, "pool-b"),
        (1, 1, "pool-a"),
        (2, 0, "pool-a"),
        (2, 1, "pool-b"),
    ]


def test_a_patch_tests_name_and_weight_before_it_replaces_and_touches_no_other_rule() -> None:
    """The compare-and-set stands in the patch itself, so a server that retries it compares again."""
    seen = parse(PLACE, route(backends(a=1), backends(a=90, b=10)))

    assert seen.untouched() == [{"op": "test", "path": "/metadata/resourceVersion", "value": "77"}]
    assert seen.weighted({B: 40}) == [
        {"op": "test", "path": "/spec/rules/1/backendRefs/1/name", "value": "b-svc"},
        {"op": "test", "path": "/spec/rules/1/backendRefs/1/weight", "value": 10},
        {"op": "replace", "path": "/spec/rules/1/backendRefs/1/weight", "value": 40},
    ]


def test_annotations_are_read_and_written_per_domain_and_others_are_left_alone() -> None:
    """Epochs of two domains stand side by side; a route without annotations gets the whole map."""
    seen = parse(PLACE, route(notes={EPOCH: "east=7/p-7 west=2/w-2", "team": "llm"}))

    assert seen.fences == {"east": Writer(epoch=7, permit_id="p-7"), "west": Writer(epoch=2, permit_id="w-2")}
    ops = seen.marked({PERMIT: {"east": Writer(epoch=8, permit_id="p-8")}})
    assert ops == [{"op": "add", "path": "/metadata/annotations/interlock.dev~1permit", "value": "east=8/p-8"}]
    bare = parse(PLACE, route())
    assert bare.marked({PERMIT: {}}) == [{"op": "add", "path": "/metadata/annotations", "value": {PERMIT: ""}}]


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (route(backends(a=90)), "no rule lists exactly"),
        (route(backends(a=90, b=5, c=5)), "no rule lists exactly"),
        (route(backends(a=90, b=10), backends(a=50, b=50)), "split chat differently"),
        (route(notes={EPOCH: "7"}), "annotation interlock.dev/epoch"),
        (route(notes={PERMIT: "east=x/p"}), "annotation interlock.dev/permit"),
        (route([{"name": "a-svc"}, {"name": "b-svc"}]), "KeyError"),
        ({"metadata": {}}, "KeyError"),
    ],
)
def test_a_route_that_cannot_be_read_for_certain_is_permanent_and_named(body: dict[str, Any], why: str) -> None:
    """No guess is made of what it meant, least of all of a fence."""
    with pytest.raises(Permanent, match=rf"HTTPRoute prod/llm is not usable: .*{why}"):
        parse(PLACE, body)


@pytest.mark.parametrize(
    ("fields", "state", "why"),
    [
        ({}, "accepted", "serves generation 3"),
        ({"reports": []}, "waiting", "no controller has reported for gateway edge"),
        ({"parents": [], "reports": []}, "waiting", "names no gateway"),
        ({"reports": [report(condition("Accepted"))]}, "waiting", "ResolvedRefs"),
        ({"reports": [report(condition("Accepted", generation=2), GOOD[1])]}, "waiting", "generation 3"),
        ({"reports": [report(condition("Accepted", "False", generation=2), GOOD[1])]}, "waiting", "Accepted"),
        ({"reports": [report(GOOD[0], condition("ResolvedRefs", "Unknown"))]}, "waiting", "ResolvedRefs"),
        ({"reports": [report(GOOD[0], condition("ResolvedRefs", "False"))]}, "rejected", "ResolvedRefs=False"),
        ({"reports": [report(*GOOD, condition("PartiallyInvalid"))]}, "rejected", "PartiallyInvalid=True"),
        ({"parents": [{"name": "edge"}, {"name": "inner"}]}, "waiting", "gateway inner"),
        (
            {
                "parents": [{"name": "edge"}, {"name": "inner"}],
                "reports": [report(*GOOD), report(*GOOD, gateway="inner")],
            },
            "accepted",
            "serves",
        ),
        ({"parents": [{"name": "edge", "namespace": "prod"}]}, "accepted", "serves"),
        ({"parents": [{"name": "edge", "namespace": "infra"}]}, "waiting", "no controller has reported"),
        ({"parents": [{"name": "edge", "sectionName": "https"}]}, "waiting", "no controller has reported"),
        ({"reports": [report(*GOOD), report(condition("Accepted", "False"), gateway="gone")]}, "accepted", "serves"),
    ],
)
def test_weights_count_as_served_only_by_the_word_of_every_gateway_on_this_generation(
    fields: dict[str, Any], state: str, why: str
) -> None:
    """Silence, an older word or one of another gateway is no yes; a no of this generation is a no."""
    word = word_on(parse(PLACE, route(**fields)))

    assert word.state == state
    assert why in word.why
