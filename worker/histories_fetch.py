"""Fetches the history of a case from Temporal, to be kept: scrubbed, with what it does not hold beside it."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

from temporalio.client import Client, WorkflowExecutionStatus, WorkflowHandle
from temporalio.service import RPCError, RPCStatusCode

from worker.errors import OperatorError
from worker.histories import accepted, check, parsed
from worker.histories_beside import Beside, write_beside
from worker.histories_compare import Checked
from worker.histories_scrub import clean
from worker.temporal import TemporalAway

PATIENCE = timedelta(seconds=10)
ENDLESS = "guard:"
"""A Guard never ends: what there is of its run is whole at any moment."""


class NotKept(OperatorError):
    """Why there is no history of this case to be kept; the text says what to do."""


class Kept(NamedTuple):
    """Where it is now, and how today's code does on it."""

    path: Path
    checked: Checked


async def fetch(client: Client, name: str) -> tuple[str, str]:
    """Its own file name, and the history of a workflow id (its newest run) or of a case id. NotKept, TemporalAway."""
    try:
        handle = await _run_of(client, name)
        about = await handle.describe(rpc_timeout=PATIENCE)
        if about.status is WorkflowExecutionStatus.RUNNING and not about.id.startswith(ENDLESS):
            raise NotKept(f"{name} is still open: record it when it is closed")
        exact = client.get_workflow_handle(about.id, run_id=about.run_id)
        history = await exact.fetch_history(rpc_timeout=PATIENCE)
    except RPCError as error:
        if error.status in (RPCStatusCode.NOT_FOUND, RPCStatusCode.INVALID_ARGUMENT):
            raise NotKept(
                f"{name}: Temporal has no such run in namespace {client.namespace} (any more); `interlock cases list` has names"
            ) from None
        raise TemporalAway(f"Temporal does not answer: {error.message}") from error
    return file_name(f"{about.id}-{about.run_id[-8:]}"), history.to_json()


def file_name(text: str) -> str:
    """A workflow id has slashes and colons."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.")


async def keep(text: str, path: Path, rules: Beside) -> Kept:
    """Writes a history, and what stands beside it by today's code. `rules`: policies and fleet that it may have been judged by."""
    text = clean(text)
    history = parsed(text)
    beside = accepted(await check(path.stem, history, rules), rules)
    _write(path, text, beside)
    return Kept(path, await check(path.stem, history, beside))


def _write(path: Path, text: str, beside: Beside) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    write_beside(path, beside)


async def _run_of(client: Client, name: str) -> WorkflowHandle[Any, Any]:
    """A case id is `WORKFLOW_ID#` and the last eight digits of its first run; in older cases the first eight."""
    workflow, mark, case = name.partition("#")
    if not mark:
        return client.get_workflow_handle(workflow)
    first = case.partition(".")[0]
    quoted = workflow.replace("\\", "\\\\").replace('"', '\\"')
    async for one in client.list_workflows(f'WorkflowId = "{quoted}"', rpc_timeout=PATIENCE):
        if first and (one.run_id.endswith(first) or one.run_id.startswith(first)):
            return client.get_workflow_handle(one.id, run_id=one.run_id)
    raise NotKept(f"{name}: Temporal has no run of that case (any more)")
