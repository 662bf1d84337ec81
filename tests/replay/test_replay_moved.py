"""An incident of another year is played on today's clock, and is the same incident."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from runbooks.library import load_policy
from tests.replay.given import incident
from worker.replay_moved import moved, observing, policy_at

NOW = datetime(2031, 5, 6, 7, 8, 9, 123_000, tzinfo=UTC)


def test_every_time_of_the_file_keeps_its_distance_from_the_start(tmp_path: Path) -> None:
    """Times of day, offsets, and whole dates all move alike, those of the truth included."""
    before = incident(
        tmp_path,
        timeline={
            "alerts": [
                {
                    "at": "10:05", "alert": "EngineHang", "target": "east/service/chat-east/endpoint/chat-east-0:8000",
                    "began": "10:04:30", "measured": "2025-01-31T10:04:50Z", "resolves": "40m",
                }
            ],
            "people": [{"at": "20m", "who": "ana", "says": "halt", "about": "east"}],
        },
    )  # fmt: skip

    after = moved(before, NOW)

    assert after.starts == NOW
    for was, now in zip(before.timeline.faults, after.timeline.faults, strict=True):
        assert after.moment(now.at) - NOW == timedelta(seconds=before.seconds(was.at))
    [was_alert], [now_alert] = before.timeline.alerts, after.timeline.alerts
    for field, seconds in {"at": 300, "began": 270, "measured": 290, "resolves": 2400}.items():
        assert before.seconds(getattr(was_alert, field)) == seconds
        assert after.moment(getattr(now_alert, field)) == NOW + timedelta(seconds=seconds)
    assert after.moment(after.timeline.people[0].at) == NOW + timedelta(minutes=20)
    assert after.truth.mitigated is not None
    assert after.moment(after.truth.mitigated) == NOW + timedelta(minutes=42)


def test_what_began_before_the_first_moment_played_still_did(tmp_path: Path) -> None:
    """A negative distance is kept as well: the fault is half an hour old when the play begins."""
    alert = {"at": "1m", "alert": "X", "target": "east/service/chat-east", "began": "2025-01-31T09:30:00Z"}
    after = moved(incident(tmp_path, timeline={"alerts": [alert]}), NOW)

    began = after.timeline.alerts[0].began
    assert began is not None
    assert after.moment(began) == NOW - timedelta(minutes=30)


def test_the_sites_freeze_moves_with_it_and_joins_the_policys_own(tmp_path: Path) -> None:
    """What the site says of freezes, residency, and people holds in the policy that is played."""
    freeze = {"name": "launch", "starts": "2025-01-31T10:10:00Z", "ends": "2025-01-31T11:00:00Z", "reason": "launch"}
    site = {"freezes": [freeze], "residency": {"eu": ["uk"]}, "group": ["zoe"]}
    answers = {"decision": "nobody", "people": ["zoe"]}
    after = moved(incident(tmp_path, site=site, timeline={"answers": answers}), NOW)

    policy = policy_at(after, load_policy(None))

    assert policy.frozen("east", NOW + timedelta(minutes=9)) is None
    assert policy.frozen("east", NOW + timedelta(minutes=11)) is not None
    assert policy.placement.residency["eu"] == ("uk",)
    assert policy.groups["sre-oncall"] == ("zoe",)


def test_a_site_may_let_a_class_run_unattended_and_keep_what_is_not_declared_where_it_is(tmp_path: Path) -> None:
    """Where the policy that is played asks, and no further: what only observes goes on observing."""
    site = {"unattended": ["infra.gpu_fault", "unknown"], "undeclared": "deny"}
    here = moved(incident(tmp_path, site=site), NOW)
    shipped = load_policy(None)

    policy = policy_at(here, shipped)

    assert (shipped.for_class("infra.gpu_fault").mode, policy.for_class("infra.gpu_fault").mode) == ("ask", "auto")
    assert policy.for_class("infra.gpu_fault").quorum == shipped.for_class("infra.gpu_fault").quorum
    assert policy.for_class("unknown").mode == "observe"
    assert policy.for_class("engine.crash") == shipped.for_class("engine.crash")
    assert (shipped.placement.undeclared, policy.placement.undeclared) == ("allow", "deny")
    assert policy_at(here, observing(shipped)).for_class("infra.gpu_fault").mode == "observe"


def test_observing_changes_nothing_but_every_classs_mode() -> None:
    """The baseline that only watches judges by the same limits."""
    policy = load_policy(None)
    watching = observing(policy)

    assert {c.mode for c in (watching.default, *watching.classes.values())} == {"observe"}
    assert watching.levers == policy.levers
