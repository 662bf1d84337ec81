"""`interlock detect`: the built-in generation-probe detector, for fleets that have no better one."""

from __future__ import annotations

import asyncio
from typing import Annotated

import httpx
import typer

from activities.adapters.probe import HttpProber
from runbooks.fleet import Fleet
from worker.detect import Detector
from worker.detect_send import IntakeSink, TokenCounters
from worker.settings import BadSettings, load

app = typer.Typer()
Period = Annotated[float, typer.Option(min=0.1, help="Seconds between two generations on one endpoint.")]
Deadline = Annotated[float, typer.Option(min=0.1, help="A generation without a token by then has failed, seconds.")]


@app.command()
def detect(period_s: Period = 1.0, deadline_s: Deadline = 2.0) -> None:
    """Ask every endpoint of the fleet for a token, for ever, and tell the intake what that proves."""
    from worker.doors import fleet_of  # here and not above: it loads what `interlock approve` must not pay for

    settings = load()
    token = settings.intake.bearer()
    if token is None:
        raise BadSettings(
            "INTERLOCK_INTAKE__TOKEN (or __TOKEN_FILE) is not set: the intake takes no detection without it"
        )
    fleet = fleet_of(settings)
    try:
        asyncio.run(run_detector(fleet, settings.api_url, token.get_secret_value(), period_s, deadline_s))
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


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
