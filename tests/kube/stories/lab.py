"""All of Interlock around one cluster: a real Alertmanager, our intake, Temporal, our worker under the shipped roles,
Envoy in front of the pools, and users who ask through it all the while."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from pydantic import SecretStr
from temporalio.client import Client, WorkflowHandle
from temporalio.service import RPCError

from activities.adapters.exposition import parse, total
from activities.adapters.kube import KubeCluster
from activities.adapters.kube_api import KubeApi
from activities.adapters.kube_config import from_kubeconfig
from activities.adapters.sql import SqlJournal
from activities.adapters.webhook import LogNotify
from runbooks.detection import Target, workflow_id
from runbooks.fleet import Fleet
from runbooks.library import Library, load_library
from runbooks.policy import ClassPolicy, LeverPolicy, Policy, Timing
from runbooks.record import CaseRecord, StepRecord
from tests import lab as labs
from tests.e2e import doc
from tests.e2e.conftest import served
from tests.e2e.monitoring import alertmanager
from tests.kube.audit import Write
from tests.kube.cluster import PoolSpec
from tests.kube.control_plane import ControlPlane
from tests.kube.edge import Edge
from tests.kube.stories.canary import watched
from tests.kube.stories.cluster import StoryCluster
from tests.kube.stories.users import Users
from worker.intake import IntakeDeps, build_intake
from worker.telemetry import setup
from worker.wiring import Parts, running_worker

TOKEN = "detector-token"
ACCOUNT = "system:serviceaccount:interlock:interlock"
ROUTE_TIMEOUT_S = 5.0


SOAKS = {"increase_capacity": 5.0}
"""Seconds, where one is not enough: what waited must drain before the queue tells whether the new replica suffices."""


def quick() -> Library:
    """The shipped catalogue with short soaks; what it measures and in which order is as shipped."""
    library = load_library(None)

    def faster(step: Any) -> Any:
        if step.verify is None:
            return step
        soak = SOAKS.get(step.lever, 1.0)
        verify = step.verify.model_copy(update={"soak_s": soak, "every_s": 0.5, "deadline_s": 25.0, "min_samples": 2})
        restore = step.restore.model_copy(update={"clear_for_s": 1.0, "every_s": 0.5})
        more = {"parameters": {**step.parameters, "increment": 0.5}} if step.lever == "shed_load" else {}
        return step.model_copy(update={"verify": verify, "restore": restore, **more})

    books = {
        name: b.model_copy(update={"steps": tuple(faster(s) for s in b.steps)}) for name, b in library.runbooks.items()
    }
    return library.model_copy(update={"runbooks": books})


def rules(**classes: ClassPolicy) -> Policy:
    """Auto for the classes that are named (dots are two underscores), quick holds."""
    generous = {"max_acts_per_hour": 1000, "attempts": 1000}
    levers = (
        "rebalance_nodes",
        "increase_capacity",
        "shed_load",
        "rollout_hotfix",
        "rollback_change",
        "reset_gpu",
        "reboot_node",
    )
    return Policy(
        name="stories",
        classes={name.replace("__", "."): found for name, found in classes.items()},
        levers={name: LeverPolicy(largest_increment=0.5, **generous) for name in levers},
        min_answering=0.5,
        timing=Timing(scrape_period_s=2.5, settle_s=0.2, hold_s=0.5, hold_limit_s=6, linger_s=0),
    )


@dataclass
class Story:
    """Handles to everything. The case of a target is `handle(target)`."""

    cluster: StoryCluster
    fleet: Fleet
    edge: Edge
    users: Users
    client: Client
    http: httpx.AsyncClient
    folder: Path
    alerts: str
    parts: Parts

    @property
    def plane(self) -> ControlPlane:
        """The real one."""
        return self.cluster.control_plane

    def target(self, **parts: str) -> Target:
        """Of this story's cluster."""
        return Target(cluster=self.cluster.name, **parts)

    async def queued(self, pool: str, above: int) -> None:
        """Waits until more requests than that wait in the pool: no detector fires before there is something to see."""

        async def there() -> bool:
            return await self.waiting(pool) > above

        await labs.until(there, f"more than {above} requests wait in {pool}")

    async def waiting(self, pool: str) -> float:
        """Requests that wait in the pool's engines now, by their own metrics."""
        pages = [(await self.http.get(f"http://{a}/metrics")).text for a in self.cluster.serving(pool)]
        return sum(total(parse(page), "vllm:num_requests_waiting") or 0.0 for page in pages)

    async def fire(self, name: str, labels: dict[str, str], **evidence: float) -> None:
        """The alert, put into Alertmanager; it sends the webhook."""
        self._alert = self._said(name, labels, evidence)
        await self._put(self._alert)

    async def resolve(self) -> None:
        """The last alert is over."""
        await self._put({**self._alert, "endsAt": datetime.now(UTC).isoformat()})

    def _said(self, name: str, labels: dict[str, str], evidence: dict[str, float]) -> dict[str, Any]:
        about = {"alertname": name, "cluster": self.cluster.name, "severity": "critical", **labels}
        notes = {f"evidence_{k}": str(v) for k, v in evidence.items()}
        return {"labels": about, "annotations": notes, "startsAt": datetime.now(UTC).isoformat()}

    async def _put(self, alert: dict[str, Any]) -> None:
        (await self.http.post(f"http://{self.alerts}/api/v2/alerts", json=[alert])).raise_for_status()

    async def opened(self, target: Target) -> WorkflowHandle[Any, Any]:
        """The case of a target once it has a class."""
        handle = self.client.get_workflow_handle(workflow_id(target))

        async def classified() -> bool:
            try:
                return bool((await self.status(handle)).get("class"))
            except RPCError:  # not found yet
                return False

        await labs.until(classified, "the webhook opens a case")
        return handle

    async def status(self, handle: WorkflowHandle[Any, Any]) -> dict[str, Any]:
        """The case's own word."""
        found: dict[str, Any] = await handle.query("status")
        return found

    async def in_state(self, handle: WorkflowHandle[Any, Any], *states: str, deadline_s: float = 60) -> dict[str, Any]:
        """Waits until the case is in one of the states; its status then."""
        last: dict[str, Any] = {}

        async def there() -> bool:
            last.update(await self.status(handle))
            return last["state"] in states

        try:
            await labs.until(there, f"state {states}", deadline_s)
        except AssertionError as error:
            raise AssertionError(f"{error}; it is {last.get('state')}:\n{story_of(last['record'])}") from None
        return last

    async def asks(self, handle: WorkflowHandle[Any, Any], step: str, deadline_s: float = 60) -> dict[str, Any]:
        """Waits until the case asks people about the step; its status then."""
        last: dict[str, Any] = {}

        async def there() -> bool:
            last.update(await self.status(handle))
            return bool(last["waiting"] and last["waiting"]["step"] == step)

        try:
            await labs.until(there, f"people are asked about {step}", deadline_s)
        except AssertionError as error:
            raise AssertionError(f"{error}; it is {last.get('state')}:\n{story_of(last['record'])}") from None
        return last

    async def tells(self, handle: WorkflowHandle[Any, Any], what: str, text: str, deadline_s: float = 60) -> None:
        """Waits for a line of the timeline: its kind, and words of it."""
        last: dict[str, Any] = {}

        async def there() -> bool:
            last.update(await self.status(handle))
            return any(e["what"] == what and text in e["text"] for e in last["record"]["timeline"])

        try:
            await labs.until(there, f"{what}: {text}", deadline_s)
        except AssertionError as error:
            raise AssertionError(f"{error}; it is {last.get('state')}:\n{story_of(last['record'])}") from None

    async def approve(self, handle: WorkflowHandle[Any, Any], status: dict[str, Any]) -> None:
        """What a person sends from Temporal's UI."""
        asked = status["waiting"]
        decision = {"step": asked["step"], "plan": asked["digest"], "decision": "approve", "reason": "seen it"}
        await handle.signal("decide", decision)

    async def closed(self, handle: WorkflowHandle[Any, Any], deadline_s: float = 90) -> CaseRecord:
        """The case's record, from the journal, when its workflow has ended."""
        case = (await self.status(handle))["case"]

        async def ended() -> bool:
            return await self.parts.journal.record(case) is not None

        try:
            await labs.until(ended, "the case is closed", deadline_s)
        except AssertionError as error:
            record = (await self.status(handle))["record"]
            raise AssertionError(f"{error}:\n{story_of(record)}\n{self.cluster.world.told()}") from None
        await handle.result()
        text = await self.parts.journal.record(case)
        assert text is not None
        return CaseRecord.model_validate_json(text)

    def writes(self) -> list[Write]:
        """What Interlock wrote to the API server about this cluster, in order: the fence and dry runs left out."""
        mine = [w for w in self.plane.writes(user=ACCOUNT) if w.applied and w.resource != "configmaps"]
        return [w for w in mine if w.namespace == self.cluster.namespace or w.name in self.cluster.nodes]

    def forbidden(self) -> list[Write]:
        """What the API server forbade Interlock: none, under the roles that are shipped."""
        return [w for w in self.plane.writes(user=ACCOUNT) if w.status == httpx.codes.FORBIDDEN]

    def pages(self) -> list[dict[str, Any]]:
        """What people were told."""
        path = self.folder / "pages.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def words(write: Write) -> str:
    """A write in three words: verb, resource, name."""
    what = write.resource + (f"/{write.subresource}" if write.subresource else "")
    return f"{write.verb} {what} {write.name}"


