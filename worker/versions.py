"""Worker versioning: a case ends on the build that it began on; Guards, which never end, go on with the current one.

A build gets no work before somebody makes it current: the worker says so, with the command. A build whose cases are still
open must go on polling until they are closed (`temporal worker deployment describe-version` says when: DRAINED).
"""

from __future__ import annotations

import logging
import shlex

from temporalio.api.workflowservice.v1 import DescribeWorkerDeploymentRequest
from temporalio.client import Client
from temporalio.common import WorkerDeploymentVersion
from temporalio.service import RPCError, RPCStatusCode

from worker.settings import TemporalSettings
from worker.temporal import where_of

log = logging.getLogger("interlock.worker")


def version_of(settings: TemporalSettings) -> WorkerDeploymentVersion | None:
    """What this process is, or None when it is not versioned."""
    if settings.deployment is None or settings.build_id is None:
        return None
    return WorkerDeploymentVersion(settings.deployment, settings.build_id)


async def current_build(client: Client, deployment: str) -> str | None:
    """The build that new cases go to; None: none, or no worker of it has polled yet. RPCError when it cannot be asked."""
    request = DescribeWorkerDeploymentRequest(namespace=client.namespace, deployment_name=deployment)
    try:
        found = await client.workflow_service.describe_worker_deployment(request)
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return None
        raise
    return found.worker_deployment_info.routing_config.current_deployment_version.build_id or None


def promotion(client: Client, version: WorkerDeploymentVersion) -> str:
    """The command that makes it current."""
    words = ["temporal", "worker", "deployment", "set-current-version", *where_of(client)]
    words += ["--deployment-name", version.deployment_name, "--build-id", version.build_id]
    return shlex.join(words)


async def say_whether_current(client: Client, version: WorkerDeploymentVersion | None) -> None:
    """A line in the log when nothing will come: a new build that nobody promoted looks like one that has nothing to do."""
    if version is None:
        return
    try:
        current = await current_build(client, version.deployment_name)
    except RPCError as error:
        log.warning("whether build %s is current could not be asked: %s", version.build_id, error.message)
        return
    if current != version.build_id:
        why = f"{current} is current" if current else "no build is current"
        log.warning(
            "build %s of %s gets no new case (%s) before: %s",
            version.build_id,
            version.deployment_name,
            why,
            promotion(client, version),
        )
