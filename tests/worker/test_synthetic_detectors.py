"""A site's rules see what can be measured, wait as long as they say, and are spoiled at the stated rates."""

from __future__ import annotations

from collections import Counter

import pytest

from runbooks.detection import Severity
from worker import synthetic_rates as rates
from worker.detect_rules import Outcome
from worker.synthetic_baking import baked, false_alarm, misleading, noisy
from worker.synthetic_detectors import Fired, Rules
from worker.synthetic_draw import Draw
from worker.synthetic_monitoring import Monitoring, Set, draw_monitoring
from worker.synthetic_probes import Asked, Probe, Xids
from worker.synthetic_rules import RULES

POOL = "east/service/chat-east"
NEIGHBOUR = "east/service/code-east"


def site_with(key: str, threshold: float, for_s: float = 60.0, rich: bool = False) -> Monitoring:
    rule = next(r for r in RULES if r.key == key)
    return Monitoring(15, (Set(rule, rule.names[0], threshold, for_s),), rich, True, True, True, 0.0, 500, 500, 500)


def fired(at: float = 100.0, **evidence: float) -> Fired:
    return Fired(at, at - 60, "EnvoyHighErrorRate", POOL, Severity.CRITICAL, dict(evidence), {}, about="error_rate")


def test_a_rule_waits_for_its_duration_and_fires_once() -> None:
    """The condition holds for a minute before the alert, which says when it began."""
    rules = Rules(site_with("errors", 0.05))
    found = {now: rules.look(now, {POOL: {"error_rate": 0.2}}) for now in (0.0, 30.0, 60.0, 90.0)}
    assert [now for now, news in found.items() if news] == [60.0]
    [alert] = found[60.0]
    assert (alert.alert, alert.target, alert.began, alert.evidence) == (
        "EnvoyHighErrorRate",
        POOL,
        0.0,
        {"error_rate": 0.2},
    )


def test_a_gap_in_the_condition_starts_the_duration_anew() -> None:
    """As in Prometheus: one good value in between and the wait begins again."""
    rules = Rules(site_with("errors", 0.05))
    rules.look(0.0, {POOL: {"error_rate": 0.2}})
    rules.look(30.0, {POOL: {"error_rate": 0.01}})
    assert rules.look(60.0, {POOL: {"error_rate": 0.2}}) == []
    assert rules.look(120.0, {POOL: {"error_rate": 0.2}}) != []


def test_what_is_not_measured_fires_nothing() -> None:
    """A missing value is no nought and no breach, even without a duration."""
    rules = Rules(site_with("errors", 0.05, for_s=0.0))
    assert rules.look(0.0, {POOL: {"queue": 500.0}}) == []


def test_a_threshold_of_what_is_normal_needs_a_normal_time() -> None:
    """It is a multiple of what was learned; before that nothing is too much."""
    rules = Rules(site_with("latency", 2.0, for_s=0.0))
    assert rules.look(0.0, {POOL: {"latency_p99": 60.0}}) == []
    for value in (3.0, 3.1, 2.9):
        rules.learn({POOL: {"latency_p99": value}})
    assert rules.look(15.0, {POOL: {"latency_p99": 5.9}}) == []
    assert len(rules.look(30.0, {POOL: {"latency_p99": 6.1}})) == 1


def test_a_rich_site_sends_its_neighbours_figures_and_change_markers() -> None:
    """A poor one sends little more than the rule's own value, and evidence differs as it does in the world."""
    values = {"error_rate": 0.2, "kv_used": 0.97, "minutes_since_change": 4.0, "replicas_desired": 3.0}
    [alert] = Rules(site_with("errors", 0.05, for_s=0.0, rich=True)).look(0.0, {POOL: values})
    assert alert.evidence == values
    [alert] = Rules(site_with("errors", 0.05, for_s=0.0)).look(0.0, {POOL: values})
    assert alert.evidence == {"error_rate": 0.2, "minutes_since_change": 4.0}


