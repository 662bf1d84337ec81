"""`interlock histories`: does today's code decide as it did in past cases? And a past case as a file, for the next time."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from worker.commands.client import Failed, fail
from worker.settings import load

if TYPE_CHECKING:
    from worker.histories_beside import Beside
    from worker.histories_compare import Checked

app = typer.Typer(help="Replay past cases with today's code; keep a past case as a file.", no_args_is_help=True)
Policies = Annotated[
    list[Path] | None, typer.Option("--policy", help="A policy that cases were judged by. May be given several times.")
]
FleetFile = Annotated[Path | None, typer.Option("--fleet", help="The fleet that cases were judged on.")]


@app.command()
def check(
    paths: Annotated[list[Path], typer.Argument(metavar="FILES…", help="Histories as JSON, or folders of them.")],
    policy: Policies = None,
    fleet: FleetFile = None,
    accept: Annotated[
        bool, typer.Option("--accept", help="What differs is as it should be: keep it beside the histories.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The differences as a list, for programs.")] = False,
) -> None:
    """Replay histories; say each difference in what is asked for and in what gates say. Exit 1 when there is one."""
    found = asyncio.run(_check(paths, policy or [], fleet, accept))
    differences = [d for one in found for d in one.differences]
    if as_json:
        typer.echo(json.dumps([d._asdict() for d in differences], indent=2, ensure_ascii=False))
    else:
        _tell(found)
    if differences:
        raise Failed(1)


async def _check(paths: list[Path], policies: list[Path], fleet: Path | None, accept: bool) -> list[Checked]:
    # Here and not above: Temporal and the gates cost a second, which `interlock --help` must not pay.
    from worker.histories import accepted, check, files_of, read
    from worker.histories_beside import Beside, read_beside, write_beside

    given = _rules(policies, fleet)
    found: list[Checked] = []
    for path in files_of(paths):
        beside = (read_beside(path) or Beside()).ruled_by(given)
        one = await check(path.stem, read(path), beside)
        if accept:
            beside = accepted(one, beside, everything=True)
            write_beside(path, beside)
            one = await check(path.stem, read(path), beside)  # what breaks a replay cannot be accepted
        found.append(one)
    return found


def _rules(policies: list[Path], fleet: Path | None) -> Beside:
    from runbooks.fleet import Fleet
    from runbooks.library import load_policy
    from runbooks.loader import build, read
    from worker.histories_beside import Beside

    known = [load_policy(p) for p in policies]
    return Beside(policies={p.ref: p for p in known}, fleet=build(read(fleet), Fleet) if fleet is not None else None)


def _tell(found: list[Checked]) -> None:
    unseen: dict[str, list[str]] = {}
    for one in found:
        for difference in one.differences:
            typer.echo(difference.line())
        if not one.differences:
            typer.echo(f"ok  {one.name}: {len(one.events)} events, {one.compared} decisions, {one.judged} verdicts")
        for why, times in one.unseen.items():
            unseen.setdefault(why, []).append(f"{one.name} ({times})")
    for why, where in unseen.items():
        typer.echo(f"{why}: {', '.join(where)}")
    typer.echo(f"{len(found)} histories, {sum(len(one.differences) for one in found)} differences")


@app.command()
def record(
    cases: Annotated[list[str], typer.Argument(metavar="WORKFLOW_ID…", help="Closed cases, or Guards: guard:DOMAIN.")],
    out: Annotated[Path, typer.Option(help="Folder of the histories.")],
    name: Annotated[str | None, typer.Option(help="File name without .json. None: the case's own.")] = None,
    policy: Policies = None,
    fleet: FleetFile = None,
) -> None:
    """Fetch histories from Temporal, without machine names and secrets. INTERLOCK_POLICY_FILE and _FLEET_FILE go with them."""
    if name is not None and len(cases) > 1:
        raise fail("--name is for one case: leave it out, each file is then named after its case")
    if name is not None and Path(name).name != name:
        raise fail(f"--name {name!r}: give a plain file name, the folder is --out")
    found = asyncio.run(_record(cases, out, name, policy or [], fleet))
    if any(one.differences for one in found):
        typer.echo(
            "today's code decides otherwise than these cases did; if that is right: interlock histories check --accept"
        )
        raise Failed(1)


async def _record(
    cases: list[str], out: Path, name: str | None, policies: list[Path], fleet: Path | None
) -> list[Checked]:
    from worker.histories_fetch import fetch, keep
    from worker.temporal import connect

    settings = load()
    rules = _rules(policies or [p for p in (settings.policy_file,) if p], fleet or settings.fleet_file)
    client = await connect(settings.temporal)
    found: list[Checked] = []
    for case in cases:
        own, text = await fetch(client, case)
        path = out / f"{name or own}.json"
        if path.exists():
            raise fail(f"{path} is there already: give another --name, or remove it first")
        kept = await keep(text, path, rules)
        typer.echo(f"{kept.path}: {len(kept.checked.events)} events")
        _tell([kept.checked])
        found.append(kept.checked)
    return found
