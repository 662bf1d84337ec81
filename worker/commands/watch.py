"""`interlock watch`: looks at Guards, cases and intakes, and serves what it saw to Prometheus. One is enough; two are better."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import signal

import typer

from worker.errors import OperatorError
from worker.settings import Settings, load

app = typer.Typer()


@app.command()
def watch() -> None:
    """Watch Interlock itself: /metrics for Prometheus (INTERLOCK_WATCH__…). The alert rules are in docs/alerts/."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # at INFO it logs every question to an intake
    asyncio.run(_watch(load()))


async def _watch(settings: Settings) -> None:
    # Here and not above: these cost more than a second, which `interlock approve` must not pay.
    import httpx
    import uvicorn

    from worker.doors import fleet_of
    from worker.serving import door
    from worker.temporal import connect
    from worker.watchman import Watchman
    from worker.watchman_http import build_watch

    domains = fleet_of(settings).domains()
    # Lazy: it must be there, and say so, exactly when Temporal is not.
    client = await connect(settings.temporal, lazy=True)
    async with httpx.AsyncClient(trust_env=False) as http:
        watchman = Watchman(client, http, domains, settings.watch)
        server = uvicorn.Server(door(build_watch(watchman), settings.watch.host, settings.watch.port))
        # uvicorn would raise the signal once more when it is done, and so end us with another status.
        server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, functools.partial(setattr, server, "should_exit", True))
        rounds = asyncio.create_task(watchman.run())
        # A loop that died must not go on being served: the process ends with it, and its metrics with the process.
        rounds.add_done_callback(lambda _: setattr(server, "should_exit", True))
        logging.getLogger("interlock.watch").info(
            "%d domains every %g s, on %s:%d",
            len(domains),
            settings.watch.every_s,
            settings.watch.host,
            settings.watch.port,
        )
        try:
            await server.serve()
        finally:
            rounds.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await rounds
        if not server.started:
            raise OperatorError(f"port {settings.watch.port} of {settings.watch.host} cannot be listened on")
