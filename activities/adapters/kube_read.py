"""One picture of a cluster: every list that the state rests on, asked for in parallel."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from activities.adapters.kube_api import KubeApi
from activities.adapters.kube_errors import Json
from activities.adapters.kube_fence import KubeFence
from activities.adapters.kube_rules import Mark
from activities.adapters.reading import Clock

RUNNING = "status.phase!=Succeeded,status.phase!=Failed"
"""Pods that have ended hold no GPU."""
APPS, CORE, POLICY = "/apis/apps/v1", "/api/v1", "/apis/policy/v1"
AUTOSCALING = "/apis/autoscaling/v2"


@dataclass(frozen=True)
class Picture:
    """Objects as the API server gave them. `observed_at` is the moment before the first was asked for."""

    observed_at: datetime
    mark: Mark | None
    nodes: tuple[Json, ...]
    pods: tuple[Json, ...]
    deployments: tuple[Json, ...]
    replicasets: tuple[Json, ...]
    budgets: tuple[Json, ...]
    autoscalers: tuple[Json, ...]
    quotas: tuple[Json, ...]


async def picture(api: KubeApi, fence: KubeFence, domain: str, namespaces: Iterable[str], clock: Clock) -> Picture:
    """All nodes and all running pods of the cluster, since any pod may hold GPUs; the rest by namespace."""
    observed_at = clock()
    names = sorted(set(namespaces))

    async def of(path: str) -> tuple[Json, ...]:
        return (await api.list(path)).items

    async def each(group: str, kind: str) -> tuple[Json, ...]:
        found = await together(*(of(f"{group}/namespaces/{name}/{kind}") for name in names))
        return tuple(item for part in found for item in part)

    async def pods() -> tuple[Json, ...]:
        return (await api.list(f"{CORE}/pods", {"fieldSelector": RUNNING})).items

    mark, *lists = await together(
        fence.mark(domain),
        of(f"{CORE}/nodes"),
        pods(),
        each(APPS, "deployments"),
        each(APPS, "replicasets"),
        each(POLICY, "poddisruptionbudgets"),
        each(AUTOSCALING, "horizontalpodautoscalers"),
        each(CORE, "resourcequotas"),
    )
    return Picture(observed_at, mark, *lists)


async def together(*work: Coroutine[Any, Any, Any]) -> list[Any]:
    """All results, in order. The first failure ends the others and is raised as itself."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in work]
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from failed
    return [task.result() for task in tasks]
