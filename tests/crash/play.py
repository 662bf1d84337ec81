"""Plays many lanes side by side: one fault for all of them, a new worker after each death, and what became of each."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tests import lab as labs
from tests.crash.cases import Story
from tests.crash.lane import Lane, running_lane, timeline


@dataclass(frozen=True)
class Role:
    """One lane to be played. `end`: the kill point and the how-manieth time it is reached; None: no kill.

    `script` runs once the case is open, and looks after the workers; without one, each killed worker gets a successor.
    """

    name: str
    story: Story
    end: tuple[str, int] | None = None
    how: Literal["SIGKILL", "SIGSTOP"] = "SIGKILL"
    script: Callable[[Lane], Awaitable[None]] | None = None


@dataclass
class Ending:
    """What became of one lane. Where something failed, `why` says what, and the rest may be missing."""

    role: Role
    why: str = ""
    deaths: int = 0
    result: dict[str, Any] = field(default_factory=dict)
    taken_in: dict[str, int] = field(default_factory=dict)
    unsettled: tuple[str, ...] = ()
    holder: str | None = None
    standing: int = 0
    timeline: str = ""

    @property
    def acts(self) -> int:
        """Acts, undos and restores as Envoy counts them."""
        return self.taken_in.get(self.role.story.proof, 0)


async def play(lab: labs.Lab, folder: Path, roles: Sequence[Role]) -> dict[str, Ending]:
    """Fault, cases, deaths, healing, ends: name of the role → its ending. Raises nothing for what a case did wrong."""
    await lab.heal()
    async with AsyncExitStack() as stack:
        lanes = [
            await stack.enter_async_context(
                running_lane(lab, folder, r.story, r.name.replace("_", "-"), r.end, r.how, n)
            )
            for n, r in enumerate(roles)
        ]
        await asyncio.gather(*(lane.start_workers() for lane in lanes))
        await asyncio.gather(*(lane.warm() for lane in lanes))
        lab.engines["a0"].stop()
        acted, healed = asyncio.Barrier(len(lanes) + 1), asyncio.Event()
        plays = [asyncio.create_task(_play(lane, role, acted, healed)) for lane, role in zip(lanes, roles, strict=True)]
        await acted.wait()
        await lab.heal()
        healed.set()
        endings = await asyncio.gather(*plays)
    return {ending.role.name: ending for ending in endings}


async def _play(lane: Lane, role: Role, acted: asyncio.Barrier, healed: asyncio.Event) -> Ending:
    ending = Ending(role)
    keeper = asyncio.create_task(_nothing() if role.script else lane.keep_working())
    try:
        try:
            await lane.open()
            if role.script is not None:
                await role.script(lane)
            # What helps stands until the fault is gone; what harms is undone, and its case closes by itself.
            await lane.in_state("mitigated" if role.story.helps else "closed")
        finally:
            # A lane that failed must not keep the others waiting.
            await acted.wait()
        await healed.wait()
        if role.story.helps:
            await lane.resolve()
        ending.result = await lane.result()
        ending.timeline = timeline(await lane.status())
        ending.taken_in = await lane.taken_in()
        ending.unsettled = tuple(await lane.unsettled())
        view = await lane.guard()
        ending.holder, ending.standing = view.holder, len(view.standing)
        if keeper.done():
            keeper.result()
        ending.deaths = lane.deaths
    except AssertionError as error:
        ending.why = f"{error}\n{timeline(await lane.status())}\n{lane.log()}"
    finally:
        keeper.cancel()
        await asyncio.gather(keeper, return_exceptions=True)
    return ending


async def _nothing() -> None:
    """A script keeps the workers itself."""
