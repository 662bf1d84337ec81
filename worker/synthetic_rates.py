"""Every rate of the synthetic corpus that is not a share of classes, in one place. What it means: docs/synthetic-incidents.md.

P, S, D: mission evidence (paper, second-hand, computed from data). Where no mark stands it is our inference (I).
"""

from __future__ import annotations

# --- what is measured ---
EVIDENCE_NOISE = 0.05
"""Relative standard deviation of every number that an alert carries."""
EVIDENCE_MISSING = 0.08
"""Chance that one number of an alert is missing, beside the one that its rule is about."""
RULE_VALUE_MISSING = 0.03
"""Chance that an alert carries no number at all: its template failed."""
RICH_SITE = 0.6
"""Share of sites whose alerts carry the neighbouring numbers of their target as well; the others carry the rule's own."""
STALE_EVIDENCE = 0.05
"""Chance that an alert's evidence was measured long before it arrives."""
STALE_S = (120.0, 600.0)
SKEWED_SITE = 0.05
"""Share of sites whose detectors' clocks are behind. (An incident file cannot tell of one that is ahead.)"""
SKEW_S = (-45.0, -5.0)

# --- when it arrives ---
SCRAPE_S = (10, 15, 30)
FOR_S = (30, 60, 120, 180)
"""How long a condition must hold before its alert fires."""
DELIVERY_S = (1.0, 20.0)
"""Grouping and delivery of an alert."""
LATE_ALERT = 0.06
"""Chance that an alert is delivered late."""
LATE_S = (60.0, 300.0)
DUPLICATE = 0.10
"""Chance that an alert is sent again, unchanged, by another copy of the alerting system."""
FLAP = 0.06
"""Chance that an alert is taken back although the fault holds, and fires again."""
FLAP_S = (45.0, 150.0)

# --- what misleads ---
RULE_ABSENT = 0.15
"""Chance that a site lacks a rule that others have."""
MISLEADING = 0.15
"""Share of incidents in which another alert than the fault's own comes first: of a neighbouring class, or of a healthy neighbour."""
FALSE_ALARM = 0.11
"""Share of incidents with an alert that has no fault behind it (S: ISSRE 2025, 11.0 % of monitors' alerts)."""
UNRELATED_CHANGE = 0.15
"""Share of incidents within an hour after a change that has nothing to do with them."""

# --- people ---
PEOPLE_THEN_RULES = 0.5
"""Of the incidents that people find: how often the site's rules fire as well, later."""
REPORT_NAMES_SYMPTOM = 0.7
"""How often a report says what kind of symptom it is, and not only free words."""
REPORT_HAS_FIGURES = 0.6
"""How often whoever reports it adds what the dashboards show."""
ANSWER_SHARES = {"approve": 0.86, "nobody": 0.09, "reject": 0.05}
ANSWER_S = (60.0, 420.0)

# --- what people needed (D: FAILS, start to close, 697 incidents, minutes; stages: p50 and p90 of each, in minutes) ---
CLOSE_MU, CLOSE_SIGMA = 4.26, 1.39
STAGES = {"identify": (28.0, 134.0), "mitigate": (29.0, 196.0), "close": (31.0, 221.0)}
RESPONDERS = (1, 6)

# --- two labellers ---
KAPPA = 0.89
"""Between the paper's labellers (P: ~0.89). So many labels differ that kappa is as near to it as whole incidents allow."""
CONFUSED_WITH: dict[str, dict[str, int]] = {
    "engine.timeout": {"engine.exhaustion": 4, "engine.latency_spike": 3, "engine.hang": 2, "infra.fleet_network": 1},
    "engine.exhaustion": {"engine.timeout": 4, "demand.surge": 3, "engine.latency_spike": 2},
    "engine.crash": {"engine.exhaustion": 2, "ops.bad_change": 2, "infra.gpu_app_fault": 1},
    "engine.latency_spike": {"engine.timeout": 3, "engine.exhaustion": 2},
    "engine.hang": {"engine.timeout": 3, "engine.crash": 1},
    "engine.bad_output": {"ops.bad_change": 2, "config.request_compat": 1},
    "infra.node_down": {"infra.gpu_fault": 2, "infra.capacity_loss": 2},
    "infra.gpu_fault": {"infra.node_down": 2, "infra.gpu_app_fault": 2},
    "infra.gpu_app_fault": {"engine.crash": 2, "infra.gpu_fault": 2},
    "infra.fleet_network": {"infra.node_down": 2, "infra.control_plane": 1},
    "infra.control_plane": {"infra.fleet_network": 1, "infra.capacity_loss": 1},
    "infra.capacity_loss": {"engine.exhaustion": 2, "infra.node_down": 1, "demand.surge": 1},
    "config.request_compat": {"ops.bad_change": 3, "config.engine_mismatch": 2},
    "config.engine_mismatch": {"config.request_compat": 3, "ops.bad_change": 2},
    "ops.bad_change": {"engine.crash": 1, "engine.timeout": 1, "config.engine_mismatch": 1},
    "ops.traffic_imbalance": {"engine.timeout": 1, "engine.exhaustion": 1},
    "ops.detection_gap": {"unknown": 1},
    "ops.automation_runaway": {"ops.bad_change": 1},
}
"""Truth → what a second labeller writes instead, by weight."""
