"""`interlock approve | reject | withdraw | takeover | hand-back | abort`: a person's word about one case."""

from __future__ import annotations

from typing import Annotated

import typer

from worker.commands.client import call, case_path

app = typer.Typer()
Case = Annotated[str, typer.Argument(help="The case's workflow id, remediate:…")]
Step = Annotated[str, typer.Option(help="The id of the step that waits.")]
Digest = Annotated[str, typer.Option(help="The digest that the case shows: your word counts for exactly that plan.")]
Reason = Annotated[str, typer.Option(help="Why. It goes into the record.")]


@app.command()
def approve(case: Case, step: Step, digest: Digest, reason: Reason) -> None:
    """Approve the step that waits. Its gates are checked again before anything moves."""
    _decide(case, step, digest, "approve", reason)


@app.command()
def reject(case: Case, step: Step, digest: Digest, reason: Reason) -> None:
    """Reject the step that waits. The case goes on to the next step, or to people."""
    _decide(case, step, digest, "reject", reason)


@app.command()
def withdraw(case: Case, step: Step, digest: Digest, reason: Reason) -> None:
    """Take your own approval back, until the step begins to act. After that, abort takes back what was done."""
    _decide(case, step, digest, "withdraw", reason)


@app.command()
def takeover(case: Case, reason: Reason) -> None:
    """I am on it: Interlock stops acting on this case and keeps its receipts ready for undo."""
    _about(case, "takeover", reason)


@app.command("hand-back")
def hand_back(case: Case, reason: Reason) -> None:
    """Interlock goes on where it stopped, with a new plan."""
    _about(case, "hand_back", reason)


@app.command()
def abort(case: Case, reason: Reason) -> None:
    """End this case: nothing further is done, what stands is undone or handed to people."""
    _about(case, "abort", reason)


def _decide(case: str, step: str, digest: str, decision: str, reason: str) -> None:
    body = {"step": step, "digest": digest, "decision": decision, "reason": reason}
    answer = call("POST", f"{case_path(case)}/decide", body)
    typer.echo(f"{decision} of {step} by {answer['who']} was taken")


def _about(case: str, action: str, reason: str) -> None:
    answer = call("POST", f"{case_path(case)}/{action}", {"reason": reason})
    typer.echo(f"{action.replace('_', ' ')} by {answer['who']} was taken")
