"""engine.hang: one engine accepts work and makes no tokens."""

from __future__ import annotations

from tests import histories
from tests import lab as labs


async def test_a_hung_engine_is_isolated_unattended_verified_and_restored_when_it_goes_on(lab: labs.Lab) -> None:
    """The main job: detection → gates → Guard → Envoy changed → verified → stands → restored → closed."""
    sick = lab.engines["a0"]
    async with labs.running_worker(lab.parts()):
        sick.stop()
        detection = lab.hang(sick)
        handle = await lab.start(detection)
        status = await lab.in_state(handle, "mitigated")

        assert sick.address not in await lab.rotation("chat-a")

        sick.go_on()
        await lab.resolve(detection)
        result = await handle.result()
        await histories.keep_chosen(handle)

        assert (result["outcome"], result["lever"], result["restored"]) == ("restored", "isolate_endpoint", True), (
            status
        )
        assert sick.address in await lab.rotation("chat-a")
