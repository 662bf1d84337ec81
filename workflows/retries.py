"""Time-outs and retry policies, as a table. Acting retries few times: what is ambiguous is read back, not hammered."""

from __future__ import annotations

from datetime import timedelta
from typing import TypedDict

from temporalio.common import RetryPolicy
from temporalio.workflow import ActivityCancellationType


class Local(TypedDict):
    """Options of an activity that is given up in the end."""

    start_to_close_timeout: timedelta
    schedule_to_close_timeout: timedelta
    retry_policy: RetryPolicy


class Remote(TypedDict):
    """Options of a remote activity."""

    start_to_close_timeout: timedelta
    retry_policy: RetryPolicy


class Acting(Remote):
    """Options of an act."""

    cancellation_type: ActivityCancellationType


class Beating(Acting):
    """Options of an act whose machine may go away meanwhile."""

    heartbeat_timeout: timedelta
    schedule_to_close_timeout: timedelta


def _s(seconds: float) -> timedelta:
    return timedelta(seconds=seconds)


PURE = Local(
    start_to_close_timeout=_s(5),
    schedule_to_close_timeout=_s(30),
    retry_policy=RetryPolicy(maximum_attempts=3, initial_interval=_s(0.1)),
)
"""Classifying and planning: no I/O."""
GLANCE = Local(
    start_to_close_timeout=_s(5),
    schedule_to_close_timeout=_s(6),
    retry_policy=RetryPolicy(maximum_attempts=1),
)
"""Triage's look, which ends itself within three seconds. Once: a case does not wait for a second look at what is sick."""
CHECK = Local(
    start_to_close_timeout=_s(8),
    schedule_to_close_timeout=_s(40),
    retry_policy=RetryPolicy(maximum_attempts=5, initial_interval=_s(0.2)),
)
"""Facts, gates, one Guard update. Each port call in it has its own, shorter time-out."""
QUICK = Remote(
    start_to_close_timeout=_s(10),
    retry_policy=RetryPolicy(initial_interval=_s(0.5), maximum_interval=_s(30)),
)
"""Must happen in the end, however long the other side is away: journal, page."""
BRIEF = Local(
    start_to_close_timeout=_s(5),
    schedule_to_close_timeout=_s(15),
    retry_policy=RetryPolicy(initial_interval=_s(0.5), maximum_interval=_s(5)),
)
"""A page that something waits behind: tried for a moment, and said in the record when nobody could be told."""
LOOK = Local(
    start_to_close_timeout=_s(10),
    schedule_to_close_timeout=_s(60),
    retry_policy=RetryPolicy(initial_interval=_s(0.5), maximum_interval=_s(10)),
)
"""The Guard's look after its holders, made again at the next look: nothing else of the Guard may wait for it."""
KEEP = Local(
    start_to_close_timeout=_s(5),
    schedule_to_close_timeout=_s(15),
    retry_policy=RetryPolicy(initial_interval=_s(0.5), maximum_interval=_s(5)),
)
"""What a Guard writes down beside its work: tried for a moment, and again at its next look."""
ACT = Acting(
    start_to_close_timeout=_s(15),
    retry_policy=RetryPolicy(maximum_attempts=6, initial_interval=_s(0.3), maximum_interval=_s(5)),
    # Cancel of the case: reading back beside an act that is still under way would call it not applied.
    cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
)
"""The acting activity. After the last attempt the workflow reads back and pages: it never assumes."""
ACT_ON_CLUSTER = Beating(
    start_to_close_timeout=_s(30),
    heartbeat_timeout=_s(10),  # a worker that died is known by then, and not only after the longest act
    schedule_to_close_timeout=_s(300),
    retry_policy=RetryPolicy(maximum_attempts=6, initial_interval=_s(0.3), maximum_interval=_s(5)),
    cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
)
"""An API server may be slow, and a freeze writes several objects: a little longer than ACT."""
ACT_ON_NODE = Beating(
    start_to_close_timeout=_s(300),
    # Its worker goes down with a reboot, and the next attempt waits in the node's own queue until it is back.
    heartbeat_timeout=_s(15),
    schedule_to_close_timeout=_s(1200),
    retry_policy=RetryPolicy(maximum_attempts=6, initial_interval=_s(1), maximum_interval=_s(10)),
    cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
)
"""The node's own agent: a reset takes seconds, a reboot minutes."""


def rejoining(deadline_s: float) -> Beating:
    """A node's check under load: a replica must start there first, which takes up to `deadline_s`. Tried twice."""
    return Beating(
        start_to_close_timeout=_s(deadline_s + 60),
        heartbeat_timeout=_s(20),
        schedule_to_close_timeout=_s(2 * deadline_s + 160),
        retry_policy=RetryPolicy(maximum_attempts=2, initial_interval=_s(1)),
        cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    )


SAMPLE = Remote(
    start_to_close_timeout=_s(10),
    retry_policy=RetryPolicy(maximum_attempts=2, initial_interval=_s(0.5)),
)
"""One tick of a verify or a watch; a failed tick is a missing sample."""
