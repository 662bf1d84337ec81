"""`interlock halt | resume`: stop every lever of one domain, or of all."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

import typer

from worker.commands.client import call, fail

app = typer.Typer()
AFTERWARDS = {
    "halt": "no lever moves there from now on; undo and restore go on. `interlock resume` lets them move again",
    "resume": "levers may move there again, unless the breaker has tripped; every case plans anew",
}
Domain = Annotated[str | None, typer.Argument(help="The domain (cluster).")]
All = Annotated[bool, typer.Option("--all", help="Every domain of the fleet file.")]
Reason = Annotated[str, typer.Option(help="Why. It is shown on every case that stops.")]


@app.command()
def halt(reason: Reason, domain: Domain = None, everywhere: All = False) -> None:
    """No lever moves from now on, but undo does. Running steps stop within 5 s."""
    _order("halt", domain, everywhere, reason)


@app.command()
def resume(reason: Reason, domain: Domain = None, everywhere: All = False) -> None:
    """Levers may move again. Every case plans anew; no backlog is replayed."""
    _order("resume", domain, everywhere, reason)


def _order(order: str, domain: str | None, everywhere: bool, reason: str) -> None:
    if (domain is None) != everywhere:
        raise fail(f"say which domain to {order}, or --all, and not both")
    path = f"/v1/{order}" if everywhere else f"/v1/domains/{quote(domain or '', safe='')}/{order}"
    answer = call("POST", path, {"reason": reason})
    typer.echo(f"{order} of {', '.join(answer['domains'])} by {answer['who']}: {AFTERWARDS[order]}")
