"""Rules name the class, or nobody does."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from runbooks.detection import Detection
from runbooks.library import Library, load_library
from runbooks.taxonomy import UNKNOWN, Bound, Rule, Taxonomy, classify

Detect = Callable[..., Detection]
HANG: dict[str, float | bool | str] = {"generations_failed": 3, "generations_ok": 0, "siblings_ok": 1}
MISSION = {
    "engine.timeout", "engine.hang", "engine.exhaustion", "engine.crash", "engine.latency_spike", "engine.bad_output",
    "config.request_compat", "config.engine_mismatch", "infra.gpu_app_fault", "infra.gpu_fault", "infra.node_down",
    "infra.fleet_network", "infra.control_plane", "infra.capacity_loss", "ops.traffic_imbalance", "ops.detection_gap",
    "ops.bad_change", "ops.automation_runaway", "dep.upstream", "demand.surge", "unknown",
}  # fmt: skip


def _fulfilling(rule: Rule) -> dict[str, float | bool | str]:
    """Evidence that fulfils every bound of a rule."""
    found: dict[str, float | bool | str] = {}
    for bound in rule.evidence:
        if bound.one_of:
            found[bound.name] = bound.one_of[0]
        elif bound.equals is not None:
            found[bound.name] = bound.equals
        else:
            found[bound.name] = bound.below if bound.below is not None else bound.above or 0.0
    return found


def test_all_21_classes_are_there_with_their_source(library: Library) -> None:
    """The starting data is complete, and each row says where its class and where its levers come from."""
    assert {c.id for c in library.taxonomy.classes} == MISSION
    assert all(c.source.startswith("class: ") and "levers and gates: I" in c.source for c in library.taxonomy.classes)


@pytest.mark.parametrize("rule", load_library().taxonomy.rules, ids=lambda r: r.id)
def test_every_rule_names_its_class_for_every_alert(rule: Rule, library: Library, detect: Detect) -> None:
    """A detection that fulfils a rule is of its class: no rule is hidden by another one or tied with it."""
    for alert in rule.alerts or ("NeverHeardOf",):
        found = classify([detect(alert, _fulfilling(rule), labels=rule.labels)], library.taxonomy)

        assert found.failure_class == rule.failure_class, found


def test_every_class_is_reachable(library: Library, detect: Detect) -> None:
    """Each class has a rule; `unknown` is reached when none knows the alert."""
    ruled = {rule.failure_class for rule in library.taxonomy.rules}

    assert {c.id for c in library.taxonomy.classes} - ruled == {UNKNOWN}
    assert classify([detect("NeverHeardOf")], library.taxonomy).failure_class == UNKNOWN


def test_a_hang_needs_failed_generations_and_answering_siblings(library: Library, detect: Detect) -> None:
    """Three failures, no success, one sibling: that is a hang, and the evidence says what was measured."""
    found = classify([detect("EngineHang", HANG)], library.taxonomy)

    assert found.failure_class == "engine.hang"
    assert found.rule == "hang-real-generations"
    assert "generations_failed = 3 (rule: generations_failed >= 3)" in found.evidence


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"generations_failed": 2}, "generations_failed >= 3, measured 2"),
        ({"generations_ok": 1}, "generations_ok <= 0, measured 1"),
        ({"siblings_ok": 0}, "siblings_ok >= 1, measured 0"),
        ({"tokens_rising": True}, "blocked by tokens_rising = true"),
        ({"tokens_rising": "true"}, "blocked by tokens_rising = true"),
        ({"generations_failed": "many"}, "generations_failed >= 3, measured many"),
        ({"generations_failed": float("nan")}, "generations_failed >= 3"),
    ],
)
def test_less_than_that_is_no_hang(
    change: dict[str, float | bool | str], says: str, library: Library, detect: Detect
) -> None:
    """A slow prompt, a busy engine or a dead network is unknown, and the reason is in the evidence."""
    found = classify([detect("EngineHang", {**HANG, **change})], library.taxonomy)

    assert found.failure_class == UNKNOWN
    assert says in found.evidence[0]


@pytest.mark.parametrize("missing", sorted(HANG))
def test_a_missing_measurement_proves_nothing(missing: str, library: Library, detect: Detect) -> None:
    """What was not measured never fulfils a bound."""
    evidence = {name: value for name, value in HANG.items() if name != missing}

    found = classify([detect("EngineHang", evidence)], library.taxonomy)

    assert found.failure_class == UNKNOWN
    assert "not measured" in found.evidence[0]


def test_a_missed_scrape_is_a_gap_in_detection(library: Library, detect: Detect) -> None:
    """A target that cannot be scraped says nothing about the engine."""
    assert classify([detect("TargetDown")], library.taxonomy).failure_class == "ops.detection_gap"


def test_rising_tokens_in_another_detection_block_a_hang(library: Library, detect: Detect) -> None:
    """One detector saying busy is enough, whoever says hung."""
    busy = detect("EngineLatency", {"tokens_rising": True})

    assert classify([detect("EngineHang", HANG), busy], library.taxonomy).failure_class != "engine.hang"


def test_a_resolved_detection_is_not_classified(library: Library, detect: Detect) -> None:
    """What has gone is no evidence."""
    found = classify([detect("EngineHang", HANG, status="resolved")], library.taxonomy)

    assert found.failure_class == UNKNOWN
    assert found.evidence == ("nothing is firing",)


def test_a_report_by_a_person_is_read_by_what_was_measured(library: Library, detect: Detect) -> None:
    """With nothing to go by it is what no detector has seen."""
    assert classify([detect("HumanReport")], library.taxonomy).failure_class == "ops.detection_gap"
    assert classify([detect("HumanReport", {"kv_used": 0.97})], library.taxonomy).failure_class == "engine.exhaustion"


def _two_rules(one: float, two: float) -> Taxonomy:
    base = load_library().taxonomy
    rules = (
        Rule.model_validate({"id": "one", "class": "engine.hang", "confidence": one, "alerts": ["Both"]}),
        Rule.model_validate({"id": "two", "class": "engine.crash", "confidence": two, "alerts": ["Both"]}),
    )
    return Taxonomy(levers=base.levers, classes=base.classes, rules=rules)


def test_a_tie_between_classes_is_unknown(detect: Detect) -> None:
    """Two equally good answers are none."""
    found = classify([detect("Both")], _two_rules(0.9, 0.9))

    assert (found.failure_class, found.rule) == (UNKNOWN, "tie")
    assert found.evidence[0] == "engine.crash and engine.hang fit equally well"


def test_the_more_confident_rule_wins(detect: Detect) -> None:
    """Without a tie the higher confidence decides."""
    assert classify([detect("Both")], _two_rules(0.7, 0.9)).failure_class == "engine.crash"


def test_low_confidence_is_unknown(detect: Detect) -> None:
    """A guess moves no lever."""
    found = classify([detect("Both")], _two_rules(0.5, 0.59))

    assert (found.failure_class, found.rule) == (UNKNOWN, "low-confidence")


def test_a_recent_change_outweighs_slowness_but_not_a_hang(library: Library, detect: Detect) -> None:
    """Latency after a deploy is the change; a hung replica is isolated whatever made it hang."""
    after = {"minutes_since_change": 12.0}

    assert classify([detect("EngineLatency", after)], library.taxonomy).failure_class == "ops.bad_change"
    assert classify([detect("EngineHang", {**HANG, **after})], library.taxonomy).failure_class == "engine.hang"


def test_the_same_xid_again_is_the_gpu(library: Library, detect: Detect) -> None:
    """XID 13 once restarts the engine; twice on one GPU it is the GPU's fault."""
    once, twice = detect("GpuXid", {"xid": 13}), detect("GpuXid", {"xid": 13, "repeats": 2})

    assert classify([once], library.taxonomy).failure_class == "infra.gpu_app_fault"
    assert classify([twice], library.taxonomy).failure_class == "infra.gpu_fault"


@given(st.floats(), st.floats(allow_nan=False, allow_infinity=False))
def test_a_bound_is_inclusive_and_nan_is_never_in_it(value: float, limit: float) -> None:
    """`above` means this or more, and a number that is none fulfils nothing."""
    assert Bound(name="x", above=limit).holds({"x": value}) == (value >= limit)
    assert Bound(name="x", below=limit).holds({"x": value}) == (value <= limit)


def test_a_bound_says_exactly_one_thing() -> None:
    """Two sides in one bound would hide one of them."""
    with pytest.raises(ValidationError, match="exactly one of above, below, equals, one_of"):
        Bound(name="x", above=1, below=2)


def test_a_rule_for_a_class_that_is_not_there_is_refused(library: Library) -> None:
    """A misspelt class never becomes a class of its own."""
    rule = Rule.model_validate({"id": "r", "class": "engine.hnag", "confidence": 1, "alerts": ["A"]})

    with pytest.raises(ValidationError, match=r"engine\.hnag"):
        Taxonomy(levers=library.taxonomy.levers, classes=library.taxonomy.classes, rules=(rule,))
