"""What is seen of a play from inside its workers: each verdict, act and end of a verify, with its virtual time.

In life this is read from histories and the journal; here it is noted as it passes, so that nobody has to ask for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from temporalio import activity, workflow
from temporalio.worker import (
    ActivityInboundInterceptor,
    ExecuteActivityInput,
    ExecuteWorkflowInput,
    Interceptor,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
)

from runbooks.change import Receipt
from runbooks.people import TellRequest
from runbooks.plan import ApplyRequest, CheckRequest, CheckResult, Effect, VerifyRequest


@dataclass(frozen=True)
class Checked:
    """One question to the gates and their answer."""

    at: datetime
    request: CheckRequest
    result: CheckResult


@dataclass(frozen=True)
class Acted:
    """One act. `began`: when it was tried; `receipt` None: it was refused, or nobody knows."""

    began: datetime
    ended: datetime
    request: ApplyRequest
    receipt: Receipt | None
    failed: str = ""


@dataclass(frozen=True)
class Proven:
    """The end of one verify."""

    at: datetime
    request: VerifyRequest
    effect: Effect


@dataclass(frozen=True)
class Paged:
    """People were told."""

    at: datetime
    request: TellRequest

    @property
    def matters(self) -> bool:
        """Neither a request for approval, nor the news that a case has ended well."""
        return not self.request.dedup_key.endswith("/closed") and "/asked/" not in self.request.dedup_key


@dataclass
class Watch:
    """Of the incident that is being played. `seen`: ids of all workflows that ran; `open`: cases that run now; `slowest_s`:
    the longest that an activity took that waits for nothing, real seconds."""

    clock: Callable[[], datetime]
    checks: list[Checked] = field(default_factory=list)
    acts: list[Acted] = field(default_factory=list)
    proofs: list[Proven] = field(default_factory=list)
    pages: list[Paged] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)
    open: set[str] = field(default_factory=set)
    slowest_s: float = 0.0

    def begin(self) -> None:
        """The next incident."""
        for kept in (self.checks, self.acts, self.proofs, self.pages, self.seen, self.open):
            kept.clear()
        self.slowest_s = 0.0

    def interceptor(self) -> Interceptor:
        """To be given to every worker of the stage."""
        return _Watching(self)


class _Watching(Interceptor):
    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        return _Activity(next, self._watch)

    def workflow_interceptor_class(self, input: WorkflowInterceptorClassInput) -> type[WorkflowInboundInterceptor]:
        watch = self._watch

        class Inbound(WorkflowInboundInterceptor):
            async def execute_workflow(self, input: ExecuteWorkflowInput) -> Any:
                info = workflow.info()
                watch.seen.add(info.workflow_id)
                if info.workflow_type != "Remediation":
                    return await super().execute_workflow(input)
                watch.open.add(info.workflow_id)
                result = await super().execute_workflow(input)
                watch.open.discard(info.workflow_id)
                return result

        return Inbound


class _Activity(ActivityInboundInterceptor):
    def __init__(self, next: ActivityInboundInterceptor, watch: Watch) -> None:
        super().__init__(next)
        self._watch = watch

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        name, asked, watch = activity.info().activity_type, input.args[0] if input.args else None, self._watch
        began, tick = watch.clock(), time.monotonic()
        try:
            result = await super().execute_activity(input)
        except Exception as error:
            if isinstance(asked, ApplyRequest) and name.startswith("apply_"):
                watch.acts.append(Acted(began, watch.clock(), asked, None, str(error)))
            raise
        now = watch.clock()
        if isinstance(asked, CheckRequest | ApplyRequest | VerifyRequest):
            watch.slowest_s = max(watch.slowest_s, time.monotonic() - tick)
        if isinstance(asked, CheckRequest):
            watch.checks.append(Checked(now, asked, result))
        elif isinstance(asked, ApplyRequest):
            watch.acts.append(Acted(began, now, asked, result))
        elif isinstance(asked, VerifyRequest) and result.outcome != "pending":
            watch.proofs.append(Proven(now, asked, result))
        elif isinstance(asked, TellRequest):
            watch.pages.append(Paged(now, asked))
        return result
