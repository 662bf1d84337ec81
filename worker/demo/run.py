"""`make demo`: everything started, two faults made, the run summed up and drawn, everything stopped."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from worker.demo.engines import POOLS, Choice
from worker.demo.interlock import PolicyName
from worker.demo.live import View
from worker.demo.picture import Mark, draw
from worker.demo.plant import DemoFailed, Plant, running_plant
from worker.demo.processes import interruptible
from worker.demo.story import Story, faults
from worker.demo.summary import CaseSummary, Summary


@dataclass(frozen=True)
class Options:
    """How the demo runs. `yes`: approve by the API instead of waiting for a click. `json`: people's text to stderr."""

    state: Path = Path(".state/demo")
    engines: Choice = "auto"
    policy: PolicyName = "demo"
    yes: bool = False
    json: bool = False


async def run_demo(options: Options) -> Summary:
    """Two faults, one after the other. DemoFailed or ChildFailed when it cannot go on; all children have ended then."""
    view = view_for(options.json)
    async with running_plant(options.state, view, options.engines, options.policy) as plant:
        cases, marks = list[CaseSummary](), list[Mark]()
        try:
            for fault in faults(plant):
                story = Story(plant, fault, options.yes)
                try:
                    cases.append(await (story.observed() if options.policy == "observe" else story.acted()))
                finally:
                    marks += story.marks
            await asyncio.sleep(4)  # the end of the picture shows that it stays well
        finally:
            picture = _draw(plant, marks, options.policy)
        return summarise(plant, cases, options.policy, picture)


async def run_up(options: Options) -> None:
    """The same without faults, until interrupted."""
    view = view_for(options.json)
    async with running_plant(options.state, view, options.engines, options.policy) as plant:
        view.say("everything runs; break something yourself. Ctrl-C ends it")
        view.say(f"processes: {plant.tree.folder / 'processes.txt'}; intake: {plant.interlock.url}")
        while True:
            plant.tree.check()
            await asyncio.sleep(1)


def view_for(json: bool) -> View:
    """Drawn on a terminal, plain lines elsewhere; on stderr when stdout is for JSON."""
    out = sys.stderr if json else sys.stdout
    return View(out, tty=out.isatty())


def summarise(plant: Plant, cases: Sequence[CaseSummary], policy: PolicyName, picture: Path | None) -> Summary:
    """What the run says at its end."""
    wanted = "not acted" if policy == "observe" else "restored"
    return Summary(
        ok=all(c.outcome == wanted for c in cases),
        policy=policy,
        engines=plant.engines.kind,
        engines_note=plant.engines.note,
        requests=len(plant.load.requests),
        failed_requests=sum(1 for r in plant.load.requests if not r.ok),
        cases=tuple(cases),
        picture=str(picture or ""),
        state=str(plant.tree.folder),
        ui=plant.view.links["Temporal UI"],
    )


def _draw(plant: Plant, marks: Sequence[Mark], policy: PolicyName) -> Path | None:
    if not plant.load.requests:
        return None
    title = f"Interlock demo, policy {policy}, {plant.engines.kind} engines, {plant.load.rate:g} requests/s"
    path = draw(plant.load.requests, marks, POOLS, plant.tree.folder / "timeline.png", title)
    plant.view.say(f"picture: {path}")
    return path


def main(options: Options) -> Summary:
    """Runs the demo to its end, from the main thread. KeyboardInterrupt when it was interrupted, all children ended."""
    return asyncio.run(interruptible(run_demo(options)))


def up(options: Options) -> None:
    """Runs `interlock up` until it is interrupted."""
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(interruptible(run_up(options)))


__all__ = ["DemoFailed", "Options", "main", "run_demo", "run_up", "up"]
