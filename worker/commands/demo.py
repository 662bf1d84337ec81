"""`interlock demo` and `interlock up`: everything on this machine, with and without faults."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from worker.demo.run import Options, main
from worker.demo.run import up as run_up
from worker.demo.summary import Summary

app = typer.Typer()


class EnginesOption(StrEnum):
    """Which engines serve."""

    AUTO = "auto"
    REAL = "real"
    SIMULATED = "simulated"


class PolicyOption(StrEnum):
    """What Interlock may do."""

    DEMO = "demo"
    OBSERVE = "observe"


Engines = Annotated[EnginesOption, typer.Option(help="auto: real ones (llama-server) where they run, else simulated.")]
Policy = Annotated[PolicyOption, typer.Option(help="observe: the same faults, decided and recorded, nothing touched.")]
State = Annotated[Path, typer.Option(help="Folder for logs, records and the picture; emptied at the start.")]
Yes = Annotated[bool, typer.Option("--yes", help="Approve by the API instead of waiting for a click in the UI.")]
Json = Annotated[bool, typer.Option("--json", help="The summary as the last line of stdout; all else on stderr.")]
DEFAULT_STATE = Path(".state/demo")


@app.command()
def demo(
    yes: Yes = False,
    json: Json = False,
    engines: Engines = EnginesOption.AUTO,
    policy: Policy = PolicyOption.DEMO,
    state: State = DEFAULT_STATE,
) -> None:
    """Start everything, break two things, and show what Interlock does about them. About three minutes."""
    options = Options(state=state, engines=engines.value, policy=policy.value, yes=yes, json=json)
    try:
        summary = main(options)
    except KeyboardInterrupt:
        typer.echo("interrupted; everything is stopped", err=True)
        raise typer.Exit(130) from None
    typer.echo(summary.line() if json else in_words(summary))
    if not summary.ok:
        raise typer.Exit(1)


@app.command()
def up(engines: Engines = EnginesOption.AUTO, policy: Policy = PolicyOption.DEMO, state: State = DEFAULT_STATE) -> None:
    """The same without faults, until Ctrl-C."""
    run_up(Options(state=state, engines=engines.value, policy=policy.value))


def in_words(summary: Summary) -> str:
    """The summary for people."""
    lines = [""]
    for case in summary.cases:
        lines += [
            f"{case.fault}",
            f"  {case.class_}: {case.lever} → {case.outcome}",
            f"  detected after {_with(case.fault_to_detection_s, 's')}, first act {_seconds(case.alert_to_first_act_ms)}"
            f" and mitigated {_with(case.alert_to_mitigated_s, 's')} after the alert"
            + (f" ({case.waited_for_people_s:g} s of it waiting for people)" if case.waited_for_people_s else ""),
            f"  failed requests: {case.failed_requests_before} before the mitigation, "
            f"{case.failed_requests_after} in the soak after it",
        ]
    lines += [f"{summary.failed_requests} of {summary.requests} requests failed in all ({summary.engines} engines)"]
    lines += [f"picture: {summary.picture}", f"logs, journal, records: {summary.state}"]
    return "\n".join(lines)


def _seconds(milliseconds: float | None) -> str:
    """Beside other seconds."""
    return _with(None if milliseconds is None else round(milliseconds / 1000, 2), "s")


def _with(value: float | None, unit: str) -> str:
    return "never" if value is None else f"{value:g} {unit}"
