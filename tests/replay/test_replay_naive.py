"""The script that Interlock is measured against does what such scripts do."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from activities.adapters.simulated import SimulatedSite
from runbooks.library import load_library, load_policy
from tests.replay.given import incident
from worker.replay_alone import HandClock
from worker.replay_naive import Naive

LIBRARY = load_library(None)


def hung(number: int, at: str) -> dict[str, Any]:
    """An alert of one engine."""
    return {
        "at": at, "alert": "EngineHang", "target": f"east/service/chat-east/endpoint/chat-east-{number}:8000",
        "severity": "critical", "resolves": "never",
        "evidence": {"generations_failed": 4, "generations_ok": 0, "siblings_ok": 5, "tokens_rising": False},
    }  # fmt: skip


async def run(folder: Path, **timeline: Any) -> Naive:
    """Three engines are called hung, one after another."""
    alerts = [hung(n, f"10:0{5 + n}") for n in range(3)]
    given = incident(folder, timeline={"alerts": alerts} | timeline)
    clock = HandClock(given.starts)
    naive = Naive(given, SimulatedSite(given, clock), load_policy(None), LIBRARY, clock)
    await naive.run()
    return naive


async def test_it_acts_at_once_on_each_alert(tmp_path: Path) -> None:
    """Three alerts a minute apart give three acts: nothing makes it wait for the first to help."""
    naive = await run(tmp_path)

    assert [d.at - naive.incident.starts for d in naive.did] == [timedelta(minutes=m, seconds=15) for m in (5, 6, 7)]


async def test_what_queued_up_during_a_halt_is_done_all_at_once_when_it_may_go_on(tmp_path: Path) -> None:
    """It respects a halt, but has no memory that what was true then may not be now."""
    says = [
        {"at": "1m", "who": "ana", "says": "halt", "about": "east"},
        {"at": "20m", "who": "ana", "says": "resume", "about": "east"},
    ]

    naive = await run(tmp_path, people=says)

    assert {d.at - naive.incident.starts for d in naive.did} == {timedelta(minutes=20)}
    assert len(naive.did) == 3
    assert len({tuple(d.change.after) for d in naive.did}) == 3


async def test_it_puts_back_what_it_did_when_the_alert_resolves_well_or_not(tmp_path: Path) -> None:
    """It believes the alert: the replica is back in rotation and nobody asked whether it answers."""
    alerts = [{**hung(0, "10:05"), "resolves": "10:20"}]

    naive = await run(tmp_path, alerts=alerts)

    found = await naive.site.traffic.effective(["endpoint/chat-east/chat-east-0:8000"])
    assert found == {"endpoint/chat-east/chat-east-0:8000": "in"}
