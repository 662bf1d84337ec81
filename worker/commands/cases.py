"""`interlock cases`: what is open, what was closed, one case in full, and whether closed records are what was written."""

from __future__ import annotations

import asyncio
import json
import shlex
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from worker.commands.client import Failed, call, case_path, fail
from worker.did import did
from worker.settings import Settings, load

app = typer.Typer(help="Open and closed cases.", invoke_without_command=True)
app.command("did")(did)
WORDS = {"ok": "ok", "alone": "by itself", "no_chain": "no chain", "wrong": "WRONG"}
ALONE = (
    "{away}: each record was compared with itself only. Whoever edits a record and computes its chain anew is not found "
    "like this."
)


@app.callback()
def default(context: typer.Context) -> None:
    """Without a sub-command: the list."""
    if context.invoked_subcommand is None:
        list_cases()


@app.command("list")
def list_cases() -> None:
    """Open cases first, then the last closed ones."""
    found = call("GET", "/v1/cases")
    for line in _stopped(found):
        typer.echo(_line(line))
    for one in found["open"]:
        typer.echo(f"{one['state']:<16} {one['class'] or '-':<24} {one['started_at'][:19]}  {one['workflow_id']}")
    for one in found["closed"]:
        typer.echo(
            # Its own id: one target has many closed cases, and `cases show` takes this one.
            f"{_ended(one):<16} {one.get('class') or '-':<24} {str(one.get('closed_at', ''))[:19]}  "
            f"{one.get('case') or one['workflow_id']}"
        )
    if not found["open"] and not found["closed"]:
        typer.echo("no cases")


def _ended(one: dict[str, Any]) -> str:
    """How it was closed."""
    return str(one.get("outcome") or "closed").replace("_", " ")


@app.command("show")
def show(
    case: Annotated[str, typer.Argument(help="The case's workflow id, remediate:…, or the id of a closed case.")],
    style: Annotated[
        Literal["json", "markdown", "text"],
        typer.Option("--format", help="markdown: to be pasted into a post-mortem. text: for this terminal."),
    ] = "json",
) -> None:
    """Everything that the case says of itself: what it waits for, the digest to approve, who may, until when."""
    found = call("GET", case_path(case))
    if style == "json":
        typer.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    typer.echo(_written(found, style), nl=False)


def _written(found: dict[str, Any], style: Literal["markdown", "text"]) -> str:
    # Imported here: the list of cases needs none of it, and is asked for in the middle of an incident.
    from pydantic import ValidationError

    from runbooks.record import CaseRecord
    from runbooks.timeline import as_markdown, as_text

    if "record" not in found:
        raise fail(f"this case has no record yet: it is {found.get('state', 'in an unknown state')}")
    try:
        record = CaseRecord.model_validate(found["record"])
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))
        raise fail(f"its record is of another version ({where}): use --format json") from None
    if found.get("unsealed"):
        typer.echo(f"note: {found['unsealed']}, and the head of its chain may be another", err=True)
    if style == "markdown":
        return as_markdown(record)
    return as_text(record) + "".join(_line(line) + "\n" for line in _waiting(found, record.workflow_id))


def _waiting(found: dict[str, Any], workflow_id: str) -> list[str]:
    """What an open case waits for, and the command that answers it; whether its domain is stopped."""
    asked, stopped = found.get("waiting"), _stopped(found)
    if not asked:
        return [] if found["state"] == "closed" else [*stopped, f"state: {found['state']}"]
    given = f", given by {', '.join(asked['already'])}" if asked["already"] else ""
    words = ["interlock", "approve", workflow_id, "--step", asked["step"], "--digest", asked["digest"], "--reason", "…"]
    return [
        *stopped,
        f"state: {found['state']}: {asked['quorum']} of {asked['group']} until {asked['expires_at']}{given}",
        shlex.join(words),
    ]


def _stopped(found: dict[str, Any]) -> list[str]:
    """A line for each domain that is stopped, with the command that ends it."""
    ends = {"halt": "interlock resume {} --reason …", "breaker": "interlock breaker reset {} --reason …"}
    lines = []
    for one in found.get("stopped", ()):
        end = ends.get(one["by"], "").format(shlex.quote(one["domain"]))
        word = "STOPPED" if end else "STOPPED?"
        lines.append(f"{word} {one['domain']}: {one['why']}" + (f"; no lever moves there until: {end}" if end else ""))
    return lines


