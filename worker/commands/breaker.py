"""`interlock breaker reset`: a domain whose breaker has tripped acts again only when a person says so."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

import typer

from worker.commands.client import call

app = typer.Typer(help="The breaker of a domain.", no_args_is_help=True)


@app.callback()
def _breaker() -> None:
    """The breaker of a domain: it trips on too many acts or bad outcomes, and only a person resets it."""


@app.command()
def reset(
    domain: Annotated[str, typer.Argument(help="The domain (cluster).")],
    reason: Annotated[str, typer.Option(help="Why it is safe again. It goes into the record.")],
) -> None:
    """Let levers of this domain move again. Look first at what tripped the breaker."""
    answer = call("POST", f"/v1/domains/{quote(domain, safe='')}/reset-breaker", {"reason": reason})
    typer.echo(
        f"breaker reset of {', '.join(answer['domains'])} by {answer['who']}: levers may move there again, unless they are "
        "halted; every case plans anew"
    )
