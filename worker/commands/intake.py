"""`interlock intake`: serves the doors. Stateless: run as many as you like."""

from __future__ import annotations

import logging

import typer

app = typer.Typer()


@app.command()
def intake() -> None:
    """Serve the HTTP doors: alerts of detectors, and decisions of people when INTERLOCK_PEOPLE__… is set."""
    # Here and not above: these cost more than a second, which `interlock approve` must not pay.
    from worker.intake_process import serve_doors
    from worker.serving import serving

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # at INFO it logs URLs, and a webhook's URL is a secret
    serving(serve_doors())
