"""The watch over Interlock, on a real server with real Guards and cases: what it sees, and what it must not make up."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from temporalio import workflow
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from runbooks.detection import guard_id
from tests import lab as labs
from tests.e2e.processes import environment, interlock
from tests.ports import free_port as any_port
from tests.scenarios.hostile import clean, decide, waiting_case
from worker.settings import BadSettings, TemporalSettings, WatchSettings
from worker.temporal import connect, metrics_runtime
from worker.watchman import Watchman
from worker.watchman_ask import STARTING, STATE, GuardSeen
from worker.watchman_gauges import of_guard
from worker.watchman_text import Reading, text

PROMTOOL = "/usr/bin/promtool"
Shown = dict[tuple[str, frozenset[tuple[str, str]]], float]
SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$")


def parsed(exposition: str) -> Shown:
    """Samples of an exposition; every line that is neither a sample nor a comment fails."""
    out: Shown = {}
    for line in exposition.splitlines():
        if not line.startswith("#"):
            found = SAMPLE.match(line)
            assert found, line
            labels = frozenset(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', found[2] or ""))
            out[(found[1], labels)] = float(found[3])
    return out


def value(shown: Shown, name: str, **labels: str) -> float | None:
    """One sample, by its name without the prefix; None when it is not there."""
    return shown.get((f"interlock_{name}", frozenset(labels.items())))


def names(shown: Shown) -> set[str]:
    """All metrics that have a sample."""
    return {name for name, _ in shown}


@asynccontextmanager
async def watchman(client: Client, *domains: str, **settings: Any) -> AsyncIterator[Watchman]:
    """A watchman whose rounds the test makes."""
    async with httpx.AsyncClient(trust_env=False) as http:
        yield Watchman(client, http, domains, WatchSettings(**{"rpc_timeout_s": 2.0, **settings}))


async def look(watch: Watchman) -> Shown:
    """One round, and what it shows."""
    await watch.round()
    return parsed(text(watch.readings()))


async def looks_until(watch: Watchman, what: str, name: str, wanted: float | None, **labels: str) -> Shown:
    """Rounds until a sample has this value."""

    async def there() -> Shown:
        shown = await look(watch)
        return shown if value(shown, name, **labels) == wanted else {}

    found: Shown = await labs.until(there, what)
    return found


def linted(exposition: str) -> None:
    """Fails when promtool finds anything to say."""
    checked = subprocess.run(
        [PROMTOOL, "check", "metrics"], input=exposition, capture_output=True, text=True, timeout=30
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def test_the_exposition_is_what_promtool_reads_and_a_label_forges_no_sample() -> None:
    """Ids of cases come from alerts, and alerts from anybody who has the token."""
    hostile = 'x"} 0\ninterlock_guard_answering{domain="eu1"} 1\\'
    said = text(
        [
            Reading("interlock_guard_answering", 0.0, {"domain": "eu1"}),
            Reading("interlock_approval_seconds_left", 12.5, {"case": hostile, "group": "sre"}),
            Reading("interlock_watch_rounds_total", 3),
        ]
    )
    linted(said)

    assert len([line for line in said.splitlines() if not line.startswith("#")]) == 3
    assert value(parsed(said), "guard_answering", domain="eu1") == 0.0


def test_a_metric_that_is_not_in_the_table_is_refused() -> None:
    """It would have neither help nor rule."""
    with pytest.raises(KeyError, match="interlock_guess"):
        text([Reading("interlock_guess", 1.0)])


async def test_temporal_away_is_a_failed_round_and_every_guard_is_missed() -> None:
    """Nothing about cases is said, least of all that there are none; the last good round was never."""
    client = await connect(TemporalSettings(address=f"127.0.0.1:{any_port()}"), lazy=True)
    async with watchman(client, "eu1", "us1", rpc_timeout_s=0.5) as watch:
        await look(watch)
        shown = await look(watch)

    assert value(shown, "watch_rounds_total") == 2
    assert value(shown, "watch_rounds_failed_total") == 2
    assert value(shown, "guard_answering", domain="eu1") == 0
    assert value(shown, "guard_answering", domain="us1") == 0
    assert names(shown) == {
        "interlock_watch_rounds_total", "interlock_watch_rounds_failed_total", "interlock_guard_answering",
    }  # fmt: skip


async def test_what_was_seen_long_ago_is_shown_no_more(client: Client) -> None:
    """A loop that hangs must not go on looking well; when its last good round was, stays."""
    async with watchman(client, "nowhere", every_s=0.01, rpc_timeout_s=0.2) as watch:
        assert value(await look(watch), "guard_answering", domain="nowhere") == 0

        async def gone() -> bool:
            return names(parsed(text(watch.readings()))) == {
                "interlock_watch_rounds_total", "interlock_watch_rounds_failed_total",
                "interlock_watch_last_good_round_timestamp_seconds",
            }  # fmt: skip

        await labs.until(gone, "the readings are gone")


async def test_an_intake_is_ready_or_it_is_not(client: Client, make_intake: Any) -> None:
    """One that takes alerts, one that has lost Temporal, one that is gone: only the first is well."""
    lost = await Client.connect(f"127.0.0.1:{any_port()}", data_converter=pydantic_data_converter, lazy=True)
    gone = f"http://127.0.0.1:{any_port()}"
    async with make_intake(client) as good, make_intake(lost, rpc_timeout_s=0.5) as bad:
        urls = (str(good.http.base_url), str(bad.http.base_url), gone)
        async with watchman(client, intake_urls=urls) as watch:
            shown = await look(watch)

    assert [value(shown, "intake_ready", intake=u) for u in urls] == [1, 0, 0]


NOW = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)
EARLIER = "2026-01-31T11:58:30Z"


@pytest.mark.parametrize(
    ("view", "shows"),
    [
        ({}, {}),
        ({"halted": None, "dirty": None, "holder": None}, {"halted": 0, "dirty": 0, "held_seconds": 0}),
        ({"halted": "by ana", "halted_since": EARLIER}, {"halted": 1, "halted_seconds": 90}),
        ({"halted": None, "halted_since": EARLIER}, {"halted": 0}),
        ({"halted": "by ana", "halted_since": "yesterday"}, {"halted": 1}),
        ({"halted": "", "dirty": ""}, {"halted": 1, "dirty": 1}),
        ({"holder": "remediate:x", "held_since": EARLIER, "queue": 3}, {"held_seconds": 90, "queue": 3}),
        ({"holder": "remediate:x", "held_since": None, "queue": None}, {}),
        ({"breaker": "6 acts in a minute", "dirty": "x closed"}, {"breaker": 1, "dirty": 1}),
    ],
)
def test_what_a_guard_does_not_say_is_not_zero(view: dict[str, Any], shows: dict[str, float]) -> None:
    """A Guard of another release knows less, or says it otherwise: its gauge is absent then."""
    found = {r.name.removeprefix("interlock_guard_"): r.value for r in of_guard(GuardSeen("eu1", "", view), NOW)}

    assert found == {"answering": 1, **shows}


def test_a_pending_task_is_shown_though_the_guard_does_not_answer() -> None:
    """That it fails, and for how long it has waited, is the server's word and not its own."""
    silent = GuardSeen("eu1", "no answer", task=(3, datetime.fromisoformat(EARLIER)))
    found = {r.name.removeprefix("interlock_guard_"): r.value for r in of_guard(silent, NOW)}

    assert found == {"answering": 0, "task_attempt": 3, "task_age_seconds": 90}