@app.command("verify")
def verify(
    case: Annotated[str | None, typer.Argument(help="Id of a closed case, or its workflow id.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every closed case, and those that are gone.")] = False,
    strict: Annotated[
        bool, typer.Option(help="Exit 1 as well for what nothing outside of the journal vouches for.")
    ] = False,
) -> None:
    """Find what was changed in closed records: by their own chain, and by what Temporal has. Exit 1 when anything is wrong."""
    if (case is None) != everything:
        raise fail("name one case, or give --all")
    counts = asyncio.run(_verify(load(), case))
    if not counts:
        raise fail(f"the journal has no closed case {case}" if case else "the journal has no closed case")
    if counts.get("wrong") or (strict and set(counts) != {"ok"}):
        raise Failed(1)


async def _verify(settings: Settings, case: str | None) -> dict[str, int]:
    """Prints a line per case; returns how many there are of each state."""
    from activities.adapters.sql import SqlJournal
    from worker.records import verify as checked
    from worker.temporal import TemporalAway, connect
    from worker.witness import Witness

    try:
        async with asyncio.timeout(10):
            witness = Witness(await connect(settings.temporal))
    except (TemporalAway, TimeoutError) as error:
        witness = Witness(None, str(error) or f"Temporal does not answer at {settings.temporal.address}")
    journal = SqlJournal(settings.journal_url)
    counts: dict[str, int] = {}
    try:
        async for one in checked(journal, case, witness):
            counts[one.state] = counts.get(one.state, 0) + 1
            typer.echo(_line(f"{WORDS[one.state]:<10} {one.case}: {one.why}"))
    finally:
        journal.dispose()
    if case is None and counts:
        typer.echo(", ".join(f"{n} {WORDS[state]}" for state, n in counts.items()))
    if witness.away:
        typer.echo(_line(ALONE.format(away=witness.away)), err=True)
    return counts


@app.command("export")
def export(
    case: Annotated[str, typer.Argument(help="Id of a closed case, or its workflow id: then its last one.")],
    out: Annotated[Path | None, typer.Option("--out", help="Write to this file. None: print it.")] = None,
    fleet: Annotated[Path | None, typer.Option(help="The fleet that it was about. None: INTERLOCK_FLEET_FILE.")] = None,
) -> None:
    """A closed case as an incident file: correct its fault and its truth, then `interlock replay` plays it."""
    from worker.incidents_export import NotExportable

    settings = load()
    if (file := fleet or settings.fleet_file) is None:
        raise fail("INTERLOCK_FLEET_FILE is not set: name with --fleet the fleet that the case was about")
    try:
        text = asyncio.run(_exported(settings, case, file))
    except NotExportable as error:
        raise fail(str(error)) from None
    if out is None:
        typer.echo(text, nl=False)
    elif out.exists():
        raise fail(f"{out} is there already, and nothing was written over it: name another file")
    else:
        out.write_text(text, encoding="utf-8")
        typer.echo(str(out))


async def _exported(settings: Settings, case: str, file: Path) -> str:
    from pydantic import ValidationError

    from activities.adapters.sql import SqlJournal
    from runbooks.fleet import Fleet
    from runbooks.loader import CatalogError
    from runbooks.loader import load as load_file
    from runbooks.record import CaseRecord
    from worker.incidents_export import as_yaml, exported

    journal = SqlJournal(settings.journal_url)
    try:
        rows = [row async for row in journal.closed(case)]
    finally:
        journal.dispose()
    if not rows:
        raise fail(f"the journal has no closed case {case}")
    try:
        return as_yaml(exported(CaseRecord.model_validate_json(rows[-1].record), load_file(file, Fleet)))
    except CatalogError as error:
        raise fail("\n".join(error.problems)) from None
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))
        raise fail(f"its record is of another version ({where}), and cannot be exported") from None


def _line(text: str) -> str:
    """An edited record may hold anything: one line of printable characters."""
    return "".join(c if c.isprintable() else "?" for c in text)
