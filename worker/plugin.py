"""The one Temporal plugin of client, worker and Replayer: so that a replay test runs what production runs."""

from __future__ import annotations

from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.plugin import SimplePlugin
from temporalio.worker import WorkflowRunner
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions
from temporalio.workflow import SandboxImportNotificationPolicy

from worker.ask_again import AskAgain
from worker.timely import TimelyRunner
from workflows.guard import Guard
from workflows.loose import OnePayload
from workflows.remediation import Remediation

WORKFLOWS = (Remediation, Guard)
PARTS = (
    "acting",
    "answers",
    "asking",
    "casefile",
    "details",
    "diagnosis",
    "doors",
    "guard_page",
    "guard_turns",
    "holding",
    "increments",
    "levers",
    "locally",
    "loose",
    "one_step",
    "retries",
    "rounds",
    "standing",
    "steps",
    "uncancelled",
)
"""Parts of the workflows. Under RAISE_ON_UNINTENTIONAL_PASSTHROUGH every module beside the workflow's own must be named.
`tests/test_packaging.py` holds what the sandbox then no longer does for them: no clock, no random, no I/O (docs/adr/0003)."""


def runner() -> SandboxedWorkflowRunner:
    """The default sandbox, in time (worker/timely.py). The two workflow modules are never passed through: that would disarm it."""
    return TimelyRunner(
        restrictions=SandboxRestrictions.default.with_passthrough_modules(
            "activities", "runbooks", "opentelemetry", *(f"workflows.{part}" for part in PARTS)
        ).with_import_notification_policy(SandboxImportNotificationPolicy.RAISE_ON_UNINTENTIONAL_PASSTHROUGH)
    )


def _runner(_: WorkflowRunner | None) -> WorkflowRunner:
    return runner()


def interlock_plugin() -> SimplePlugin:
    """Give it to `Client.connect(plugins=[…])`: workers made from that client have it too."""
    return SimplePlugin(
        "interlock",
        data_converter=pydantic_data_converter,
        workflows=list(WORKFLOWS),
        workflow_runner=_runner,
        interceptors=[OnePayload(), AskAgain()],
    )
