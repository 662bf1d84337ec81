"""Two files name the class of a GPU's fault: the finding of a reading, and the rules of the taxonomy. They agree."""

from __future__ import annotations

import pytest

from activities.adapters.nvml import Nvml
from runbooks.detection import Detection, Target
from runbooks.gpus import ALERTS, findings
from runbooks.library import load_library
from runbooks.taxonomy import classify
from tests.nvml.standin import Node

NOT_SUPPORTED = 3
STATES: list[dict[str, int | str]] = [
    *({"recovery": code} for code in (1, 2, 3, 4, 5, 6, 7, 23)),
    {"lost": 1},
    {"handle_error": 999},
    {"rows_failed": 1},
    {"rows_pending": 1},
    {"recovery_error": NOT_SUPPORTED, "ecc_volatile": 1},
    {"link_failed": 1},
    {"clocks": 0x40},
]


@pytest.mark.parametrize("state", STATES, ids=str)
def test_triage_gives_every_finding_the_class_that_the_finding_names(node: Node, state: dict[str, int | str]) -> None:
    """Each alone; several at once are triage's to weigh."""
    node.set(0, **state)
    (finding,) = findings(Nvml(host_pids=True).health()[0])
    health = Nvml(host_pids=True).health()[0]

    detection = Detection(
        alert=finding.alert,
        target=Target(cluster="west", node="node-7", gpu="0"),
        evidence=finding.evidence,
        started_at=health.observed_at,
        observed_at=health.observed_at,
    )

    assert classify([detection], load_library().taxonomy).failure_class == finding.failure_class


def test_every_alert_of_a_reading_is_tried_above(node: Node) -> None:
    """A new one needs its state here, and its rule in the taxonomy."""
    seen = set()
    for state in STATES:
        node.set(0, **state)
        seen |= {finding.alert for finding in findings(Nvml(host_pids=True).health()[0])}

    assert seen == set(ALERTS)
