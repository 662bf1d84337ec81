"""engine.crash on a pool: it lost engines, traffic moves in increments once people have agreed."""

from __future__ import annotations

import httpx

from tests import histories
from tests import lab as labs


async def weights(lab: labs.Lab) -> dict[str, int]:
    """The split that Envoy applies."""
    entries = (await lab.http.get(f"{lab.admin}/runtime?format=json")).json()["entries"]
    return {k.rsplit(".", 1)[1]: int(v["final_value"]) for k, v in entries.items() if k.startswith("routing.split.")}


SEEN = 15
"""Failed requests after which the proxy's figures are those of the fault alone. A detector takes longer than they do; a
first reading from before the fault would make every increment look worse than what was there before it."""


async def lose(lab: labs.Lab, *names: str) -> None:
    """Kills engines, and waits until they refuse connections and users have felt it."""
    had = len(lab.failures)
    for name in names:
        lab.engines[name].kill()

        async def gone(engine: labs.Engine = lab.engines[name]) -> bool:
            try:
                await lab.http.get(f"http://{engine.address}/health", timeout=1)
            except httpx.ConnectError:
                return True
            return False

        await labs.until(gone, f"{name} refuses connections")

    async def felt() -> bool:
        return len(lab.failures) >= had + SEEN

    await labs.until(felt, "users have felt it")


async def test_a_pool_that_lost_engines_is_rerouted_in_increments_after_approval_and_ramped_back(lab: labs.Lab) -> None:
    """Ask → a person approves by signal → two increments, each verified → engines back → ramped restore."""
    async with labs.running_worker(lab.parts()):
        await lose(lab, "a0", "a1")
        detection = lab.lost("chat-a", 1)
        handle = await lab.start(detection)
        waiting = (await lab.in_state(handle, "waiting_approval"))["waiting"]

        assert await weights(lab) == {"chat-a": 50, "chat-b": 50}

        await handle.signal(
            "decide", {"step": waiting["step"], "plan": waiting["digest"], "decision": "approve", "reason": "go"}
        )
        status = await lab.in_state(handle, "mitigated", 60)

        assert await weights(lab) == {"chat-a": 0, "chat-b": 100}
        assert [d["accepted"] for d in status["record"]["decisions"]] == [True]

        await lab.heal()
        await lab.resolve(detection)
        result = await handle.result()
        await histories.keep_chosen(handle)

        assert (result["outcome"], result["lever"]) == ("restored", "reroute_traffic")
        assert await weights(lab) == {"chat-a": 50, "chat-b": 50}


async def test_one_more_alert_of_the_same_fault_does_not_leave_half_of_a_step_standing(lab: labs.Lab) -> None:
    """It comes between two increments: the case plans again, asks again, and goes on to the end of the step."""
    async with labs.running_worker(lab.parts()):
        await lose(lab, "a0", "a1")
        detection, more = lab.lost("chat-a", 1), lab.lost("chat-a", 1, fingerprint="another")
        handle = await lab.start(detection)
        for word in ("first", "again"):
            waiting = (await lab.in_state(handle, "waiting_approval"))["waiting"]
            await handle.signal(
                "decide", {"step": waiting["step"], "plan": waiting["digest"], "decision": "approve", "reason": word}
            )
            await lab.in_state(handle, "verifying", 60)
            if word == "first":
                await handle.signal("detect", more)
        await lab.in_state(handle, "mitigated", 60)

        assert await weights(lab) == {"chat-a": 0, "chat-b": 100}

        await lab.heal()
        await lab.resolve(detection)
        await lab.resolve(more)
        result = await handle.result()

        assert (result["outcome"], result["lever"]) == ("restored", "reroute_traffic")
        assert await weights(lab) == {"chat-a": 50, "chat-b": 50}