@workflow.defn(name="Guard")
class FailingGuard:
    """A Guard whose workflow tasks fail, as those of a release with a mistake do."""

    @workflow.run
    async def run(self, start: dict[str, Any]) -> None:
        raise RuntimeError("a mistake of this release")

    @workflow.query
    def view(self) -> dict[str, Any]:
        return {}


@workflow.defn(name="Remediation")
class FailingRemediation:
    """A case that says that it waits for people, and then fails its tasks."""

    @workflow.run
    async def run(self, detection: dict[str, Any]) -> None:
        workflow.upsert_search_attributes([STATE.value_set("waiting_approval")])
        await workflow.sleep(0.1)
        raise RuntimeError("a mistake of this release")


async def test_failing_workflow_tasks_are_seen_by_the_sdk_and_by_the_watch(server: Any) -> None:
    """The counter that the rule names really rises; the Guard shows its attempt and does not count as answering; the case
    that waits for people and cannot answer is counted, and has no time left that anybody knows."""
    address = server.client.service_client.config.target_host
    bind = f"127.0.0.1:{any_port()}"
    settings = TemporalSettings(address=address, metrics_bind=bind)
    client = await connect(settings, runtime=metrics_runtime(settings))
    queue, domain, case = "interlock-node-failing", "failing", "remediate:failing/x"
    try:
        async with (
            Worker(
                client, task_queue=queue, workflows=[FailingGuard, FailingRemediation],
                workflow_runner=UnsandboxedWorkflowRunner(),
            ),
            watchman(client, domain) as watch,
            httpx.AsyncClient(trust_env=False) as http,
        ):  # fmt: skip
            await client.start_workflow("Guard", {"domain": domain}, id=guard_id(domain), task_queue=queue)
            await client.start_workflow("Remediation", {}, id=case, task_queue=queue)

            async def failing() -> Shown:
                shown = await look(watch)
                attempt = value(shown, "guard_task_attempt", domain=domain)
                return shown if (attempt or 0) > 1 and value(shown, "cases_not_answering") else {}

            shown = await labs.until(failing, "tasks fail")
            counted = (await http.get(f"http://{bind}/metrics")).text

        assert value(shown, "guard_answering", domain=domain) == 0
        assert value(shown, "guard_halted", domain=domain) is None
        assert value(shown, "cases_not_answering") == 1
        assert not [labels for name, labels in shown if name == "interlock_approval_seconds_left"]
        for kind in ("Guard", "Remediation"):
            sample = (
                r'^temporal_workflow_task_execution_failed_total\{.*failure_reason="WorkflowError".*'
                rf'task_queue="{queue}".*workflow_type="{kind}"'
            )
            assert re.search(sample, counted, re.M), counted
        assert re.search(rf'^temporal_worker_start_total\{{.*task_queue="{queue}"', counted, re.M)
    finally:
        for name in (guard_id(domain), case):
            with contextlib.suppress(Exception):
                await client.get_workflow_handle(name).terminate("the test is over")


