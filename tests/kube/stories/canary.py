"""The site's own canary: known prompts to every replica, judged by their text, as a metric that a real Prometheus scrapes."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse

from tests import lab as labs
from tests.e2e.conftest import served
from tests.e2e.monitoring import PROMETHEUS
from tests.kube.cluster import Cluster

EVERY_S = 0.5


class Canary:
    """Asks every serving replica; `passed` is the newest judgement by pool and address."""

    def __init__(self, cluster: Cluster, http: httpx.AsyncClient) -> None:
        self._cluster = cluster
        self._http = http
        self.passed: dict[tuple[str, str], bool] = {}

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            places = [(p.name, a) for p in self._cluster.pools for a in self._cluster.serving(p.name)]
            found = await asyncio.gather(*(self._right(address) for _, address in places))
            self.passed = dict(zip(places, found, strict=True))
            await asyncio.sleep(EVERY_S)

    def page(self) -> PlainTextResponse:
        """As Prometheus reads it."""
        rows = (
            f'interlock_canary_pass{{service="{pool}",endpoint="{address}"}} {int(ok)}\n'
            for (pool, address), ok in sorted(self.passed.items())
        )
        return PlainTextResponse("# TYPE interlock_canary_pass gauge\n" + "".join(rows))

    async def _right(self, address: str) -> bool:
        body = {"model": "smollm2", "prompt": "Say something.", "max_tokens": 2}
        try:
            answer = await self._http.post(f"http://{address}/v1/completions", json=body)
        except httpx.HTTPError:
            return False
        return answer.status_code == httpx.codes.OK and bool(answer.json()["choices"][0]["text"].strip())


@asynccontextmanager
async def watched(cluster: Cluster, folder: Path) -> AsyncIterator[str]:
    """A canary and a Prometheus that scrapes it each second. Yields Prometheus' URL."""
    app = FastAPI(openapi_url=None)
    async with httpx.AsyncClient(timeout=2, trust_env=False) as http:
        canary = Canary(cluster, http)
        app.add_api_route("/metrics", canary.page)
        asking = asyncio.create_task(canary.run())
        try:
            async with served(app) as exporter, _prometheus(folder, exporter, http) as url:
                yield url
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)


@asynccontextmanager
async def _prometheus(folder: Path, exporter: str, http: httpx.AsyncClient) -> AsyncIterator[str]:
    config = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
        "scrape_configs": [{"job_name": "canary", "static_configs": [{"targets": [exporter]}]}],
    }
    (path := folder / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML
    address = f"127.0.0.1:{labs.free_port()}"
    argv = [
        PROMETHEUS, f"--config.file={path}", f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address={address}",
    ]  # fmt: skip
    with (folder / "prometheus.log").open("ab") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log)
    try:

        async def reads() -> bool:
            asked = {"query": "min(interlock_canary_pass)"}
            try:
                answer = await http.get(f"http://{address}/api/v1/query", params=asked)
            except httpx.HTTPError:
                return False
            return answer.status_code == httpx.codes.OK and bool(answer.json()["data"]["result"])

        await labs.until(reads, "Prometheus has read the canary")
        yield f"http://{address}"
    finally:
        process.kill()  # nothing of a test is worth flushing
        process.wait(10)
