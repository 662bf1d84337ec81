"""A worker on a cluster as a process of its own, that ends itself once at a named point: the whole, or one node's."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from contextlib import AsyncExitStack
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from activities.adapters.kube import KubeCluster
from activities.adapters.kube_api import KubeApi
from activities.adapters.kube_config import from_kubeconfig
from activities.adapters.kube_node import NodeActuator
from activities.adapters.webhook import LogNotify
from runbooks.base import Model
from runbooks.fleet import Fleet
from runbooks.library import Library
from runbooks.policy import Policy
from tests.crash.worker_process import FORKS, End, PointedJournal, Reaper
from tests.crash_kube.hands import agent_of
from worker import wiring
from worker.plugin import interlock_plugin
from worker.wiring import Parts


class Job(Model):
    """What a worker process is made of. It writes `ready` when it polls. `node`: the worker of this node's own queue."""

    temporal: str
    task_queue: str
    fleet: Fleet
    policy: Policy
    library: Library
    folder: Path
    kubeconfig: Path
    envoy_admin: str
    ready: Path
    node: str = ""
    end: End | None = None


def start(job: Path, log: Path) -> ForkServerProcess:
    """A new worker process; what it says goes to `log`."""
    FORKS.set_forkserver_preload(["pytest", "tests.crash.warm"])
    process = FORKS.Process(target=_run, args=(job, log))
    process.start()
    return process


def _run(job: Path, log: Path) -> None:
    with log.open("ab") as out:
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(message)s", stream=sys.stderr)
    logging.getLogger("activities.adapters.watch").setLevel(logging.ERROR)  # no Envoy runs here
    asyncio.run(_work(Job.model_validate_json(job.read_bytes())))


async def _work(job: Job) -> None:
    """Polls until the process is ended."""
    reaper = Reaper(job.end)
    journal = PointedJournal(f"sqlite:///{job.folder / 'journal.db'}", reaper)
    async with AsyncExitStack() as stack:
        api = await stack.enter_async_context(KubeApi(from_kubeconfig(job.kubeconfig)))
        if job.node:
            client = await Client.connect(job.temporal, data_converter=pydantic_data_converter)
            actuator = NodeActuator(
                job.fleet, job.node, agent_of(job.node, job.folder), api, checkpoint=reaper, boot_wait_s=8.0
            )
            await stack.enter_async_context(
                wiring.running_node_worker(client, job.node, actuator, journal, checkpoint=reaper)
            )
        else:
            client = await Client.connect(job.temporal, plugins=[interlock_plugin()])
            await stack.enter_async_context(wiring.running_worker(_parts(job, client, api, journal, reaper)))
        job.ready.touch()
        await asyncio.Event().wait()


def _parts(job: Job, client: Client, api: KubeApi, journal: PointedJournal, reaper: Reaper) -> Parts:
    return Parts(
        client=client,
        fleet=job.fleet,
        policy=job.policy,
        library=job.library,
        journal=journal,
        notify=LogNotify(job.folder / "pages.jsonl"),
        claim_key=b"k" * 32,
        envoy_folder=job.folder / "edge",
        envoy_admin=job.envoy_admin,
        route_urls={},
        watch_period_s=2.0,
        probe_timeout_s=0.9,
        task_queue=job.task_queue,
        checkpoint=reaper,
        cluster=KubeCluster(job.fleet, api, checkpoint=reaper),
    )
