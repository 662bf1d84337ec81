"""Worker versioning on a real server: a case ends on the build that it began on, a Guard goes on with the current one."""

from __future__ import annotations

import asyncio
import logging
import shlex
import sys
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio import activity, workflow
from temporalio.client import Client, WorkflowHandle
from temporalio.common import VersioningBehavior, WorkerDeploymentVersion
from temporalio.worker import Worker, WorkerDeploymentConfig

from runbooks.detection import guard_id, node_queue
from runbooks.policy import ClassPolicy
from tests import lab as labs
from tests.scenarios.hostile import ended, hang, measured
from worker.settings import TemporalSettings
from worker.versions import current_build, promotion, say_whether_current, version_of

BLUE, GREEN = (WorkerDeploymentVersion("interlock", build) for build in ("blue", "green"))
ASKS = labs.policy(engine__hang=ClassPolicy.model_validate({"mode": "ask", "accept_unverified": True}))


@activity.defn
async def on_the_node() -> str:
    """What the node's own worker does."""
    return "done"


@workflow.defn(sandboxed=False)
class Asks:
    """Asks for an activity on a node's queue, as a case does."""

    @workflow.run
    async def run(self) -> str:
        """See above."""
        return await workflow.execute_activity(
            on_the_node, task_queue=node_queue("n1"), start_to_close_timeout=timedelta(seconds=20)
        )


async def build_of(handle: WorkflowHandle[Any, Any]) -> str:
    """The build that the server gives its tasks to; empty when it is unversioned."""
    about = (await handle.describe()).raw_description.workflow_execution_info
    return about.versioning_info.deployment_version.build_id


async def promote(client: Client, version: WorkerDeploymentVersion) -> None:
    """By the very command that the worker names; people are asked once more, a test is not."""
    program, *words = shlex.split(promotion(client, version))

    async def made() -> bool:
        # Refused until a worker of the build has polled every queue of the one before it.
        child = await asyncio.create_subprocess_exec(
            str(Path(sys.executable).parent / program), *words, "--yes", stdout=PIPE, stderr=STDOUT
        )
        await child.communicate()
        return await current_build(client, version.deployment_name) == version.build_id

    await labs.until(made, f"{version.build_id} is current", 60)


@asynccontextmanager
async def own_server(lab: labs.Lab, folder: Path) -> AsyncIterator[labs.Lab]:
    """The lab with a Temporal of its own: what is current holds for all of a server."""
    async with labs.temporal_server(folder) as server:
        yield replace(lab, client=server.client)


async def test_a_case_ends_on_its_build_and_its_guard_goes_on_with_the_next(lab: labs.Lab, tmp_path: Path) -> None:
    """Blue opens a case that waits for people; green becomes current: a new word for the case is heard by blue, which then
    closes it, and the Guard of the same domain is green's."""
    async with (
        own_server(lab, tmp_path) as own,
        labs.running_worker(replace(own.parts(ASKS), version=BLUE)),
        ended(own) as cases,
    ):
        await promote(own.client, BLUE)
        await measured(lab)  # the load of both is counted there
        await hang(lab, lab.engines["a0"])
        handle = await own.start(own.hang(own.engines["a0"]))
        cases.append(handle)
        await own.in_state(handle, "waiting_approval", 60)
        guard = own.client.get_workflow_handle(guard_id("lab"))
        assert (await build_of(handle), await build_of(guard)) == ("blue", "blue")
        async with labs.running_worker(replace(own.parts(ASKS), version=GREEN)):
            await promote(own.client, GREEN)

            async def moved() -> bool:
                # It moves with a task of its own, once its queue has heard of the promotion: a first word may come too early.
                await guard.signal("halt", {"who": "ana", "reason": "which build hears this?"})
                return await build_of(guard) == "green"

            await labs.until(moved, "the Guard is green's", 60)
            assert (await guard.query("view"))["halted"].startswith("halted by ana: which build hears this?")
            await handle.signal("takeover", {"reason": "mine"})
            await own.in_state(handle, "taken_over", 60)
            assert await build_of(handle) == "blue"


async def test_a_build_that_nobody_made_current_gets_nothing_and_says_so(
    lab: labs.Lab, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With the command; and once it was made current nothing is said."""
    async with own_server(lab, tmp_path) as own, labs.running_worker(replace(own.parts(), version=BLUE)):
        with caplog.at_level(logging.WARNING, logger="interlock.worker"):
            await say_whether_current(own.client, BLUE)
            assert "gets no new case (no build is current)" in caplog.text
            assert promotion(own.client, BLUE) in caplog.text
            caplog.clear()
            await promote(own.client, BLUE)
            await say_whether_current(own.client, BLUE)
            assert caplog.text == ""
            await say_whether_current(own.client, GREEN)
            assert "gets no new case (blue is current)" in caplog.text
            await say_whether_current(own.client, None)


async def test_a_nodes_worker_needs_no_version_of_its_own(lab: labs.Lab, tmp_path: Path) -> None:
    """A pinned workflow's activity on the queue of a node is done by the unversioned worker there."""
    async with own_server(lab, tmp_path) as own:
        pinned = WorkerDeploymentConfig(BLUE, True, default_versioning_behavior=VersioningBehavior.PINNED)
        async with (
            Worker(own.client, task_queue="cases", workflows=[Asks], deployment_config=pinned),
            Worker(own.client, task_queue=node_queue("n1"), activities=[on_the_node]),
        ):
            await promote(own.client, BLUE)
            handle = await own.client.start_workflow(Asks.run, id="asks", task_queue="cases")
            assert await handle.result(rpc_timeout=timedelta(seconds=30)) == "done"
            assert await build_of(handle) == "blue"


def test_a_process_without_a_build_is_unversioned_and_an_eager_one_has_none() -> None:
    """Eager start passes by worker versioning: both together are refused."""
    assert version_of(TemporalSettings()) is None
    assert version_of(TemporalSettings(deployment="interlock", build_id="blue")) == BLUE
    with pytest.raises(ValueError, match="eager cannot be true with a build_id"):
        TemporalSettings(deployment="interlock", build_id="blue", eager=True)