def story_of(record: dict[str, Any] | CaseRecord) -> str:
    """The timeline with the gates that did not allow, for failure messages."""
    found = record if isinstance(record, CaseRecord) else CaseRecord.model_validate(record)
    lines = [(e.at, f"{e.what}: {e.text}") for e in found.timeline]
    for judged in found.verdicts:
        said = "; ".join(f"{g.gate} {g.outcome}: {g.reason}" for g in judged.verdict.gates if g.outcome != "allow")
        lines.append((judged.at, f"  gates on {judged.purpose} {judged.step}: {said or 'all allow'} {judged.guard}"))
    return "\n".join(f"{at:%H:%M:%S.%f} {text}" for at, text in sorted(lines))


def step_of(record: CaseRecord, lever: str) -> StepRecord:
    """The record of the lever's step."""
    return next(s for s in record.steps if s.lever == lever)


def said(record: CaseRecord, purpose: str, gate: str, step: str = "") -> str:
    """What the gate answered when it was last asked with this purpose (about this step)."""
    asked = [j for j in record.verdicts if j.purpose == purpose and step in ("", j.step)]
    return next(g.reason for g in asked[-1].verdict.gates if g.gate == gate)


@asynccontextmanager
async def told(
    plane: ControlPlane,
    client: Client,
    folder: Path,
    name: str,
    pools: tuple[PoolSpec, ...],
    nodes: dict[str, int],
    policy: Policy,
    roles: tuple[str, ...],
    speed: float = 200,
    canary: bool = False,
    **more: Any,
) -> AsyncIterator[Story]:
    """A story's whole stage. `name` is its cluster: no two stories share one, or they would share a Guard. `speed` is what
    the fleet says of one replica, tokens/s; with a `canary`, Prometheus has what it finds."""
    folder.mkdir(parents=True, exist_ok=True)
    async with AsyncExitStack() as stack:
        cluster = StoryCluster(plane, folder, pools, {f"{name}-{n}": gpus for n, gpus in nodes.items()}, name=name)
        cluster.tokens_per_second = speed
        stack.enter_context(cluster)
        cluster.grant(*roles)
        fleet = cluster.inventory()
        edge = stack.enter_context(cluster.edge(fleet, ROUTE_TIMEOUT_S))
        token = plane.service_account_token("interlock", "interlock")
        api = await stack.enter_async_context(KubeApi(from_kubeconfig(plane.kubeconfig_of(f"story-{name}", token))))
        notify = LogNotify(folder / "pages.jsonl")
        prometheus = await stack.enter_async_context(watched(cluster, folder)) if canary else None
        parts = Parts(
            client=client,
            fleet=fleet,
            policy=policy,
            library=quick(),
            journal=SqlJournal(f"sqlite:///{folder / 'journal.db'}"),
            notify=notify,
            claim_key=labs.CLAIM_KEY,
            envoy_folder=edge.folder,
            envoy_admin=edge.admin,
            route_urls={"chat": edge.front},
            watch_period_s=0.5,
            probe_timeout_s=2.0,
            prometheus_url=prometheus,
            cluster=KubeCluster(fleet, api),
            **more,
        )
        await stack.enter_async_context(running_worker(parts))
        intake = build_intake(
            IntakeDeps(client=client, notify=notify, token=SecretStr(TOKEN), telemetry=setup(), fleet=fleet)
        )
        door = await stack.enter_async_context(served(intake))
        (secret := folder / "token").write_text(f"{TOKEN}\n")
        receiver = doc.blocks("1. Alertmanager", "yaml")[0]
        alerts = stack.enter_context(alertmanager(folder, receiver, INTAKE=door, TOKEN_FILE=str(secret)))
        http = await stack.enter_async_context(httpx.AsyncClient(timeout=5, trust_env=False))

        async def ready() -> bool:
            try:
                return (await http.get(f"http://{alerts}/-/ready")).status_code == httpx.codes.OK
            except httpx.HTTPError:
                return False

        await labs.until(ready, "Alertmanager is ready")
        users = await stack.enter_async_context(Users(edge.front))
        yield Story(cluster, fleet, edge, users, client, http, folder, alerts, parts)
