"""Rules by what was measured, whatever the alert is called; and what they may not do."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError

from activities.triage import TriageActivities
from runbooks.detection import CORRELATED, Detection
from runbooks.facts import Known, Unknown
from runbooks.fleet import Fleet
from runbooks.library import Library
from runbooks.plan import Classification, Diagnosis, TriageRequest
from runbooks.policy import ClassPolicy, Policy
from runbooks.taxonomy import UNKNOWN, Rule, Taxonomy, classify
from runbooks.taxonomy_evidence import EvidenceName, canonical
from runbooks.taxonomy_looked import Looked
from runbooks.taxonomy_table import with_tables
from tests.runbooks import clusters
from tests.runbooks.conftest import NOW

Detect = Callable[..., Detection]
PAGE = Path(__file__).parents[2] / "docs" / "classification.md"
HANG: dict[str, float | bool | str] = {"generations_failed": 3, "generations_ok": 0, "siblings_ok": 1}


def _looked(detection: Detection, later_s: float = 1.0, **values: float | bool | str) -> Looked:
    at = detection.observed_at + timedelta(seconds=later_s)
    readings = {name: Known[float | bool | str](value=value, observed_at=at) for name, value in values.items()}
    return Looked(target=detection.target, began=at, took_s=0.1, readings={**readings})


def test_the_page_has_the_vocabulary_of_the_catalogue(library: Library) -> None:
    """When this fails: `python -m tests.write_classification`."""
    text = PAGE.read_text(encoding="utf-8")

    assert with_tables(text, library.taxonomy) == text


def test_an_alert_of_any_name_is_read_by_what_it_measured(library: Library, detect: Detect) -> None:
    """Sites name alerts as they like, and the record says who measured it."""
    found = classify([detect("OurCacheIsFull", {"kv_used": 0.96})], library.taxonomy)

    assert (found.failure_class, found.rule) == ("engine.exhaustion", "any-kv-full")
    assert found.evidence == ("kv_used = 0.96 (rule: kv_used >= 0.9; by OurCacheIsFull)",)


def test_what_two_alerts_measured_counts_together(library: Library, detect: Detect) -> None:
    """A real alert carries one number: statuses come with two."""
    both = [detect("BadRequests", {"http_400_share": 0.1}), detect("TooMany", {"http_429_share": 0.1})]

    assert classify(both, library.taxonomy).failure_class == "config.engine_mismatch"
    assert classify(both[:1], library.taxonomy).failure_class == "config.request_compat"


def test_the_newest_value_of_a_name_counts(library: Library, detect: Detect) -> None:
    """A cache that was full ten minutes ago and is empty now is not the cause."""
    old = detect("Full", {"kv_used": 0.97})
    new = detect("Fine", {"kv_used": 0.2}).model_copy(update={"observed_at": NOW + timedelta(minutes=10)})

    assert classify([new, old], library.taxonomy).failure_class == UNKNOWN
    assert classify([old], library.taxonomy, _looked(old, kv_used=0.2)).failure_class == UNKNOWN
    assert classify([old], library.taxonomy, _looked(old, -1, kv_used=0.2)).failure_class == "engine.exhaustion"


def test_an_alias_is_read_as_the_name_that_it_stands_for(library: Library, detect: Detect) -> None:
    """And where both are sent, the name's own value counts."""
    words = (EvidenceName(name="a", unit="s", says="A", aliases=("b",)),)

    assert canonical({"b": 1.0, "c": 2.0}, words) == {"a": 1.0, "c": 2.0}
    assert canonical({"b": 1.0, "a": 3.0}, words) == {"a": 3.0}
    sent = {"nodes_share": 0.9, "window_minutes": 3.0}
    assert classify([detect("NodesUnreachable", sent)], library.taxonomy).failure_class == "infra.fleet_network"


def test_a_rule_that_reads_a_name_outside_of_the_vocabulary_is_refused(library: Library) -> None:
    """A misspelt name would be a rule that never holds; an alias would be one that sometimes does."""
    t = library.taxonomy
    for name, says in (("kv_usde", "not in `evidence`"), ("nodes_share", "write 'nodes_not_ready_share'")):
        rule = Rule.model_validate(
            {"id": "r", "class": "engine.hang", "confidence": 1, "evidence": [{"name": name, "above": 1}]}
        )
        with pytest.raises(ValidationError, match=says):
            Taxonomy(levers=t.levers, classes=t.classes, evidence=t.evidence, rules=(rule,))


