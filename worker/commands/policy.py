"""`interlock policy`: check a policy as a whole, show what it means for a class, score what a class only observed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.commands.client import Failed, fail
from worker.settings import Settings, load

if TYPE_CHECKING:
    from runbooks.detection import TargetKind
    from runbooks.facts import GuardView
    from runbooks.fleet import Fleet
    from runbooks.policy_score import Score

app = typer.Typer(
    help="Check a policy; see what it means for a class; score what was only observed.", no_args_is_help=True
)
FleetFile = Annotated[Path | None, typer.Option("--fleet", help="Your fleet file. None: INTERLOCK_FLEET_FILE.")]
Folder = Annotated[Path | None, typer.Option("--runbooks", help="Catalogue folder. None: INTERLOCK_CATALOG_DIR.")]
File = Annotated[Path | None, typer.Option("--policy", help="Policy file. None: INTERLOCK_POLICY_FILE.")]
Class = Annotated[str, typer.Argument(metavar="CLASS", help="Failure class, e.g. engine.hang.")]
Since = Annotated[str | None, typer.Option(help="Only cases opened since then: 30d, 12h or a time.")]
Json = Annotated[bool, typer.Option("--json", help="All of it, for programs.")]
ASK_S = 3.0
"""How long a Guard may take to answer: an explanation must not hang on a server that is away."""


@app.command()
def check(
    file: Annotated[Path | None, typer.Argument(help="Policy file. None: INTERLOCK_POLICY_FILE.")] = None,
    fleet: FleetFile = None,
    runbooks: Folder = None,
) -> None:
    """Say what is wrong with a policy, held against catalogue and fleet. Exit 1 for errors: no worker starts with those."""
    from runbooks.loader import CatalogError

    settings = load()
    try:
        found = _findings(
            file or _policy_file(settings), fleet or settings.fleet_file, runbooks or settings.catalog_dir
        )
    except CatalogError as error:
        for problem in error.problems:
            typer.echo(f"error: {problem}", err=True)
        raise Failed(1) from None
    for line in found:
        typer.echo(line, err=line.startswith("error"))
    errors = sum(line.startswith("error") for line in found)
    typer.echo(f"{errors} error(s), {len(found) - errors} warning(s)")
    if fleet is None and settings.fleet_file is None:
        typer.echo("held against an invented fleet of eight replicas on two nodes; --fleet FILE for your own")
    if errors:
        raise Failed(1)


def _findings(file: Path, fleet: Path | None, folder: Path) -> list[str]:
    from runbooks.fleet import Fleet
    from runbooks.library import load_library
    from runbooks.loader import build, read
    from runbooks.policy import Policy
    from runbooks.policy_check import check_policy

    document, of_fleet = read(file), read(fleet) if fleet is not None else None
    own = build(of_fleet, Fleet) if of_fleet is not None else None
    found = check_policy(build(document, Policy), load_library(folder), own, datetime.now(UTC))
    return [one.line(document, of_fleet) for one in found]


@app.command()
def show(
    failure_class: Class,
    target: Annotated[str | None, typer.Option(help="cluster, service, endpoint, node or gpu.")] = None,
    fleet: FleetFile = None,
    policy: File = None,
    since: Since = None,
    as_json: Json = False,
) -> None:
    """What would happen for this class, and why: steps, limits, people, gates, and how it did while it only observed."""
    from runbooks.library import load_library, load_policy
    from runbooks.policy_page import as_text
    from runbooks.policy_score import as_text as score_text
    from runbooks.policy_show import NothingToShow
    from runbooks.policy_show import show as shown_of

    settings, now = load(), datetime.now(UTC)
    library, rules = load_library(settings.catalog_dir), load_policy(policy or _policy_file(settings))
    own = _fleet(fleet or settings.fleet_file)
    try:
        wanted = _kind(target)
        guards = asyncio.run(_guards(settings, own.domains() if own is not None else ()))
        shown = shown_of(failure_class, wanted, policy=rules, library=library, fleet=own, now=now, guards=guards)
    except NothingToShow as error:
        raise fail(str(error)) from None
    found = _score(settings, failure_class, since, now)
    if as_json:
        score = found.model_dump(mode="json") if not isinstance(found, str) else {"why": found}
        typer.echo(json.dumps({**shown.model_dump(mode="json"), "score": score}, indent=2, ensure_ascii=False))
        return
    typer.echo(as_text(shown))
    typer.echo("")
    typer.echo(f"Observed: {found}" if isinstance(found, str) else score_text(found))


@app.command()
def score(failure_class: Class, since: Since = None, as_json: Json = False) -> None:
    """What a class would have done while it only observed, against what people did. Read it before promoting the class."""
    from runbooks.library import load_library
    from runbooks.policy_score import as_text
    from runbooks.policy_show import NothingToShow, kinds_of

    settings, now = load(), datetime.now(UTC)
    try:
        kinds_of(failure_class, load_library(settings.catalog_dir))
    except NothingToShow as error:
        raise fail(str(error)) from None
    found = _score(settings, failure_class, since, now)
    if isinstance(found, str):
        raise fail(found)
    typer.echo(found.model_dump_json(indent=2) if as_json else as_text(found))


def _score(settings: Settings, failure_class: str, since: str | None, now: datetime) -> Score | str:
    """The score, or why there is none to be had: an explanation of the policy is not refused for that."""
    from activities.errors import PortError
    from worker.scores import NoJournal, moment, open_journal, score_of

    begin = moment(since, now) if since is not None else None
    try:
        journal = open_journal(settings.journal_url)
    except (NoJournal, PortError) as error:
        return str(error)
    try:
        return asyncio.run(score_of(journal, failure_class, begin))
    except PortError as error:
        return str(error)
    finally:
        journal.dispose()


def _policy_file(settings: Settings) -> Path:
    return settings.policy_file or settings.catalog_dir / "policy.yaml"


def _fleet(path: Path | None) -> Fleet | None:
    from runbooks.fleet import Fleet
    from runbooks.loader import load as load_file

    return load_file(path, Fleet) if path is not None else None


def _kind(word: str | None) -> TargetKind | None:
    from runbooks.detection import TargetKind

    if word is None:
        return None
    try:
        return TargetKind(word)
    except ValueError:
        raise fail(f"--target {word}: there is no such kind; there are {', '.join(TargetKind)}") from None


async def _guards(settings: Settings, domains: Sequence[str]) -> dict[str, GuardView | str]:
    """What each Guard says now, or why it could not be asked."""
    if not domains:
        return {"sample": "since no fleet was named, no Guard was asked"}
    from pydantic import ValidationError

    from runbooks.facts import GuardView
    from worker.temporal import TemporalAway, connect
    from worker.watchman_ask import Asker

    try:
        async with asyncio.timeout(ASK_S):
            asker = Asker(await connect(settings.temporal), ASK_S)
    except (TemporalAway, TimeoutError):
        return dict.fromkeys(domains, f"because Temporal does not answer at {settings.temporal.address}")
    out: dict[str, GuardView | str] = {}
    for domain, seen in zip(domains, await asyncio.gather(*map(asker.guard, domains)), strict=True):
        view: Any = dict(seen.view)
        try:
            out[domain] = (
                GuardView.model_validate(view) if not seen.why else f"because its Guard says nothing: {seen.why}"
            )
        except ValidationError:
            out[domain] = "because its Guard is of another version"
    return out
