"""The intake's own watch: once per outage, again for the next, told when it is over, and never through Temporal."""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import json
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from tests.ports import free_port as any_port

TEMPORAL = str(Path(sys.executable).parent / "temporal")


@asynccontextmanager
async def temporal(port: int) -> AsyncIterator[asyncio.subprocess.Process]:
    """A Temporal server as a child of ours, so that a test may stop it and let it go on."""
    argv = [
        TEMPORAL, "server", "start-dev", "--ip", "127.0.0.1", "--port", str(port), "--headless", "--log-level", "error",
        "--http-port", str(any_port()), "--metrics-port", str(any_port()),
    ]  # fmt: skip
    child = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.DEVNULL)
    try:
        yield child
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.wait()


async def lazy(port: int, namespace: str = "default") -> Client:
    """A client that connects when it is used."""
    return await Client.connect(
        f"127.0.0.1:{port}", namespace=namespace, data_converter=pydantic_data_converter, lazy=True
    )


@contextmanager
def pager() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A real receiver of pages: its URL and what came."""
    got: list[dict[str, Any]] = []

    class Pager(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            return

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pager)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/hook", got
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


async def test_each_outage_is_told_once_and_its_end_once(make_intake: Any, eventually: Any) -> None:
    """Two outages of one intake, however often it looks: away, back, away, back, each in its own words and under its own
    key, so that no pager takes the second for a repeat of the first."""
    port = any_port()
    async with make_intake(await lazy(port), page_after_s=0.4, rpc_timeout_s=1.0) as intake:
        pages, watch = intake.people.pages, intake.app.state.watch
        for told in (0, 2):
            await eventually(lambda n=told: len(pages) == n + 1)
            looks = watch.looks
            await eventually(lambda n=looks: watch.looks >= n + 5)
            assert len(pages) == told + 1
            async with temporal(port):
                await eventually(lambda n=told: len(pages) == n + 2)
                looks = watch.looks
                await eventually(lambda n=looks: watch.looks >= n + 5)
                assert len(pages) == told + 2

    assert ["away" in title for _, title, _ in pages[:4]] == [True, False, True, False]
    assert ["back" in title for _, title, _ in pages[:4]] == [False, True, False, True]
    assert len({key for key, _, _ in pages}) == len(pages)
    assert pages[1][0].startswith(pages[0][0])


async def test_a_short_outage_wakes_nobody_and_its_end_neither(make_intake: Any, eventually: Any) -> None:
    """Who was not told that it is away need not hear that it is back."""
    port = any_port()
    async with make_intake(await lazy(port), page_after_s=16.0, rpc_timeout_s=1.0) as intake:
        watch = intake.app.state.watch
        assert (await intake.http.get("/readyz")).status_code == 503
        assert watch.away_s > 0
        async with temporal(port):

            async def ready() -> bool:
                return bool((await intake.http.get("/readyz")).status_code == 200)

            await eventually(ready)
            assert watch.away_s == 0
            looks = watch.looks
            await eventually(lambda: watch.looks >= looks + 2)  # it has had its turn to tell
            assert intake.people.pages == []


async def test_a_server_that_hangs_is_away_and_its_end_is_told_until_somebody_takes_it(
    make_intake: Any, eventually: Any
) -> None:
    """Accepts and answers nothing: what a health check over an open connection would not see. A deaf pager is asked again."""
    port = any_port()
    async with temporal(port) as server, make_intake(await lazy(port), page_after_s=0.4, rpc_timeout_s=0.5) as intake:

        async def ready() -> bool:
            return bool((await intake.http.get("/readyz")).status_code == 200)

        await eventually(ready, 30.0)
        server.send_signal(signal.SIGSTOP)
        try:
            await eventually(lambda: len(intake.people.pages) == 1)
        finally:
            intake.people.deaf = True
            server.send_signal(signal.SIGCONT)
        await eventually(lambda: intake.people.refused >= 2)
        assert intake.app.state.watch.away_s == 0
        intake.people.deaf = False
        await eventually(lambda: len(intake.people.pages) == 2)
        assert "back" in intake.people.pages[1][1]


async def test_a_temporal_that_does_not_know_our_namespace_is_away(
    address: str, make_intake: Any, eventually: Any
) -> None:
    """It is healthy by its own word, and takes no alert of ours."""
    port = int(address.rpartition(":")[2])
    async with make_intake(await lazy(port, "nowhere"), page_after_s=0.2, rpc_timeout_s=1.0) as intake:
        assert (await intake.http.get("/readyz")).status_code == 503
        await eventually(lambda: len(intake.people.pages) == 1)


async def test_the_process_pages_by_its_webhook_without_any_temporal(tmp_path: Path, eventually: Any) -> None:
    """`interlock intake` as an operator runs it, started while Temporal is away: the page goes out all the same, once."""
    (tmp_path / "fleet.yaml").write_text("routes: []\npools: []\n")
    with pager() as (url, got):
        ours = {
            "TEMPORAL__ADDRESS": f"127.0.0.1:{any_port()}",
            "INTAKE__PORT": str(any_port()),
            "INTAKE__TOKEN": "detector-token",
            "INTAKE__PAGE_AFTER_S": "0.4",
            "INTAKE__RPC_TIMEOUT_S": "0.5",
            "FLEET_FILE": str(tmp_path / "fleet.yaml"),
            "JOURNAL_URL": f"sqlite:///{tmp_path}/journal.db",
            "WEBHOOK_URL": url,
        }
        rest = {k: v for k, v in os.environ.items() if not k.startswith("INTERLOCK_")}
        environment = rest | {f"INTERLOCK_{k}": v for k, v in ours.items()}
        child = await asyncio.create_subprocess_exec(sys.executable, "-m", "worker", "intake", env=environment)
        base = f"http://127.0.0.1:{ours['INTAKE__PORT']}"
        try:
            await eventually(lambda: got, 30.0)
            async with httpx.AsyncClient(base_url=base) as http:
                for _ in range(3):
                    assert (await http.get("/readyz")).status_code == 503
                assert (await http.get("/healthz")).status_code == 200
            assert [p["title"] for p in got] == ["Interlock cannot act: Temporal is away"]
        finally:
            child.kill()
            await child.wait()