async def test_the_worker_serves_the_metric_whose_absence_is_an_alert(lab: labs.Lab, tmp_path: Path) -> None:
    """`interlock worker` itself, told where by the environment."""
    bind = f"127.0.0.1:{any_port()}"
    given = environment(lab, tmp_path, any_port(), "")
    del given["INTERLOCK_OTLP_ENDPOINT"]
    given["INTERLOCK_TEMPORAL__METRICS_BIND"] = bind
    with interlock("worker", given, tmp_path / "worker.log"):
        async with httpx.AsyncClient(trust_env=False) as http:

            async def there() -> bool:
                with contextlib.suppress(httpx.TransportError):
                    said = (await http.get(f"http://{bind}/metrics")).text
                    return bool(re.search(r'^temporal_worker_start_total\{.*task_queue="interlock"', said, re.M))
                return False

            await labs.until(there, "the worker has started")


def test_an_address_that_is_taken_is_one_sentence() -> None:
    """Two workers of one machine need two addresses."""
    bind = f"127.0.0.1:{any_port()}"
    settings = TemporalSettings(metrics_bind=bind)
    first = metrics_runtime(settings)

    with pytest.raises(BadSettings, match=f"METRICS_BIND: {bind} cannot be listened on"):
        metrics_runtime(settings)
    assert first is not None
    assert metrics_runtime(TemporalSettings()) is None


async def test_a_halted_guard_says_so_a_stopped_worker_makes_it_silent_and_an_ended_one_is_missed(
    lab: labs.Lab,
) -> None:
    """Silent: its other gauges vanish, they do not stay. Ended: it still answers queries, and does not count for it."""
    domain = labs.CLUSTER
    await clean(lab)
    async with watchman(lab.client, domain) as watch:
        async with labs.running_worker(lab.parts()):
            # It has begun, so that no task of its start is pending any more.
            shown = await looks_until(watch, "it answers and is idle", "guard_task_attempt", 0, domain=domain)
            assert value(shown, "guard_answering", domain=domain) == 1
            for flag in ("halted", "dirty", "breaker", "queue", "held_seconds", "task_attempt"):
                assert value(shown, f"guard_{flag}", domain=domain) == 0, flag
            assert (value(shown, "guard_answer_seconds", domain=domain) or 9) < 2
            assert value(shown, "guard_halted_seconds", domain=domain) is None

            guard = lab.client.get_workflow_handle(guard_id(domain))
            await guard.signal("halt", {"reason": "maintenance", "who": "ana"})
            shown = await looks_until(watch, "it is halted", "guard_halted", 1, domain=domain)
            first = value(shown, "guard_halted_seconds", domain=domain)
            assert first is not None

            async def older() -> bool:
                again = value(parsed(text(watch.readings())), "guard_halted_seconds", domain=domain)
                return again is not None and again > first

            await labs.until(older, "the halt grows older between two rounds")
            assert value(shown, "watch_last_good_round_timestamp_seconds") == pytest.approx(
                datetime.now(UTC).timestamp(), abs=10
            )
        shown = await look(watch)
        assert value(shown, "guard_answering", domain=domain) == 0
        assert value(shown, "guard_halted", domain=domain) is None
        assert value(shown, "guard_halted_seconds", domain=domain) is None
        assert value(shown, "watch_rounds_failed_total") == 0

        async with labs.running_worker(lab.parts()):
            await looks_until(watch, "it answers again, and is still halted", "guard_halted", 1, domain=domain)
            assert (await lab.order("resume")).accepted
            await looks_until(watch, "it is resumed", "guard_halted", 0, domain=domain)
            await guard.terminate("by a test")
            assert (await guard.query("view"))["domain"] == domain
            shown = await look(watch)
            assert value(shown, "guard_answering", domain=domain) == 0
            assert value(shown, "guard_halted", domain=domain) is None


