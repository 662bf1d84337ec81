"""What the processes of a storm are told: the fleet, the worker's job, the intake's settings, and the other two commands."""

from __future__ import annotations

import sys
from pathlib import Path

from runbooks.fleet import Endpoint, Fleet, Pool, Route, outside
from runbooks.policy import ClassPolicy
from tests.bench.field import MODEL, TOKENS_PER_SECOND
from tests.crash.cases import story
from tests.crash.worker_process import Job
from tests.ports import free_port
from worker.identity import ensure_claim_key
from worker.temporal import SEARCH_ATTRIBUTES

TOKEN = "storm-of-kills-detector-token"
PER_POOL = 3
READY = "worker.ready"
UNANSWERED_S = 5.0
"""Until an approval that nobody gives has expired."""


def engines(fleet: Fleet, front: str) -> list[str]:
    """Command of the process that is all engines, and their load."""
    ports = ",".join(str(port_of(e.address)) for p in fleet.pools for e in p.endpoints)
    routes = ",".join(r.name for r in fleet.routes)
    return [sys.executable, "-m", "tests.bench.field", "--ports", ports, "--front", front, "--routes", routes]


def server(folder: Path, port: int) -> list[str]:
    """Command of a Temporal server that keeps what it knows in a file."""
    words = ["--port", str(port), "--headless", "--log-level", "error", "--db-filename", str(folder / "temporal.db")]
    words += ["--sqlite-pragma", "journal_mode=wal", "--sqlite-pragma", "synchronous=normal"]
    words += ["--dynamic-config-value", 'history.timerProcessorMaxTimeShift="10ms"']
    for name in SEARCH_ATTRIBUTES:
        words += ["--search-attribute", f"{name}=Keyword"]
    return [str(Path(sys.executable).parent / "temporal"), "server", "start-dev", *words]


def write_job(folder: Path, fleet: Fleet, admin: str, front: str, temporal: str) -> Path:
    """What a worker is made of. It may isolate a hung engine by itself, and nothing else."""
    one = story("isolate_endpoint")
    # Noise about a pool with a hung engine is classified as well, and nobody is here to approve what it leads to.
    soon = ClassPolicy(mode="ask", approval_ttl_s=UNANSWERED_S)
    classes = {b.failure_class: soon for b in one.library.runbooks.values()} | {"engine.hang": ClassPolicy(mode="auto")}
    job = Job(
        temporal=temporal,
        task_queue="interlock",
        fleet=fleet,
        policy=one.policy.model_copy(update={"classes": classes}),
        library=one.library,
        folder=folder,
        envoy_admin=admin,
        front=front,
        ready=folder / READY,
    )
    path = folder / "job.json"
    path.write_text(job.model_dump_json(by_alias=True))
    return path


def intake_settings(folder: Path, fleet: Fleet, url: str, temporal: int) -> dict[str, str]:
    """What an intake is told, by environment variables."""
    (folder / "fleet.yaml").write_text(fleet.model_dump_json())
    (folder / "token").write_text(TOKEN)
    ours = {
        "TEMPORAL__ADDRESS": f"127.0.0.1:{temporal}",
        "INTAKE__PORT": str(port_of(url)),
        "INTAKE__TOKEN_FILE": str(folder / "token"),
        "FLEET_FILE": str(folder / "fleet.yaml"),
        "JOURNAL_URL": f"sqlite:///{folder}/journal.db",
        "PAGES_FILE": str(folder / "pages.jsonl"),
        "CLAIM_KEY_FILE": str(ensure_claim_key(folder / "claim.key")),
    }
    return {f"INTERLOCK_{k}": v for k, v in ours.items()}


def fleet_of(domains: int) -> Fleet:
    """A domain, a pool and a route each: what one does is not measured in another."""
    pools = tuple(
        Pool(
            name=f"pool-{n}",
            cluster=f"domain-{n}",
            dialect="vllm",
            model=MODEL,
            tokens_per_second=TOKENS_PER_SECOND,
            endpoints=tuple(Endpoint(address=f"127.0.0.1:{free_port()}") for _ in range(PER_POOL)),
        )
        for n in range(domains)
    )
    routes = tuple(Route(name=f"route-{p.name}", pools=(p.name,)) for p in pools)
    return Fleet(routes=routes, pools=pools, controls=outside(*(p.cluster for p in pools)))


def port_of(url: str) -> int:
    """Of an address or URL that ends with it."""
    return int(url.rpartition(":")[2])
