"""Ends that are not the usual one: cancelled in Temporal, taken back from the journal, settled by hand."""

from __future__ import annotations

import asyncio
import json

import pytest

from activities.adapters.sql import SqlJournal
from runbooks.detection import guard_id
from runbooks.facts import GuardView
from runbooks.fleet import Fleet
from tests import histories
from tests import lab as labs
from worker.commands import undo
from worker.settings import EnvoySettings, Settings, TemporalSettings


def settings_of(lab: labs.Lab) -> Settings:
    """What the command line would read from the environment."""
    fleet = lab.folder / "fleet.yaml"
    fleet.write_text(json.dumps(Fleet.model_dump(lab.fleet, mode="json")))
    return Settings(
        temporal=TemporalSettings(address=lab.client.service_client.config.target_host),
        envoy=EnvoySettings(folder=lab.folder / "edge", admin_url=lab.admin),
        journal_url=lab.journal_url,
        fleet_file=fleet,
    )


async def test_a_case_that_is_cancelled_in_temporal_is_recorded_and_its_change_can_be_undone_by_hand(
    lab: labs.Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cancel in the UI: no act more, people own what stands, `interlock undo` takes it back and the Guard hears of it."""
    sick = lab.engines["a1"]
    async with labs.running_worker(lab.parts()):
        sick.stop()
        handle = await lab.start(lab.hang(sick))
        status = await lab.in_state(handle, "mitigated")
        receipt = status["record"]["steps"][0]["receipts"][0]["id"]
        await handle.cancel()
        result = await handle.result()
        await histories.keep_chosen(handle)

        assert (result["outcome"], result["restored"]) == ("adopted", False)
        assert any("cancelled" in page["title"] for page in lab.pages())
        journal = SqlJournal(lab.journal_url)
        assert json.loads(await journal.record(result["case"]) or "{}")["outcome"] == "adopted"

        sick.go_on()
        said = await undo._undo(settings_of(lab), receipt)

        assert "undone" in said
        assert sick.address in await lab.rotation("chat-a")
        assert await journal.state(receipt) == "undone"
        journal.dispose()

        async def forgotten() -> bool:
            view = await lab.client.get_workflow_handle(guard_id(labs.CLUSTER)).query("view", result_type=GuardView)
            return result["case"] not in {s.case for s in view.standing}

        await labs.until(forgotten, "the Guard no longer counts it")
        assert "already" in await undo._undo(settings_of(lab), receipt)


async def test_undo_leaves_alone_what_somebody_has_changed_since(lab: labs.Lab) -> None:
    """Compare-and-set also by hand: the receipt's after must still stand."""
    sick = lab.engines["b1"]
    async with labs.running_worker(lab.parts()):
        sick.stop()
        detection = lab.hang(sick)
        handle = await lab.start(detection)
        status = await lab.in_state(handle, "mitigated")
        receipt = status["record"]["steps"][0]["receipts"][0]["id"]
        sick.go_on()
        await lab.resolve(detection)
        assert (await handle.result())["outcome"] == "restored"

        before = await lab.envoy_counts()
        said = await undo._undo(settings_of(lab), receipt)

        assert "nothing was changed" in said
        assert await lab.envoy_counts() == before
        await asyncio.sleep(0)
