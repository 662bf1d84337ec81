"""`interlock cases did CASE`: people say what they did in a case, so that a class can be scored before it is promoted."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Annotated, Literal

import typer

from worker.settings import Settings, load


def did(
    case: Annotated[str, typer.Argument(help="Id of a closed case, or its workflow id when it had only one.")],
    lever: Annotated[str, typer.Option(help="The lever that people moved; none: they did nothing; other: no lever.")],
    who: Annotated[str, typer.Option(help="Who says so. It is kept beside the word, and grants nothing.")],
    note: Annotated[str, typer.Option(help="What is worth knowing, in a sentence.")] = "",
    target: Annotated[str, typer.Option(help="Id of what they did it to. None: what the case is about.")] = "",
    at: Annotated[
        str | None, typer.Option(help="When: a time (UTC without a zone), or 90m for ninety minutes ago.")
    ] = None,
    helped: Annotated[Literal["yes", "no"] | None, typer.Option(help="Whether it helped.")] = None,
) -> None:
    """Keep what people did in a closed case. Two acts are told one after the other; `none` takes back what was told."""
    from worker.scores import moment

    now = datetime.now(UTC)
    said = {"lever": lever, "target": target, "who": who, "note": note, "helped": helped}
    typer.echo(asyncio.run(_did(load(), case, {**said, "at": moment(at, now) if at is not None else None}, now)))


async def _did(settings: Settings, case: str, said: dict[str, object], now: datetime) -> str:
    from worker.scores import open_journal, tell

    journal = open_journal(settings.journal_url)
    try:
        return await tell(journal, case, said, now)
    finally:
        journal.dispose()