def test_a_hung_replica_is_found_by_the_products_own_rule() -> None:
    """Three generations failed while its siblings answered and no token came."""
    probe, ok, hung = Probe(), Asked(Outcome.OK, None), Asked(Outcome.TIMEOUT, 1000.0)
    looks = [probe.look(now, {POOL: {"a:8000": hung, "b:8000": ok, "c:8000": ok}}) for now in (0.0, 10.0, 20.0, 30.0)]
    [alert] = [f for news in looks for f in news]
    assert (alert.alert, alert.target) == ("EngineHang", f"{POOL}/endpoint/a:8000")
    assert alert.evidence["generations_failed"] == 3
    assert alert.evidence["tokens_rising"] is False


def test_a_busy_replica_is_not_hung() -> None:
    """Its generations time out, but its tokens rise."""
    probe, ok = Probe(), Asked(Outcome.OK, None)
    for n in range(6):
        busy = Asked(Outcome.TIMEOUT, 1000.0 * n)
        assert probe.look(10.0 * n, {POOL: {"a:8000": busy, "b:8000": ok, "c:8000": ok}}) == []


@pytest.mark.parametrize(("nvml", "alert"), [(True, "GpuXid"), (False, "XID")])
def test_an_xid_is_told_once_by_either_detector(nvml: bool, alert: str) -> None:
    """Each has its own name for the alert, and an XID that stays is no news."""
    xids = Xids(nvml, "XID")
    [found] = xids.look(0.0, {"east/node/east-n1/gpu/0": 79})
    assert (found.alert, found.evidence["xid"]) == (alert, 79)
    assert xids.look(15.0, {"east/node/east-n1/gpu/0": 79}) == []


def test_a_share_with_noise_stays_a_share_and_counts_stay_whole() -> None:
    """Codes and words are not measured, so they get no noise."""
    draw = Draw("noise")
    assert all(0 <= float(noisy(draw, 0.99)) <= 1 for _ in range(500))
    assert {noisy(draw, 79.0) for _ in range(20)} == {79.0}
    assert {noisy(draw, "Error") for _ in range(20)} == {"Error"}


def test_alerts_are_spoiled_at_the_stated_rates() -> None:
    """The rates are documented, so they are counted over three thousand draws."""
    site, counts, n = site_with("errors", 0.05), Counter[str](), 3000
    for k in range(n):
        alerts = baked(Draw("spoil", k), site, [fired(error_rate=0.2, queue=3.5)], lasts=3000.0)
        counts["empty"] += not alerts[0].evidence
        counts["no queue"] += bool(alerts[0].evidence) and "queue" not in alerts[0].evidence
        counts["twice"] += len(alerts) == 2 and alerts[0].resolves == "clear"
        counts["flaps"] += alerts[0].resolves != "clear"
        counts["stale"] += alerts[0].measured is not None
    assert counts["empty"] / n == pytest.approx(rates.RULE_VALUE_MISSING, abs=0.01)
    assert counts["no queue"] / n == pytest.approx(rates.EVIDENCE_MISSING, abs=0.02)
    assert counts["twice"] / n == pytest.approx(rates.DUPLICATE, abs=0.02)
    assert counts["flaps"] / n == pytest.approx(rates.FLAP, abs=0.02)
    assert counts["stale"] / n == pytest.approx(rates.STALE_EVIDENCE, abs=0.015)


def test_a_misleading_alert_comes_first_and_is_about_something_else() -> None:
    """About the same pool or its neighbour, and never about what the true alert measures."""
    site = draw_monitoring(Draw("site"), (500, 500), watchful=True)
    sight = {
        t: {"error_rate": 0.0, "queue": 1.0, "latency_p99": 2.0, "client_error_share": 0.0} for t in (POOL, NEIGHBOUR)
    }
    made = [misleading(Draw(k), site, fired(error_rate=0.2), [POOL, NEIGHBOUR], sight) for k in range(50)]
    assert all(m is not None and m.at < 100.0 and m.about != "error_rate" for m in made)
    assert {m.target for m in made if m is not None} == {POOL, NEIGHBOUR}


def test_a_false_alarm_needs_a_rule_that_the_site_has() -> None:
    """It breaches that rule's threshold; a site without a fitting rule has none."""
    found = false_alarm(Draw(1), site_with("errors", 0.05), [POOL], 200.0, 2000.0)
    assert found is not None
    assert found.evidence["error_rate"] > 0.05
    assert false_alarm(Draw(1), site_with("stalled", 60.0), [POOL], 200.0, 2000.0) is None
