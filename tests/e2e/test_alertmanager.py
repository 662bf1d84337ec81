"""From a real metric to a restored engine: Prometheus, Alertmanager, our intake, Temporal, Envoy, and back."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from pydantic import SecretStr
from temporalio.service import RPCError

from activities.adapters.webhook import LogNotify
from runbooks.detection import workflow_id
from runbooks.policy import ClassPolicy
from tests import lab as labs
from tests.e2e import doc
from tests.e2e.conftest import served
from tests.e2e.monitoring import alertmanager, prometheus
from worker.intake import IntakeDeps, build_intake
from worker.telemetry import setup

TOKEN = "detector-token"


@asynccontextmanager
async def watched(lab: labs.Lab, folder: Path) -> AsyncIterator[str]:
    """Intake, Alertmanager and Prometheus, wired by the blocks of docs/starting-cases.md. Yields Alertmanager's address."""
    receiver, rules = doc.blocks("1. Alertmanager", "yaml")
    (token := folder / "token").write_text(f"{TOKEN}\n")
    notify = LogNotify(lab.folder / "pages.jsonl")
    intake = build_intake(IntakeDeps(client=lab.client, notify=notify, token=SecretStr(TOKEN), telemetry=setup()))
    async with served(intake) as address:
        with (
            alertmanager(folder, receiver, INTAKE=address, TOKEN_FILE=str(token)) as alerts_to,
            prometheus(folder, lab, rules, alerts_to) as metrics,
        ):

            async def ready() -> bool:
                try:
                    answers = [await lab.http.get(f"http://{a}/-/ready") for a in (alerts_to, metrics)]
                except httpx.HTTPError:
                    return False
                return all(a.status_code == 200 for a in answers)

            await labs.until(ready, "Prometheus and Alertmanager are ready")
            yield alerts_to


async def test_an_engine_that_prometheus_cannot_scrape_is_isolated_and_put_back_when_it_resolves(
    lab: labs.Lab, tmp_path: Path
) -> None:
    """`up == 0` for 2 s → webhook → case → isolated → the engine is back → resolved webhook → restored → closed."""
    sick = lab.engines["b1"]
    rules = labs.policy(engine__crash=ClassPolicy(mode="auto"))
    async with labs.running_worker(lab.parts(rules)), watched(lab, tmp_path):
        sick.kill()
        handle = lab.client.get_workflow_handle(workflow_id(lab.endpoint(sick)))

        await labs.until(lambda: seen(lab, handle.id), "the alert opens a case")
        status = await lab.in_state(handle, "mitigated")

        assert sick.address not in await lab.rotation("chat-b")

        await lab.heal()
        result = await handle.result()

        assert sick.address in await lab.rotation("chat-b")

    assert (result["outcome"], result["failure_class"]) == ("restored", "engine.crash")
    found = status["record"]["detections"][0]
    assert (found["alert"], found["detector"], found["severity"]) == ("EngineCrash", "alertmanager", "critical")
    assert found["evidence"] == {"up": 0.0}
    assert found["fingerprint"]
    last = json.loads(await case_record(lab, status["case"]))["detections"][0]
    assert (last["status"], last["fingerprint"]) == ("resolved", found["fingerprint"])


async def case_record(lab: labs.Lab, case: str) -> str:
    """The closed case as the journal keeps it."""
    record = await lab.parts().journal.record(case)
    assert record is not None
    return record


async def test_a_bad_alert_of_a_group_reaches_people_and_its_good_neighbour_opens_a_case(
    lab: labs.Lab, tmp_path: Path
) -> None:
    """Alertmanager drops a group on a 4xx: so the good alert is taken, and people hear about the one without a target."""
    async with labs.running_worker(lab.parts()), watched(lab, tmp_path) as alerts_to:
        good = {"alertname": "ClusterLost", "cluster": "elsewhere", "severity": "critical"}
        bad = {"alertname": "NobodyKnowsWhere", "severity": "critical"}
        answer = await lab.http.post(f"http://{alerts_to}/api/v2/alerts", json=[{"labels": good}, {"labels": bad}])
        assert answer.status_code == 200

        async def told() -> bool:
            return any("NobodyKnowsWhere: alerts.0.labels: no label names a target" in p["body"] for p in lab.pages())

        await labs.until(told, "people are told about the bad alert")
        status = await labs.until(lambda: seen(lab, "remediate:elsewhere"), "the good alert opens a case")

    assert status["class"] == "infra.capacity_loss"


async def seen(lab: labs.Lab, case: str) -> dict[str, Any] | None:
    """The status of a case once it has a class."""
    try:
        status = await lab.status(lab.client.get_workflow_handle(case))
    except RPCError:  # not found yet
        return None
    return status if status.get("class") else None
