"""`interlock intake` as a process of its own: both doors, killed in the middle of a burst, ended politely."""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from temporalio.client import Client

from worker.identity import dev_issuer, ensure_claim_key

_numbers = itertools.count()
FLEET = """
routes:
  - {name: chat, pools: [pool-a]}
pools:
  - name: pool-a
    cluster: eu1
    dialect: vllm
    tokens_per_second: 100.0
    endpoints: [{address: "10.0.0.1:8000"}]
"""
POLICY = "name: test\n"


@pytest.fixture
def environment(tmp_path: Path, address: str, free_port: int) -> dict[str, str]:
    """All that an intake needs, by the variables that an operator sets."""
    (tmp_path / "fleet.yaml").write_text(FLEET)
    (tmp_path / "policy.yaml").write_text(POLICY)
    (tmp_path / "token").write_text("detector-token\n")
    people = dev_issuer(tmp_path / "issuer").settings
    ours = {
        "TEMPORAL__ADDRESS": address,
        "INTAKE__PORT": str(free_port),
        "INTAKE__TOKEN_FILE": str(tmp_path / "token"),
        "FLEET_FILE": str(tmp_path / "fleet.yaml"),
        "POLICY_FILE": str(tmp_path / "policy.yaml"),
        "JOURNAL_URL": f"sqlite:///{tmp_path}/journal.db",
        "PAGES_FILE": str(tmp_path / "pages.log"),
        "CLAIM_KEY_FILE": str(ensure_claim_key(tmp_path / "claim.key")),
        "PEOPLE__JWKS_FILE": str(people.jwks_file),
        "PEOPLE__ISSUER": str(people.issuer),
        "PEOPLE__AUDIENCE": str(people.audience),
    }
    rest = {k: v for k, v in os.environ.items() if not k.startswith("INTERLOCK_")}
    return rest | {f"INTERLOCK_{k}": v for k, v in ours.items()}


@asynccontextmanager
async def running(environment: dict[str, str], until: Any) -> AsyncIterator[asyncio.subprocess.Process]:
    """An intake that answers; killed at the end if it still runs."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "worker", "intake", env=environment, stderr=asyncio.subprocess.PIPE
    )

    async def answers() -> bool:
        try:
            async with httpx.AsyncClient() as http:
                return (await http.get(base(environment) + "/readyz")).status_code == 200
        except httpx.TransportError:
            return False

    try:
        await until(answers, 30.0)
        yield child
    finally:
        if child.returncode is None:
            child.kill()
        await child.communicate()


def base(environment: dict[str, str]) -> str:
    """Where it listens."""
    return f"http://127.0.0.1:{environment['INTERLOCK_INTAKE__PORT']}"


async def test_both_doors_are_served_and_sigterm_ends_it_with_0(
    environment: dict[str, str], client: Client, tmp_path: Path, eventually: Any
) -> None:
    """A bad alert ends in the pages file, a person may list cases, and what is under way is finished."""
    token = dev_issuer(tmp_path / "issuer").mint("ana", ("sre-oncall",))
    async with running(environment, eventually) as child, httpx.AsyncClient(base_url=base(environment)) as http:
        group = {"alerts": [{"status": "pending", "labels": {"alertname": "X", "cluster": "eu1"}}]}
        alert = await http.post(
            "/v1/alerts/alertmanager", json=group, headers={"authorization": "Bearer detector-token"}
        )
        cases = await http.get("/v1/cases", headers={"authorization": f"Bearer {token}"})
        child.terminate()
        assert await child.wait() == 0

    assert (alert.status_code, cases.status_code) == (202, 200)
    assert "firing or resolved" in (tmp_path / "pages.log").read_text()


async def test_a_request_whose_head_never_ends_is_ended_before_it_fills_the_memory(
    environment: dict[str, str], client: Client, eventually: Any
) -> None:
    """Whoever reaches the port needs no token for it."""
    sent = 0
    async with running(environment, eventually):
        _, writer = await asyncio.open_connection("127.0.0.1", int(environment["INTERLOCK_INTAKE__PORT"]))
        try:
            writer.write(b"POST /v1/alerts/alertmanager HTTP/1.1\r\nhost: x\r\nx-endless: ")
            while sent < 50_000_000:
                writer.write(b"a" * 65_536)
                await writer.drain()
                sent += 65_536
        except ConnectionError:
            pass
        finally:
            writer.close()
    assert sent < 20_000_000, "what the kernels hold between the two, and no more"


async def test_killed_in_the_middle_of_a_burst_nothing_that_was_acknowledged_is_lost(
    environment: dict[str, str], client: Client, eventually: Any
) -> None:
    """kill -9, start again, senders come again until 2xx: every detection is in its case."""
    pools = [f"burst-{next(_numbers)}" for _ in range(5)]
    acknowledged: set[tuple[str, str]] = set()

    async def send(http: httpx.AsyncClient, pool: str, number: int) -> None:
        body = {
            "alert": "EngineHang",
            "target": {"cluster": "eu1", "service": pool},
            "started_at": "2026-01-31T12:00:00Z",
            "observed_at": "2026-01-31T12:00:00Z",
            "fingerprint": f"f{number}",
        }
        while (pool, body["fingerprint"]) not in acknowledged:
            try:
                answer = await http.post("/v1/detections", json=body)
            except httpx.TransportError:
                await asyncio.sleep(0.1)
                continue
            if answer.status_code == 202:
                acknowledged.add((pool, f"f{number}"))

    headers = {"authorization": "Bearer detector-token"}
    limits = httpx.Limits(max_connections=20)
    async with httpx.AsyncClient(base_url=base(environment), headers=headers, limits=limits, timeout=30) as http:
        async with running(environment, eventually) as child:
            burst = asyncio.gather(*(send(http, pool, n) for n in range(40) for pool in pools))
            await eventually(lambda: len(acknowledged) >= 30)
            child.kill()
            await child.wait()
        assert len(acknowledged) < 200, "the burst was over before the kill: nothing was tested"
        async with running(environment, eventually):
            await asyncio.wait_for(burst, 60)

    heard = set()
    for pool in pools:
        status = await client.get_workflow_handle(f"remediate:eu1/service/{pool}").query("status")
        heard |= {(pool, d["fingerprint"]) for d in status["seen"]}
    assert heard == {(pool, f"f{n}") for n in range(40) for pool in pools}


async def test_a_wrong_environment_is_one_sentence(environment: dict[str, str]) -> None:
    """No token: it does not start, and says which variable."""
    del environment["INTERLOCK_INTAKE__TOKEN_FILE"]
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "worker", "intake", env=environment, stderr=asyncio.subprocess.PIPE
    )
    _, err = await asyncio.wait_for(child.communicate(), 60)

    assert child.returncode == 1
    assert err.decode().strip().splitlines()[-1].startswith("interlock: INTERLOCK_INTAKE__TOKEN")
    assert "Traceback" not in err.decode()
