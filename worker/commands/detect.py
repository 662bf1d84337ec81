"""`interlock detect`: the built-in detectors, for fleets that have no better ones: real generations, or a node's GPUs."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import httpx
import typer
from pydantic import ValidationError

from activities.adapters.probe import HttpProber
from runbooks.detection import Target
from runbooks.fleet import Fleet
from worker.detect import Detector
from worker.detect_send import IntakeSink, TokenCounters
from worker.settings import BadSettings, Settings, load

app = typer.Typer()
Period = Annotated[
    float, typer.Option(min=0.1, help="Seconds between two generations on one endpoint, or two readings.")
]
Deadline = Annotated[float, typer.Option(min=0.1, help="A generation without a token by then has failed, seconds.")]
Gpus = Annotated[bool, typer.Option("--nvml", help="Watch the GPUs of this machine instead of the fleet's endpoints.")]
Node = Annotated[str, typer.Option(help="With --nvml: the name of this node, as Kubernetes has it.")]
Cluster = Annotated[str, typer.Option(help="With --nvml: the cluster that the node is in.")]
Lock = Annotated[
    Path | None,
    typer.Option(
        help="With --nvml: lock files shared with this node's worker, so that both let go of a GPU for its reset."
    ),
]
State = Annotated[
    Path | None,
    typer.Option(
        help="With --nvml: a file that outlives a reboot, so that what was told before it is taken back after it."
    ),
]


@app.command()
def detect(
    period_s: Period = 1.0,
    deadline_s: Deadline = 2.0,
    nvml: Gpus = False,
    node: Node = "",
    cluster: Cluster = "",
    lock: Lock = None,
    state: State = None,
) -> None:
    """Ask every endpoint of the fleet for a token (or, with --nvml, this node's GPUs how they are), for ever, and tell the
    intake what that proves."""
    target = _target(nvml, node, cluster, lock or state)
    settings = load()
    token = settings.intake.bearer()
    if token is None:
        raise BadSettings(
            "INTERLOCK_INTAKE__TOKEN (or __TOKEN_FILE) is not set: the intake takes no detection without it"
        )
    secret = token.get_secret_value()
    try:
        if target is not None:
            asyncio.run(run_nvml_detector(target, settings, secret, period_s, lock, state))
        else:
            from worker.doors import fleet_of  # here: it loads what `interlock approve` must not pay for

            asyncio.run(run_detector(fleet_of(settings), settings.api_url, secret, period_s, deadline_s))
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def _target(nvml: bool, node: str, cluster: str, file: Path | None) -> Target | None:
    """The node to watch, or None for the fleet. A usage error when the options do not fit each other."""
    if not nvml:
        if node or cluster or file:
            raise typer.BadParameter("--node, --cluster, --lock and --state go with --nvml")
        return None
    if not (node and cluster):
        raise typer.BadParameter("--nvml needs --node and --cluster: a detection must say which node it is about")
    try:
        return Target(cluster=cluster, node=node)
    except ValidationError:
        raise typer.BadParameter("--node and --cluster are names without spaces, slashes or any of | ` < >") from None


async def run_detector(
    fleet: Fleet, intake_url: str, token: str, period_s: float = 1.0, deadline_s: float = 2.0
) -> None:
    """The detector and its sender, until cancelled. Either one that fails ends both with its error."""
    # Every endpoint may hold connections to its deadline: the default limit of 100 would make a large fleet look slow.
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(trust_env=False, limits=limits) as http, asyncio.TaskGroup() as group:
        sink = IntakeSink(intake_url, token, http)
        prober = HttpProber(fleet, http, {}, timeout_s=deadline_s)
        counter = TokenCounters(fleet, http)
        detector = Detector(fleet, prober, sink, counter=counter, period_s=period_s, deadline_s=deadline_s)
        group.create_task(sink.run())
        group.create_task(detector.run())


async def run_nvml_detector(
    target: Target,
    settings: Settings,
    token: str,
    period_s: float = 1.0,
    lock: Path | None = None,
    state: Path | None = None,
) -> None:
    """The same for the GPUs of this machine. PortError in one sentence when there is no NVML here."""
    from activities.adapters.node_agent import read_boot_id
    from activities.adapters.nvml import Nvml  # here: other machines have no use for it
    from activities.adapters.nvml_quiet import Quiet
    from runbooks.xid import xid_table
    from worker.detect_nvml import NvmlDetector
    from worker.detect_nvml_state import StateFile

    xids = xid_table(settings.catalog_dir)
    watched = Nvml(Quiet(lock) if lock is not None else None)
    memory = StateFile(state, read_boot_id()) if state is not None else None
    async with httpx.AsyncClient(trust_env=False) as http:
        sink = IntakeSink(settings.api_url, token, http)
        detector = NvmlDetector(
            target.cluster, target.node or "", watched, xids, sink, period_s=period_s, memory=memory
        )
        sending = asyncio.create_task(sink.run())
        detecting = asyncio.create_task(detector.run())
        try:
            # Not a TaskGroup: the command line knows a PortError, not a group of one.
            done, _ = await asyncio.wait({sending, detecting}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            sending.cancel()
            detecting.cancel()
            await asyncio.gather(sending, detecting, return_exceptions=True)
