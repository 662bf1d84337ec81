"""The demo itself: a Kubernetes cluster is started, one of its GPU nodes fails, and Interlock handles it."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from tests.kube.demo import layout, report
from tests.kube.demo.picture import draw
from tests.kube.demo.report import ClusterSummary
from tests.kube.demo.stage import Stage, running_stage
from tests.kube.demo.story import NodeStory, node_story
from tests.kube.demo.view import ClusterView
from tests.kube.demo.writes import audited, words
from worker.demo.processes import interruptible
from worker.demo.summary import CaseSummary
from worker.errors import OperatorError

STATE = Path(".state/demo-cluster")


@dataclass(frozen=True)
class Options:
    """How it runs, as for `interlock demo`."""

    state: Path = STATE
    yes: bool = False
    json: bool = False


async def run_demo(options: Options) -> tuple[ClusterSummary, str]:
    """The summary, and the story for people. DemoFailed or ChildFailed when it cannot go on; everything has ended then."""
    out = sys.stderr if options.json else sys.stdout
    view = ClusterView(out, tty=out.isatty())
    async with running_stage(options.state, view) as stage:
        node = layout.node_to_fail(stage.cluster)
        evicted = [p for pool in layout.POOLS for p, at in stage.cluster.placement(pool.name).items() if at == node]
        story = node_story(stage, node, options.yes)
        picture: Path | None = None
        try:
            case = await story.acted()
            await asyncio.sleep(3)  # the end of the picture shows that it stays well
        finally:
            picture = _draw(stage, story)
        stage.cluster.world.caught_up()
        summary = _summary(stage, case, node, evicted, picture)
        text = report.told(summary, story.record, story.marks[0].at, story.seen, audited(stage.plane))
    return summary, text


def _draw(stage: Stage, story: NodeStory) -> Path | None:
    if not stage.load.requests:
        return None
    title = f"make demo-cluster: {story.fault.name}; {stage.load.rate:g} requests/s"
    minimum = min(p.min_available for p in layout.POOLS)
    path = stage.tree.folder / "timeline.png"
    return draw(stage.load.requests, story.marks, stage.serving.curves, minimum, path, title)


def _summary(stage: Stage, case: CaseSummary, node: str, evicted: list[str], picture: Path | None) -> ClusterSummary:
    audit, minimum = audited(stage.plane), stage.minimum
    own = audit.only_of(node, evicted)
    well = case.outcome == "restored" and case.restored and case.alert_to_mitigated_s is not None
    return ClusterSummary(
        ok=well and not minimum.violations and own,
        policy="demo-cluster",
        engines="simulated",
        engines_note="a pod of this control plane is a real process that answers generations, without a GPU",
        requests=len(stage.load.requests),
        failed_requests=sum(1 for r in stage.load.requests if not r.ok),
        cases=(case,),
        picture=str(picture or ""),
        state=str(stage.tree.folder),
        ui=stage.view.links["Temporal UI"],
        node=node,
        minimum=minimum.needed,
        least=minimum.least,
        minimum_violations=len(minimum.violations),
        events_judged=minimum.events,
        writes=tuple(words(w) for w in audit.acts),
        only_its_own_writes=own,
    )


def main(
    yes: Annotated[bool, typer.Option("--yes", help="Approve by the API instead of waiting for a click.")] = False,
    json: Annotated[bool, typer.Option("--json", help="The summary as the last line of stdout.")] = False,
    state: Annotated[Path, typer.Option(help="Folder for logs, records and the picture; emptied first.")] = STATE,
) -> None:
    """Start a Kubernetes cluster, fail one of its nodes, and show what Interlock does about it. About two minutes."""
    options = Options(state, yes, json)
    try:
        summary, text = asyncio.run(interruptible(run_demo(options)))
    except KeyboardInterrupt:
        print("interrupted; everything is stopped", file=sys.stderr)
        raise typer.Exit(130) from None
    except OperatorError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(1) from None
    print(text, file=sys.stderr if json else sys.stdout)
    if json:
        print(summary.line())
    raise typer.Exit(0 if summary.ok else 1)


if __name__ == "__main__":
    typer.run(main)