def test_a_rule_that_would_hold_for_everything_is_refused() -> None:
    """Neither alerts nor labels nor evidence."""
    with pytest.raises(ValidationError, match="would hold for every alert"):
        Rule.model_validate({"id": "r", "class": "engine.hang", "confidence": 1})


def test_numbers_of_members_are_not_those_of_their_domain(library: Library, detect: Detect) -> None:
    """Members of a domain's case are other targets each: their numbers together would be nobody's."""
    member = detect(CORRELATED, {"xid": 79.0, "kv_used": 0.99}, labels={"member_kind": "node"})

    assert classify([member], library.taxonomy).rule == "correlated-nodes"


def test_what_the_look_could_not_read_fulfils_nothing(library: Library, detect: Detect) -> None:
    """Unknown is no value: neither nought nor bad."""
    detection = detect("NeverHeardOf")
    looked = Looked(target=detection.target, began=NOW, took_s=3, readings={"replicas_ready": Unknown(why="silent")})

    assert classify([detection], library.taxonomy, looked).failure_class == UNKNOWN


def test_a_node_that_is_gone_overrules_the_hang_of_its_engine(library: Library, detect: Detect) -> None:
    """The prober cannot tell a hung engine from a machine that is not there."""
    hang = detect("EngineHang", HANG)

    found = classify([hang], library.taxonomy, _looked(hang, on_lost_nodes=1.0))

    assert (found.failure_class, found.confidence) == ("infra.node_down", 0.96)


# --- what a rule for any alert may not do --------------------------------------------------------------------------


async def _diagnosed(library: Library, fleet: Fleet, *detections: Detection, looked: Looked | None = None) -> Diagnosis:
    policy = Policy(name="bold", classes={"engine.hang": ClassPolicy(mode="auto")})
    request = TriageRequest(detections=detections, now=NOW, looked=looked)
    return await TriageActivities(library, policy, fleet).diagnose(request)


async def test_a_proven_hang_acts_as_policy_says_and_is_not_looked_at(
    library: Library, fleet: Fleet, detect: Detect
) -> None:
    """The fast path: nothing is asked, nothing is read."""
    hang = detect("EngineHang", HANG, service="pool-a", endpoint="pool-a-1:8000")

    found = await _diagnosed(library, fleet, hang)

    assert (found.policy.mode, found.look) == ("auto", "no")
    assert not any(s.attended for s in found.plan.steps)


@pytest.mark.parametrize("evidence", [{"stalled_s": 900.0}, {**HANG, "stalled_s": 900.0}])
async def test_a_hang_by_an_alert_of_any_name_asks_people_though_its_class_is_auto(
    evidence: dict[str, float | bool | str], library: Library, fleet: Fleet, detect: Detect
) -> None:
    """Whoever can fire an alert of any name cannot take an engine out with it."""
    stalled = detect("NoTokens", evidence, service="pool-a", endpoint="pool-a-1:8000")

    found = await _diagnosed(library, fleet, stalled)

    assert found.classification.failure_class == "engine.hang"
    assert found.policy.mode == "ask"
    assert found.plan.steps
    assert all(s.attended for s in found.plan.steps)


def test_the_proof_of_a_hang_under_another_name_is_none(library: Library, detect: Detect) -> None:
    """The site has not said what this alert means."""
    assert classify([detect("SomethingElse", HANG)], library.taxonomy).failure_class == UNKNOWN


async def test_more_evidence_for_a_proven_class_does_not_lead_to_less(
    library: Library, fleet: Fleet, detect: Detect
) -> None:
    """The proof stays a proof when a detector of another name says the same."""
    place = {"service": "pool-a", "endpoint": "pool-a-1:8000"}
    base = library.taxonomy
    surer = Rule.model_validate(
        {"id": "surer", "class": "engine.hang", "confidence": 0.99, "evidence": [{"name": "stalled_s", "above": 60}]}
    )
    mine = library.model_copy(update={"taxonomy": base.model_copy(update={"rules": (*base.rules, surer)})})

    found = await _diagnosed(
        mine, fleet, detect("EngineHang", HANG, **place), detect("Slow", {"stalled_s": 90}, **place)
    )

    assert (found.classification.rule, found.policy.mode) == ("hang-real-generations", "auto")


