"""Plays many lanes side by side, a bounded number at a time: a new worker after each death, and what became of each."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from temporalio.client import Client

from tests.crash_kube.cases import Story
from tests.crash_kube.hands import ordered, resets
from tests.crash_kube.lane import Lane, running_lane
from tests.crash_kube.prepare import prepare
from tests.crash_kube.tally import of_lane
from tests.kube.audit import Write
from tests.kube.control_plane import ControlPlane

AT_ONCE, STARTING = 12, 4
"""Lanes side by side, and of these so many may be starting: a dozen at once would keep two cores from all the others."""


@dataclass(frozen=True)
class Role:
    """One lane to be played. `end`: the kill point and the how-manieth time it is reached."""

    name: str
    story: Story
    end: tuple[str, int]


@dataclass
class Ending:
    """What became of one lane. Where something failed, `why` says what, and the rest may be missing."""

    role: Role
    why: str = ""
    deaths: int = 0
    result: dict[str, Any] = field(default_factory=dict)
    namespace: str = ""
    writes: list[Write] = field(default_factory=list)
    journal: list[str] = field(default_factory=list)
    holder: str | None = None
    standing: int = 0
    before: dict[str, Any] = field(default_factory=dict)
    after: dict[str, Any] = field(default_factory=dict)
    resets: list[str] = field(default_factory=list)
    reboots: int = 0
    timeline: str = ""


@dataclass(frozen=True)
class Stage:
    """Where lanes are played. `kubeconfigs` by ServiceAccount; `bind` gives these accounts their roles in a namespace."""

    client: Client
    plane: ControlPlane
    kubeconfigs: dict[str, Path]
    folder: Path
    starting: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(STARTING))

    async def play(self, roles: Sequence[Role]) -> dict[str, Ending]:
        """Name of the role → its ending. Raises nothing for what a case did wrong."""
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(role: Role) -> Ending:
            async with gate:
                return await _play(self, role)

        endings = await asyncio.gather(*(one(role) for role in roles))
        writes = await asyncio.to_thread(self.plane.writes)
        for ending in endings:
            ending.writes = of_lane(writes, ending.namespace, ending.role.name)
        return {ending.role.name: ending for ending in endings}

    def bind(self, namespace: str) -> None:
        """The shipped roles of docs/rbac, for the pods of one namespace."""
        for manifest in manifests(namespace):
            self.plane.apply(manifest)


def manifests(namespace: str) -> list[str]:
    """docs/rbac as shipped, but for the namespace of the pools."""
    folder = Path(__file__).parents[2] / "docs" / "rbac"
    texts = [
        path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.yaml"), key=lambda p: p.stem != "fence")
    ]
    return [text.replace("namespace: inference", f"namespace: {namespace}") for text in texts]


async def _play(stage: Stage, role: Role) -> Ending:
    ending = Ending(role)
    try:
        async with AsyncExitStack() as stack:
            async with stage.starting:
                lane = await stack.enter_async_context(
                    running_lane(
                        stage.client, stage.plane, stage.kubeconfigs, stage.folder, role.story, role.name, role.end
                    )
                )
                ending.namespace = lane.cluster.namespace
                await asyncio.to_thread(stage.bind, lane.cluster.namespace)
                await prepare(lane)
                await lane.fail()
                ending.before = await asyncio.to_thread(lane.world)
                await lane.start_workers()
            await _case(lane, ending)
    except (AssertionError, RuntimeError, httpx.HTTPError) as error:
        ending.why = f"{ending.why}\n{error!r}"
    return ending


async def _case(lane: Lane, ending: Ending) -> None:
    helpers = [asyncio.create_task(lane.keep_working()), asyncio.create_task(_reboots(lane))]
    try:
        await lane.open()
        await lane.in_state("mitigated")
        await lane.heal()
        ending.result = await lane.result()
        ending.timeline = timeline(await lane.status())
        ending.journal = lane.journal()
        view = await lane.guard()
        ending.holder, ending.standing = view.holder, len(view.standing)
        ending.after = await asyncio.to_thread(lane.world)
        ending.resets, ending.reboots = resets(lane.folder), ordered(lane.folder)
        for helper in helpers:
            if helper.done():
                helper.result()
        ending.deaths = lane.deaths
    except AssertionError as error:
        broken = [repr(h.exception()) for h in helpers if h.done() and h.exception()]
        ending.why = f"{error}\n{broken}\n{timeline(await lane.status())}\n{lane.cluster.world.told()}\n{lane.log()}"
    finally:
        for helper in helpers:
            helper.cancel()
        await asyncio.gather(*helpers, return_exceptions=True)


async def _reboots(lane: Lane) -> None:
    """The machine does what it is told: each order ends one boot."""
    done = 0
    while True:
        await asyncio.sleep(0.1)
        if ordered(lane.folder) > done:
            done += 1
            boot_id = await asyncio.to_thread(lane.cluster.kubelet.reboot_node, lane.node)
            (lane.folder / "boot_id").write_text(boot_id)


def timeline(status: dict[str, Any]) -> str:
    """A case's timeline for a failed test."""
    return "\n".join(f"{e['at'][11:23]} {e['what']}: {e['text']}" for e in status.get("timeline", []))
