"""A case that tries a restore again and again for hours must stay far from where the server ends it: 51,200 events."""

from __future__ import annotations

from pathlib import Path

from runbooks.incident_read import read_incident
from runbooks.library import load_library, load_policy
from worker.replay_one import Options, replay_one
from worker.replay_stage import Stage

RUSH = Path(__file__).parents[1] / "incidents/more/a-rush-that-outlasts-three-restores.yaml"


async def test_a_rush_of_three_hours_does_not_fill_the_history_of_its_case(stage: Stage, tmp_path: Path) -> None:
    """Looked at every five seconds and tried every sixteen minutes it took 7,000 events an hour: the server would have ended
    the case overnight, without a record. It is tried on, more and more rarely, and everybody is let in again at the end."""
    text = RUSH.read_text()
    for old, new in {"lasts: 3h": "lasts: 5h", "11:25": "13:25", "11:26": "13:26"}.items():
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "rush.yaml").write_text(text)
    _, rush = read_incident(tmp_path / "rush.yaml")
    row = await replay_one(stage, rush, Options(load_policy(None)), load_library(None))
    case = stage.client.get_workflow_handle("remediate:east/service/chat-east")
    events = [e async for e in case.fetch_history_events()]

    assert row.outcome == "restored"
    assert len(events) < 5_000