async def test_a_case_that_waits_for_approval_counts_down_until_somebody_decides(lab: labs.Lab, tmp_path: Path) -> None:
    """In the exposition of `interlock watch` itself, as Prometheus reads it. After the decision it is gone."""
    (tmp_path / "fleet.yaml").write_text(lab.fleet.model_dump_json())
    port = any_port()
    ours = {
        "TEMPORAL__ADDRESS": lab.client.service_client.config.target_host,
        "FLEET_FILE": str(tmp_path / "fleet.yaml"),
        "WATCH__PORT": str(port),
        "WATCH__EVERY_S": "0.3",
    }
    rest = {k: v for k, v in os.environ.items() if not k.startswith("INTERLOCK_")}
    given = rest | {f"INTERLOCK_{k}": v for k, v in ours.items()}
    async with waiting_case(lab) as waiting, httpx.AsyncClient(trust_env=False) as http:
        child = await asyncio.create_subprocess_exec(sys.executable, "-m", "worker", "watch", env=given)
        said: list[str] = []

        async def left() -> float | None:
            with contextlib.suppress(httpx.TransportError):
                said.append((await http.get(f"http://127.0.0.1:{port}/metrics")).text)
                return value(parsed(said[-1]), "approval_seconds_left", case=waiting.handle.id, group="sre-oncall")
            return None

        try:
            first = await labs.until(left, "the case is seen")
            assert 0 < first <= 60

            async def less() -> bool:
                now = await left()
                return now is not None and now < first - 1

            await labs.until(less, "it counts down")
            shown = parsed(said[-1])
            assert value(shown, "cases_open", state="waiting_approval") == 1
            assert 0 < (value(shown, "cases_state_seconds", state="waiting_approval") or 0) < 60
            assert value(shown, "cases_not_answering") == 0
            assert value(shown, "guard_answering", domain=labs.CLUSTER) == 1
            linted(said[-1])

            await decide(lab, waiting.handle, **waiting.approval(decision="reject", reason="not now"))

            async def gone() -> bool:
                return await left() is None and value(parsed(said[-1]), "cases_open", state="waiting_approval") == 0

            await labs.until(gone, "nobody is asked any more")
            child.send_signal(signal.SIGTERM)
            async with asyncio.timeout(20):
                assert await child.wait() == 0
        finally:
            if child.returncode is None:
                child.kill()
            await child.wait()


@workflow.defn(name="Remediation")
class Moody:
    """A case that goes to the state that it is told."""

    @workflow.run
    async def run(self, detection: dict[str, Any]) -> None:
        await workflow.wait_condition(lambda: False)

    @workflow.signal
    def go(self, state: str) -> None:
        workflow.upsert_search_attributes([STATE.value_set(state)])


async def test_a_case_is_as_long_in_its_state_as_the_watch_has_seen_or_as_it_is_open(server: Any) -> None:
    """A watch that was started anew must not excuse a stuck case; a change that it sees begins the count again."""
    client = await connect(TemporalSettings(address=server.client.service_client.config.target_host))
    queue, started = "interlock-node-moody", datetime.now(UTC)

    async def seconds(watch: Watchman, state: str) -> float:
        return value(await look(watch), "cases_state_seconds", state=state) or 0.0

    async with (
        Worker(client, task_queue=queue, workflows=[Moody], workflow_runner=UnsandboxedWorkflowRunner()),
        watchman(client) as old,
    ):
        handle = await client.start_workflow("Remediation", {}, id="remediate:nobody/runs", task_queue=queue)
        try:

            async def open_for_long() -> bool:
                return await seconds(old, STARTING) > 2.0

            await labs.until(open_for_long, "it has been open for two seconds")
            await handle.signal("go", "checking")

            async def moved() -> float:
                return await seconds(old, "checking")

            assert await labs.until(moved, "the old watch sees it go on") < 2.0
            async with watchman(client) as new:
                fresh = await seconds(new, "checking")
            assert 2.0 < fresh <= (datetime.now(UTC) - started).total_seconds()
        finally:
            await handle.terminate("the test is over")
