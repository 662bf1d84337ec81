"""`interlock detect --nvml` as a user runs it: its own process, a real intake, a real Temporal server."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from temporalio.client import Client
from temporalio.service import RPCError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from runbooks.detection import TASK_QUEUE
from tests.nvml.conftest import until
from tests.nvml.standin import SONAME, Node
from tests.worker.conftest import PagedPeople, RecordingRemediation, dev_server, recorder_write, serve
from worker.intake import IntakeDeps, build_intake
from worker.settings import IntakeSettings
from worker.telemetry import setup

CASE = "remediate:west/node/node-7/gpu/1"


@contextlib.asynccontextmanager
async def intake(client: Client) -> AsyncIterator[str]:
    """A served intake, and a worker whose Remediation records what reaches it."""
    app = build_intake(
        IntakeDeps(
            client=client, notify=PagedPeople(), token=SecretStr("t0ken"), telemetry=setup(), settings=IntakeSettings()
        )
    )
    async with (
        Worker(
            client,
            task_queue=TASK_QUEUE,
            workflows=[RecordingRemediation],
            activities=[recorder_write],
            workflow_runner=UnsandboxedWorkflowRunner(),
        ),
        serve(app) as url,
    ):
        yield url


@contextlib.asynccontextmanager
async def command(*arguments: str, **environment: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """`interlock detect …` in a process of its own."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("INTERLOCK_")}
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "worker", "detect", *arguments,
        env={**clean, **environment}, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        yield child
    finally:
        if child.returncode is None:
            child.kill()
        await child.communicate()


async def seen(client: Client) -> list[dict[str, Any]]:
    """What the case of GPU 1 was told so far."""
    try:
        status = await client.get_workflow_handle(CASE).query("status")
    except RPCError:
        return []  # not started yet
    found: list[dict[str, Any]] = status["seen"]
    return found


async def told(client: Client, alert: str, status: str, within_s: float) -> dict[str, Any]:
    """The first such Detection that reaches the case."""
    loop = asyncio.get_running_loop()
    end = loop.time() + within_s
    while True:
        for detection in await seen(client):
            if (detection["alert"], detection["status"]) == (alert, status):
                return detection
        assert loop.time() < end, f"{alert} {status} did not reach the case within {within_s} s"
        await asyncio.sleep(0.05)


async def test_a_gpus_fault_becomes_the_case_of_that_gpu_and_ends_when_it_was_reset(node: Node, library: Path) -> None:
    """XID and wish in one case; what the driver no longer wants is resolved."""
    async with dev_server() as env, intake(env.client) as url, command(
        "--nvml", "--node", "node-7", "--cluster", "west", "--period-s", "0.2", "--lock", str(node.folder / "lock"),
        INTERLOCK_API_URL=url, INTERLOCK_INTAKE__TOKEN="t0ken", LD_LIBRARY_PATH=str(library.parent),
    ):  # fmt: skip
        node.set(1, recovery=1)
        wish = await told(env.client, "GpuRecoveryWanted", "firing", 30)
        await until(lambda: node.registered == ["0", "1"], 30, "listening")
        node.xid(1, 95)
        xid = await told(env.client, "GpuXid", "firing", 30)
        node.set(1)
        await told(env.client, "GpuRecoveryWanted", "resolved", 30)

    assert wish["evidence"]["recovery_action"] == "gpu_reset"
    assert wish["detector"] == "nvml"
    assert xid["evidence"]["xid"] == 95
    assert xid["target"] == {"cluster": "west", "service": None, "endpoint": None, "node": "node-7", "gpu": "1"}


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (
            ("--nvml", "--node", "node-7", "--cluster", "west"),
            1,
            "interlock: libnvidia-ml.so.1 (NVML, a part of NVIDIA's",
        ),
        (("--nvml", "--node", "node-7"), 2, "--nvml needs --node and --cluster"),
        (("--nvml", "--node", "a b", "--cluster", "west"), 2, "are names without spaces"),
        (("--node", "node-7"), 2, "go with --nvml"),
    ],
)
async def test_what_is_missing_is_said_in_one_sentence(
    tmp_path: Path, arguments: tuple[str, ...], status: int, sentence: str
) -> None:
    """The library, or an option: no traceback, and a status that is not 0."""
    (tmp_path / SONAME).touch()  # no library, even where the machine has one
    async with command(
        *arguments, INTERLOCK_INTAKE__TOKEN="t0ken", COLUMNS="200", LD_LIBRARY_PATH=str(tmp_path)
    ) as child:
        _, said = await asyncio.wait_for(child.communicate(), 60)

    text = said.decode()
    assert child.returncode == status
    assert sentence in text
    assert "Traceback" not in text