async def test_only_what_the_fleet_has_is_looked_at(library: Library, fleet: Fleet, detect: Detect) -> None:
    """An alert about something else could make Interlock read wherever it says."""
    inside = await _diagnosed(library, fleet, detect("NeverHeardOf", service="pool-a"))
    outside = await _diagnosed(library, fleet, detect("NeverHeardOf", service="pool-x"))

    assert (inside.look, outside.look) == ("whole", "no")


def test_a_tie_goes_to_the_alert_whose_meaning_the_site_has_said(library: Library, detect: Detect) -> None:
    """Else a number that fits as well would make `unknown` of it."""
    base = library.taxonomy
    rules = (
        Rule.model_validate({"id": "told", "class": "engine.crash", "confidence": 0.8, "alerts": ["Lost"]}),
        Rule.model_validate(
            {"id": "fits", "class": "engine.hang", "confidence": 0.8, "evidence": [{"name": "stalled_s", "above": 1}]}
        ),
    )

    found = classify([detect("Lost", {"stalled_s": 5})], base.model_copy(update={"rules": rules}))

    assert (found.failure_class, found.rule) == ("engine.crash", "told")


# --- how much is looked at, and what a later look may change -------------------------------------------------------


@pytest.mark.parametrize(
    ("alert", "place", "wanted"),
    [
        ("EngineHang", {"service": "big", "endpoint": "big-0:8000"}, "no"),
        ("EngineCrash", {"service": "big", "endpoint": "big-0:8000"}, "cluster"),
        ("EngineCrash", {"service": "big"}, "no"),
        ("EngineTimeouts", {"service": "big"}, "whole"),
        ("NeverHeardOf", {"node": "n1"}, "whole"),
        ("GpuLost", {"node": "n1", "gpu": "0"}, "no"),
        ("NeverHeardOf", {"node": "n9"}, "no"),
    ],
)
async def test_the_less_a_rule_is_sure_the_more_is_looked_at(
    alert: str, place: dict[str, str], wanted: str, library: Library, detect: Detect
) -> None:
    """What acts unattended does not wait; where people are asked first, whether its machine is there."""
    evidence = HANG if alert == "EngineHang" else {}

    found = await _diagnosed(library, clusters.FLEET, detect(alert, evidence, **place))

    assert found.look == wanted


async def test_a_case_that_plans_again_looks_at_the_machine_of_its_hung_engine(
    library: Library, detect: Detect
) -> None:
    """It has acted by now: there is time."""
    hang = detect("EngineHang", HANG, service="big", endpoint="big-0:8000")
    before = _before("engine.hang", 0.95)
    policy = Policy(name="bold", classes={"engine.hang": ClassPolicy(mode="auto")})

    again = TriageRequest(detections=(hang,), now=NOW, before=before)
    found = await TriageActivities(library, policy, clusters.FLEET).diagnose(again)

    assert found.look == "cluster"


def _before(failure_class: str, confidence: float) -> Classification:
    return Classification(failure_class=failure_class, confidence=confidence, rule="r", evidence=("seen",))


@pytest.mark.parametrize(
    ("before", "evidence", "wanted"),
    [
        (_before("engine.exhaustion", 0.84), {"timeout_share": 0.1}, "engine.exhaustion"),  # 0.76: less sure
        (_before("engine.exhaustion", 0.84), {}, "engine.exhaustion"),  # nothing can be said any more
        (_before("engine.timeout", 0.76), {"kv_used": 0.95}, "engine.exhaustion"),  # 0.84: surer
        (_before("engine.hang", 0.84), {"kv_used": 0.95}, "engine.exhaustion"),  # as sure, and newer
        (_before("unknown", 0.9), {"timeout_share": 0.1}, "engine.timeout"),
    ],
)
async def test_a_later_look_changes_the_class_only_when_it_is_as_sure(
    before: Classification, evidence: dict[str, float], wanted: str, library: Library, fleet: Fleet, detect: Detect
) -> None:
    """What a mitigation has made well is no reason to call the fault something else half way through."""
    request = TriageRequest(detections=(detect("Any", evidence, service="pool-a"),), now=NOW, before=before)

    found = await TriageActivities(library, Policy(name="p"), fleet).diagnose(request)

    assert found.classification.failure_class == wanted
    if wanted == before.failure_class:
        assert found.classification.evidence[0].startswith("found before: now it looks like")
        assert found.classification.evidence[1:] == ("seen",)
