"""Temporal away: nothing is acknowledged, senders are told to come again, and people hear of it once."""

from __future__ import annotations

import time
from typing import Any

from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

BODY = {
    "alert": "EngineHang",
    "target": {"cluster": "eu1", "service": "pool-away"},
    "started_at": "2026-01-31T12:00:00Z",
    "observed_at": "2026-01-31T12:00:05Z",
}
GROUP = {
    "version": "4",
    "alerts": [
        {
            "status": "firing",
            "labels": {"alertname": "X", "cluster": "eu1", "service": "pool-away"},
            "annotations": {},
            "startsAt": "2026-01-31T12:00:00Z",
        }
    ],
}


async def test_a_stopped_server_means_503_retry_after_and_one_page(
    new_dev_server: Any, make_intake: Any, eventually: Any
) -> None:
    """Within the detector's patience, for both formats; readyz says so, healthz does not; people are told once."""
    async with new_dev_server() as env:
        address = env.client.service_client.config.target_host
        client = await Client.connect(address, data_converter=pydantic_data_converter)
        async with make_intake(client, page_after_s=0.4, rpc_timeout_s=1.0) as intake:
            assert (await intake.http.get("/readyz")).status_code == 200
            accepted = await intake.http.post("/v1/detections", json=BODY)
            assert accepted.status_code == 202

            await env.shutdown()
            for path, body in (("/v1/detections", BODY), ("/v1/alerts/alertmanager", GROUP)):
                began = time.monotonic()
                answer = await intake.http.post(path, json=body)
                assert answer.status_code == 503
                assert int(answer.headers["retry-after"]) > 0
                assert "accepted" not in answer.json()
                assert time.monotonic() - began < 5.0
            ready = await intake.http.get("/readyz")
            assert (ready.status_code, (await intake.http.get("/healthz")).status_code) == (503, 200)
            assert ready.headers["retry-after"]

            await eventually(lambda: intake.people.pages)
            looks = intake.app.state.watch.looks
            await eventually(lambda: intake.app.state.watch.looks >= looks + 3)
            assert len(intake.people.pages) == 1
            assert "Temporal" in intake.people.pages[0][1]


async def test_the_intake_starts_without_temporal_and_takes_alerts_when_it_comes(
    new_dev_server: Any, make_intake: Any, free_port: int, eventually: Any
) -> None:
    """A lazy client: first 503, then the very same request is accepted."""
    client = await Client.connect(f"127.0.0.1:{free_port}", data_converter=pydantic_data_converter, lazy=True)
    async with make_intake(client, page_after_s=0.4) as intake:
        assert (await intake.http.post("/v1/detections", json=BODY)).status_code == 503
        async with new_dev_server(port=free_port):
            answer = await intake.http.post("/v1/detections", json=BODY)
            assert answer.status_code == 202


async def test_a_page_that_nobody_took_is_sent_again(make_intake: Any, free_port: int, eventually: Any) -> None:
    """The dead-man page is retried until the pager acknowledges it."""
    client = await Client.connect(f"127.0.0.1:{free_port}", data_converter=pydantic_data_converter, lazy=True)
    async with make_intake(client, page_after_s=0.2, deaf=True) as intake:
        await eventually(lambda: intake.people.refused >= 2)
        intake.people.deaf = False
        await eventually(lambda: len(intake.people.pages) == 1)
