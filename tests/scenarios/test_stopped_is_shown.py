"""Whoever looks at cases sees that levers are stopped: an approval that is given meanwhile would be asked for again."""

from __future__ import annotations

from tests import lab as labs
from tests.scenarios.test_guard_workflow import guard, start_guard, view
from worker.commands.cases import _stopped, _waiting
from worker.people_stopped import stopped


async def test_a_halt_is_named_with_the_command_that_ends_it(lab: labs.Lab) -> None:
    """In the list and at the case. A domain whose Guard never ran has stopped nothing."""
    async with labs.running_worker(lab.parts()):
        await start_guard(lab)

        async def has_read() -> bool:
            return not (await view(lab))["halted"]  # until it has read what stands, it is as if halted

        await labs.until(has_read, "it has begun")
        assert await stopped(lab.client, [labs.CLUSTER, "nowhere"], 3) == []
        await guard(lab).signal("halt", {"who": "ana", "reason": "looking"})

        async def halted() -> bool:
            return bool((await view(lab))["halted"])

        await labs.until(halted, "it is halted")
        found = await stopped(lab.client, [labs.CLUSTER, "nowhere"], 3)
        said = f"STOPPED lab: halted by ana: looking; no lever moves there until: interlock resume {labs.CLUSTER} --reason …"
        assert _stopped({"stopped": found}) == [said]
        assert _waiting({"state": "waiting_approval", "waiting": None, "stopped": found}, "remediate:lab")[0] == said
    # No worker answers for it now: nobody knows that it is free.
    assert [(s["domain"], s["by"]) for s in await stopped(lab.client, [labs.CLUSTER], 1)] == [(labs.CLUSTER, "unknown")]
    await lab.forget()


def test_a_tripped_breaker_names_its_own_command() -> None:
    """It is no halt, and a resume does not end it."""
    one = {"domain": "eu 1", "by": "breaker", "why": "3 bad outcomes"}
    assert _stopped({"stopped": [one]}) == [
        "STOPPED eu 1: 3 bad outcomes; no lever moves there until: interlock breaker reset 'eu 1' --reason …"
    ]
