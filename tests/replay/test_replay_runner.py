"""Timers end with a second, and which cancels of them are kept from the test server."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from temporalio.bridge.proto.workflow_completion import WorkflowActivationCompletion

from worker.replay_runner import AT_ONCE, SOON, on_whole_seconds

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def starts(seq: int, seconds: float) -> WorkflowActivationCompletion:
    """A workflow task that starts a timer."""
    done = WorkflowActivationCompletion()
    command = done.successful.commands.add()
    command.start_timer.seq = seq
    command.start_timer.start_to_fire_timeout.FromTimedelta(timedelta(seconds=seconds))
    return done


def cancels(seq: int) -> WorkflowActivationCompletion:
    """A workflow task that cancels a timer and then does something else."""
    done = WorkflowActivationCompletion()
    done.successful.commands.add().cancel_timer.seq = seq
    done.successful.commands.add().complete_workflow_execution.SetInParent()
    return done


def kinds(done: WorkflowActivationCompletion) -> list[str]:
    """What it asks of the server."""
    return [str(c.WhichOneof("variant")) for c in done.successful.commands]


def test_a_timer_that_may_fire_meanwhile_is_let_fire() -> None:
    """The test server gets stuck when a timer fires while the task that cancels it is under way."""
    due: dict[int, datetime] = {}
    on_whole_seconds(starts(1, 30), NOW, due)
    late = NOW + timedelta(seconds=30) - SOON / 2

    assert kinds(on_whole_seconds(cancels(1), late, due)) == ["complete_workflow_execution"]


def test_a_timer_that_is_far_off_is_cancelled_as_the_workflow_wants() -> None:
    """There is no race to lose, and the timer is forgotten."""
    due: dict[int, datetime] = {}
    on_whole_seconds(starts(1, 900), NOW, due)

    assert kinds(on_whole_seconds(cancels(1), NOW, due)) == ["cancel_timer", "complete_workflow_execution"]
    assert due == {}


def test_a_task_that_failed_is_passed_on() -> None:
    """It has no commands to look through, and its failure must stay what it was."""
    failed = WorkflowActivationCompletion()
    failed.failed.failure.message = "x"

    assert on_whole_seconds(failed, NOW, {}).failed.failure.message == "x"


def test_a_timer_ends_with_a_second_however_long_the_task_before_it_took() -> None:
    """Workflows live on whole seconds, so that a busy machine changes nothing in what is played."""
    for late_s in (0.0, 0.02, 0.7):
        done = on_whole_seconds(starts(1, 2), NOW + timedelta(seconds=late_s), {})

        timeout = done.successful.commands[0].start_timer.start_to_fire_timeout.ToTimedelta()
        assert timeout == timedelta(seconds=2 - late_s) + AT_ONCE


def test_a_part_of_a_second_is_a_second() -> None:
    """Workflows live on whole seconds, so that a busy machine changes nothing in what is played."""
    done = on_whole_seconds(starts(1, 0.2), NOW + timedelta(seconds=0.5), {})

    assert (
        done.successful.commands[0].start_timer.start_to_fire_timeout.ToTimedelta() == timedelta(seconds=0.5) + AT_ONCE
    )
