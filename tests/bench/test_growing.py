"""The growing measures' own parts. Nothing here is timed or measured."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path

from tests.bench.contestant import Target
from tests.bench.growing_alerts import group
from tests.bench.growing_report import closing, storm, waiting, write
from tests.bench.growing_site import Site
from tests.bench.procfs import cpu_s, memory
from worker import alertmanager
from worker.demo.processes import ProcessTree
from worker.settings import IntakeSettings

NONE = {
    "waits": "approval", "asked": 0, "waiting": 0, "open": 0, "took_s": 0.0, "worker": {"rss": 150.0, "pss": 120.0, "peak": 150.0},
    "server": {"rss": 200.0, "pss": 150.0, "peak": 200.0}, "cached": 10.0, "evicted": 3.0, "workflow_tasks": 0.0,
    "activities": 0.0, "worker_cpu": 0.1, "server_cpu": 0.1, "events": 0, "bytes": 0,
}  # fmt: skip


def test_what_a_case_costs_is_told_against_the_worker_with_none() -> None:
    """100 cases more and 25 MiB more are 256 KiB each; cases that went another way are said."""
    grown = NONE | {"asked": 110, "waiting": 100, "open": 104, "worker": {"rss": 175.0, "pss": 140.0, "peak": 180.0}}

    head, none, row = waiting([NONE, grown])

    assert len(head) == len(none) == len(row)
    assert (none[3], row[1], row[3]) == ("–", "100 of 104 open", "256")


def test_a_second_worker_is_told_as_a_ratio() -> None:
    """Against the first row."""
    one = {"workers": 1, "asked": 30, "closed": 30, "took_s": 10.0, "per_s": 3.0, "workers_cpu": 0.9, "server_cpu": 0.4}

    assert [row[4] for row in closing([one, one | {"workers": 2, "per_s": 4.5}])[1:]] == ["1.00", "1.50"]


def test_parts_of_two_runs_stand_in_one_file_with_their_own_machines(tmp_path: Path) -> None:
    """What is measured today does not lend its load or its commit to what was measured yesterday."""
    row = {
        "alerts": 100, "targets": 5, "size": 50, "accepted": 100, "took_s": 1.0, "accepted_per_s": 100.0,
        "answer": {"p50": 5.0, "p99": 9.0}, "refused": 0, "intake_before": 90.0, "intake_peak": 99.0, "signals_median": 1,
        "signals_most": 2, "in_histories": 100, "in_records": 99, "closed_s": 20.0, "still_open": 1,
    }  # fmt: skip
    old, new = {"load": "0.1", "beside": "nothing"}, {"load": "9.9", "beside": "a build"}

    write(tmp_path, {"approval": {"machine": old, "rows": [NONE]}, "storm": {"machine": new, "rows": [row]}})

    text = (tmp_path / "table.md").read_text()
    assert "load 0.1. Beside it on the machine: nothing." in text
    assert "load 9.9. Beside it on the machine: a build." in text
    assert storm([row])[1][-2:] == ["100, 99", "20, 1 still open"]


def test_a_group_of_the_storm_is_what_the_intake_takes(tmp_path: Path) -> None:
    """Every alert a Detection of its own target, by its own fingerprint, with none that is bad."""
    with ProcessTree(tmp_path) as tree:
        places = Site(tree, domains=3, pools=2, sick=2, changes={}).all_targets()
    alerts = [(target, f"storm-{n}") for n, target in enumerate(places)]
    found = alertmanager.parse(json.loads(group(alerts)), datetime.now(UTC), IntakeSettings(), None)

    assert len(places) == 12
    assert not found.bad
    assert {d.fingerprint for d in found.good} == {f for _, f in alerts}
    assert len({d.workflow_id for d in found.good}) == 12
    assert [Target(d.target.cluster, d.target.service or "", d.target.endpoint or "") for d in found.good] == places


def test_the_memory_and_time_of_a_process_are_read() -> None:
    """Of this very one: shared pages are counted in RSS, by their share in PSS; the peak is no less than now."""
    used, seen = cpu_s(os.getpid()), memory(os.getpid())

    assert 0 < seen.pss <= seen.rss <= seen.peak
    assert cpu_s(os.getpid()) >= used > 0
