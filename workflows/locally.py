"""A local activity that cannot be had fails in one way, and in a replay in the same one.

By itself it does not (temporalio 1.35, measured): what the activity raised comes bare, as an ApplicationError, and a time-out
comes as an ActivityError for the first time and as a bare TimeoutError in every replay. Whoever waits for an ActivityError
would let the case fail, or its history could not be replayed any more.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, TimeoutError

from workflows.retries import Local

P = TypeVar("P")
T = TypeVar("T")


async def locally(answer: Awaitable[T]) -> T:
    """The answer of `workflow.execute_local_activity_method(…)`. Raises ActivityError with what was the matter as its cause."""
    try:
        return await answer
    except (ApplicationError, TimeoutError) as error:
        raise ActivityError(
            "Local Activity failed",
            scheduled_event_id=0,
            started_event_id=0,
            identity="",
            activity_type="",
            activity_id="",
            retry_state=None,
        ) from error


async def judged(
    method: Callable[[Any, P], Awaitable[T]], request: P, options: Local, summary: str, *, remote: bool
) -> T:
    """What people said, judged. `remote`: by an ordinary activity. An update that the answer of a local one completes is stuck
    for good where a query cut its task short (docs/temporal-pitfalls.md); a run that began before goes on with local ones."""
    if remote:
        return await workflow.execute_activity_method(method, request, **options, summary=summary)
    return await locally(workflow.execute_local_activity_method(method, request, **options, summary=summary))


def reason(error: ActivityError) -> str:
    """What was the matter, in its own words."""
    cause = error.cause
    return cause.message if isinstance(cause, ApplicationError) else str(cause or error)
