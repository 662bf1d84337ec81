"""Where no rule is sure, triage looks before anything is done; what it finds asks people, and what is proven does not wait for it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from activities.adapters.watched import WatchedProber
from runbooks.detection import Detection, Target
from tests import lab as labs


def _alert(name: str, target: Target, **evidence: Any) -> Detection:
    now = datetime.now(UTC)
    told = {"alert": name, "target": target, "severity": "critical", "evidence": evidence, "detector": "somebody"}
    return Detection.model_validate({**told, "started_at": now, "observed_at": now})


def _lines(status: dict[str, Any], what: str) -> list[str]:
    return [str(e["text"]) for e in status["timeline"] if e["what"] == what]


async def test_an_alert_that_says_nothing_is_classified_by_what_triage_sees(lab: labs.Lab) -> None:
    """The record says what was looked at, and which rule it fulfils."""
    async with labs.running_worker(lab.parts()):
        lab.engines["a0"].stop()
        handle = await lab.start(_alert("SomethingIsWrong", lab.pool("chat-a")))
        result = await handle.result()
        status = await lab.status(handle)

        assert result["failure_class"] == "engine.hang", status
        assert "endpoints_hung 1" in _lines(status, "looked")[0]
        found = status["record"]["classification"]
        assert found["rule"] == "any-endpoint-hung"
        assert any("by triage's look" in line for line in found["evidence"])
        assert await lab.rotation("chat-a") == {e.address for e in lab.engines.values() if e.pool == "chat-a"}


async def test_an_alert_of_any_name_takes_no_engine_out_before_people_agree_though_its_class_is_auto(
    lab: labs.Lab,
) -> None:
    """Its engine really hangs, and the policy lets a hang act: the proof is missing."""
    sick = lab.engines["a0"]
    async with labs.running_worker(lab.parts()):
        sick.stop()
        alert = _alert("NoTokens", lab.endpoint(sick), stalled_s=900)
        handle = await lab.start(alert)
        status = await lab.in_state(handle, "waiting_approval")

        assert sick.address in await lab.rotation("chat-a")
        assert (status["record"]["classification"]["rule"], status["record"]["mode"]) == ("any-engine-stalled", "ask")
        sick.go_on()
        await lab.resolve(alert)
        assert (await handle.result())["outcome"] == "self_resolved"


async def test_a_hang_that_is_proven_acts_without_a_look(lab: labs.Lab) -> None:
    """The fast path makes no further call."""
    sick = lab.engines["a0"]
    async with labs.running_worker(lab.parts()):
        sick.stop()
        detection = lab.hang(sick)
        handle = await lab.start(detection)
        status = await lab.in_state(handle, "mitigated")

        assert _lines(status, "looked") == []
        sick.go_on()
        await lab.resolve(detection)
        assert (await handle.result())["outcome"] == "restored"


async def test_one_more_alert_makes_a_case_look_again(lab: labs.Lab) -> None:
    """What was true when it began may not be all."""
    alerts = [_alert("SomethingIsWrong", lab.pool("chat-a"))]
    async with labs.running_worker(lab.parts(labs.policy().model_copy(update={"timing": LINGERS}))):
        handle = await lab.start(alerts[0])
        await lab.in_state(handle, "handed_over")
        lab.engines["a0"].stop()

        async def again() -> bool:
            # Anew until the watcher's own look, which triage takes, is from after the stop.
            alerts.append(_alert(f"More{len(alerts)}", lab.pool("chat-a")))
            await lab.start(alerts[-1])
            record = (await lab.status(handle))["record"]
            return bool(record["classification"]["failure_class"] == "engine.hang")

        await labs.until(again, "a later look finds the engine that hangs by then")
        assert len(_lines(await lab.status(handle), "looked")) >= 2
        for one in alerts:
            await lab.resolve(one)
        assert (await handle.result())["outcome"] == "paged"


LINGERS = labs.policy().timing.model_copy(update={"linger_s": 60})


async def test_a_case_goes_on_by_its_detectors_words_where_the_look_fails(
    lab: labs.Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever an adapter does that it never should: the case is no worse off than without a look."""

    async def broken(*_: Any) -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(WatchedProber, "generate", broken)
    async with labs.running_worker(lab.parts()):
        alert = _alert("SomethingIsWrong", lab.pool("chat-a"), kv_used=0.97)
        handle = await lab.start(alert)

        async def classified() -> Any:
            return (await lab.status(handle))["record"]["classification"]

        found = await labs.until(classified, "it is classified all the same")
        assert found["failure_class"] == "engine.exhaustion"
        assert _lines(await lab.status(handle), "could not look") == ["a fault of ours"]
        await lab.resolve(alert)
        await handle.result()
