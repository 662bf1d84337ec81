"""A real Prometheus and a small static Envoy as child processes, and an exporter whose page the test writes."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sysconfig
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from tests.adapters.engine_lab import Engine, free_port, wait_http

PROMETHEUS = Path("/usr/bin/prometheus")
ENVOY = Path(sysconfig.get_paths()["purelib"]) / "envoy/_bin/envoy"
_TYPE = "type.googleapis.com/envoy.extensions.filters"


class Prometheus:
    """A running Prometheus."""

    def __init__(self, url: str, process: subprocess.Popen[bytes]) -> None:
        self.url, self.process = url, process


@contextmanager
def prometheus(folder: Path, targets: dict[str, str]) -> Iterator[Prometheus]:
    """Scrapes `targets` (address by job) each 200 ms."""
    jobs = [{"job_name": job, "static_configs": [{"targets": [address]}]} for job, address in targets.items()]
    config = folder / "prometheus.yml"
    config.write_text(json.dumps({"global": {"scrape_interval": "200ms"}, "scrape_configs": jobs}))
    port = free_port()
    command = [
        str(PROMETHEUS),
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=error",
    ]
    process = subprocess.Popen(command)
    try:
        wait_http(f"http://127.0.0.1:{port}/-/ready", process)
        yield Prometheus(f"http://127.0.0.1:{port}", process)
    finally:
        process.kill()
        process.wait()


class Exporter:
    """Serves `page` at any path."""

    def __init__(self) -> None:
        self.page = ""
        self.address = ""

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = self.page.encode()
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: text/plain; version=0.0.4\r\n")
        writer.write(b"content-length: %d\r\n\r\n%s" % (len(body), body))
        await writer.drain()
        writer.close()


@asynccontextmanager
async def exporter() -> AsyncIterator[Exporter]:
    """An Exporter on a free port."""
    made = Exporter()
    server = await asyncio.start_server(made._serve, "127.0.0.1", 0)
    made.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield made


class Envoy:
    """A running Envoy: `front`/POOL/v1/completions goes to the pool's engines, round robin."""

    def __init__(self, front: str, admin: str) -> None:
        self.front, self.admin = front, admin


@contextmanager
def envoy(folder: Path, pools: dict[str, list[Engine]]) -> Iterator[Envoy]:
    """Start it from the main thread: it ends with the thread that started it."""
    admin, front = free_port(), free_port()
    routes = [
        {"match": {"prefix": f"/{pool}/"}, "route": {"cluster": pool, "timeout": "5s", "prefix_rewrite": "/"}}
        for pool in pools
    ]
    manager = {
        "@type": f"{_TYPE}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "front",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        "http_filters": [{"name": "router", "typed_config": {"@type": f"{_TYPE}.http.router.v3.Router"}}],
    }
    config = {
        "admin": {"address": _address(admin)},
        "static_resources": {
            "listeners": [
                {
                    "name": "front",
                    "address": _address(front),
                    "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
                }
            ],
            "clusters": [_cluster(pool, members) for pool, members in pools.items()],
        },
    }
    path = folder / "envoy.json"
    path.write_text(json.dumps(config))
    command = [str(ENVOY), "-c", str(path), "--use-dynamic-base-id", "--concurrency", "1", "--log-level", "error"]
    process = subprocess.Popen(command)
    try:
        wait_http(f"http://127.0.0.1:{admin}/ready", process)
        yield Envoy(f"http://127.0.0.1:{front}", f"http://127.0.0.1:{admin}")
    finally:
        process.kill()
        process.wait()


def _address(port: int) -> dict[str, object]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _cluster(pool: str, members: list[Engine]) -> dict[str, object]:
    hosts = [{"endpoint": {"address": _address(e.port)}} for e in members]
    return {
        "name": pool,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": pool, "endpoints": [{"lb_endpoints": hosts}]},
    }
