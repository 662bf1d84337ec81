"""Sequences of events that broke somebody: two at once, one too late, one that came back. Real parts, one by one."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from temporalio.service import RPCError

from activities.adapters.envoy import EnvoyTraffic
from activities.adapters.simulated_cluster import SimSpec, SimulatedCluster
from runbooks.detection import Detection, Target, guard_id
from runbooks.fleet import Endpoint, Fleet, Node, Pool, Route, Workload, outside
from runbooks.guard import Answer, Release
from runbooks.indicators import Indicator
from runbooks.library import Library, load_library
from runbooks.policy import ClassPolicy, LeverPolicy, Policy
from runbooks.schema import Criterion, RestoreRule, Runbook, StepSpec, Verify
from tests import lab as labs
from tests.e2e.monitoring import prometheus
from tests.scenarios.held import HeldJournal
from tests.scenarios.hostile import Handle, ended, hang, measured
from tests.scenarios.test_guard_workflow import question, start_guard, view
from worker.edge import envoy_command, write_edge


def patient(hold_limit_s: float = 60.0, **levers: LeverPolicy) -> Policy:
    """The lab's policy, with time to wait for a turn."""
    rules = labs.policy(engine__crash=ClassPolicy(mode="auto"))
    timing = rules.timing.model_copy(update={"hold_limit_s": hold_limit_s})
    return rules.model_copy(update={"timing": timing, "levers": {**rules.levers, **levers}})


def said(status: dict[str, Any], what: str) -> list[dict[str, Any]]:
    """Lines of the timeline that begin so."""
    return [e for e in status["timeline"] if e["what"].startswith(what)]


def at(line: dict[str, Any]) -> datetime:
    """When it was noted."""
    return datetime.fromisoformat(line["at"])


async def rotations(lab: labs.Lab) -> set[str]:
    """Everything that Envoy has in rotation."""
    return await lab.rotation("chat-a") | await lab.rotation("chat-b")


# --- one world, two verdicts ---------------------------------------------------------------------------------------


async def test_of_two_cases_judged_on_the_same_facts_the_second_is_refused_and_judged_again_on_newer_ones(
    lab: labs.Lab,
) -> None:
    """Both are allowed by all gates on one picture; the first acts; the second's verdict is of a world that is gone."""
    one, two = lab.engines["a0"], lab.engines["a1"]
    journal = HeldJournal(lab.journal_url)
    wide = LeverPolicy(max_endpoints_down=2, max_share_down=0.7, max_acts_per_hour=1000, attempts=1000)
    rules = patient(isolate_endpoint=wide).model_copy(update={"min_answering": 0.2})
    async with labs.running_worker(replace(lab.parts(rules), journal=journal)), ended(lab) as cases:
        await start_guard(lab, look_every_s=60)
        await measured(lab)
        await hang(lab, one)
        await hang(lab, two)
        late = lab.hang(two)
        journal.arm("left", late.workflow_id)
        second = await lab.start(late)
        cases.append(second)
        await labs.until(_set(journal.reached), "the second has been judged")
        first = await lab.start(lab.hang(one))
        cases.append(first)
        await lab.in_state(first, "mitigated")
        journal.go.set()
        status = await lab.in_state(second, "mitigated")
        refused = said(status, "no permit yet (refused)")
        assert refused, status["timeline"]
        assert "before the domain's last change" in refused[0]["text"]
        verdicts = [v for v in status["record"]["verdicts"] if v["purpose"] == "act"]
        assert len(verdicts) > 1, "it was judged again"
        assert {v["verdict"]["outcome"] for v in verdicts} == {"allow"}, verdicts
        acted = datetime.fromisoformat(status["record"]["steps"][0]["receipts"][0]["acted_at"])
        assert acted > at(refused[-1])
        assert not {one.address, two.address} & await rotations(lab)


def _set(event: asyncio.Event) -> Any:
    async def is_set() -> bool:
        return event.is_set()

    return is_set


def denied_by(status: dict[str, Any], gate: str) -> list[str]:
    """Reasons with which this gate has denied so far."""
    verdicts = [v["verdict"] for v in status["record"]["verdicts"]]
    return [g["reason"] for v in verdicts for g in v["gates"] if (g["gate"], g["outcome"]) == (gate, "deny")]


async def test_a_sibling_that_gives_no_token_for_a_moment_keeps_an_isolate_waiting_and_does_not_end_it(
    lab: labs.Lab,
) -> None:
    """By what is seen just now the minimum would be crossed. Asked again, and done when the sibling answers."""
    engine, slow = lab.engines["a0"], lab.engines["a1"]
    async with labs.running_worker(lab.parts(patient())), ended(lab) as cases:
        await start_guard(lab, look_every_s=60)
        await measured(lab)
        await hang(lab, engine)
        await hang(lab, slow)
        handle = await lab.start(lab.hang(engine))
        cases.append(handle)

        async def denied() -> Any:
            return denied_by(await lab.status(handle), "G5")

        reasons = await labs.until(denied, "G5 denies")
        assert reasons[0] == "1 of 3 endpoints of chat-a would answer; 2 is the minimum"
        await lab.in_state(handle, "holding")
        assert engine.address in await lab.rotation("chat-a")
        slow.go_on()
        status = await lab.in_state(handle, "mitigated", 40)
        assert not said(status, "step refused")
        assert await lab.rotation("chat-a") == {e.address for e in lab.engines.values() if e.pool == "chat-a"} - {
            engine.address
        }


# --- A → B and B → A -----------------------------------------------------------------------------------------------


def apart(lab: labs.Lab) -> Fleet:
    """The lab's fleet with each pool in a cluster of its own: its route lies in both."""
    homes = {"chat-a": "east", "chat-b": "west"}
    pools = tuple(p.model_copy(update={"cluster": homes[p.name]}) for p in lab.fleet.pools)
    return lab.fleet.model_copy(update={"pools": pools, "controls": outside("east", "west")})


def lit(fleet: Fleet) -> tuple[Fleet, SimulatedCluster]:
    """A lamp, in the cluster of chat-a, that is dark: what the faults of these tests are seen by. All engines are well, or
    no pool's load would be known."""
    home = fleet.pools[0].cluster
    fleet = fleet.model_copy(update={"nodes": (Node(name="lamp", cluster=home, pools=(fleet.pools[0].name,)),)})
    cluster = SimulatedCluster(fleet, home, {})
    cluster.fail("lamp", "a fault")
    return fleet, cluster


def by_lamp(failure_class: str, *steps: StepSpec, base: Library | None = None) -> Library:
    """The catalogue with one runbook for the class, whose fault is the lamp's."""
    shipped = base or labs.quick(load_library(None))
    lamp = Indicator(source="cluster", query="node_ready", scope="lamp", unit="share", better="higher", mark="I: tests")
    vllm = shipped.dialects["vllm"]
    vllm = vllm.model_copy(update={"indicators": {**vllm.indicators, "lamp": lamp}})
    page = StepSpec.model_validate({"lever": "page", "with": {"summary": "it did not help"}})
    made = {
        "class": failure_class, "title": "By lamp", "applies_to": ["service"], "source": "tests",
        "steps": [s.model_dump(by_alias=True, exclude_none=True) for s in (*steps, page)],
        "healthy": {"indicator": "lamp", "above": 1.0},
    }  # fmt: skip
    others = {n: b for n, b in shipped.runbooks.items() if b.failure_class != failure_class}
    return shipped.model_copy(
        update={
            "runbooks": {**others, "lamp.yaml": Runbook.model_validate(made)},
            "dialects": {**shipped.dialects, "vllm": vllm},
        }
    )


def rerouting() -> Library:
    """The shipped reroute, quick, for a fault that the lamp shows."""
    base = labs.quick(load_library(None))
    return by_lamp("engine.crash", base.runbooks["engine_crash_service.yaml"].steps[0], base=base)


@asynccontextmanager
async def clusters_of(
    lab: labs.Lab, rules: Policy, number: int
) -> AsyncIterator[tuple[list[Handle], SimulatedCluster, dict[str, str]]]:
    """A worker for the lab as one cluster or as two; yields the cases to be ended, the lamp's cluster, and pool → cluster."""
    fleet, cluster = lit(apart(lab) if number == 2 else lab.fleet)
    parts = replace(lab.parts(rules), fleet=fleet, cluster=cluster, library=rerouting())
    async with labs.running_worker(parts), ended(lab) as cases:
        try:
            yield cases, cluster, {p.name: p.cluster for p in fleet.pools}
        finally:
            for domain in fleet.domains():
                await lab.forget(domain)


def lost(lab: labs.Lab, pool: str, homes: dict[str, str]) -> Detection:
    """What the detector says of a pool, wherever it lies."""
    target = Target(cluster=homes[pool], service=pool)
    return lab.lost(pool, 2).model_copy(update={"target": target})


async def views(lab: labs.Lab, *domains: str) -> list[dict[str, Any]]:
    """What the Guards say."""
    return [await lab.client.get_workflow_handle(guard_id(d)).query("view") for d in domains]


async def both_free(lab: labs.Lab, *domains: str) -> None:
    """No holder and no queue anywhere."""

    async def free() -> bool:
        return all(v["holder"] is None and v["queue"] == 0 for v in await views(lab, *domains))

    await labs.until(free, f"{domains} are free")


async def weights(lab: labs.Lab) -> dict[str, Any]:
    """What Envoy's files say of the route."""
    traffic = EnvoyTraffic(lab.fleet, lab.folder / "edge", lab.admin, lab.http)
    found = (await traffic.read(labs.CLUSTER)).settings
    return {k.rpartition("/")[2]: v for k, v in found.items() if k.startswith("weight/")}


def spans(status: dict[str, Any]) -> list[tuple[datetime, datetime, str]]:
    """From each act of a case to the verdict on it."""
    found, begun = [], None
    for line in status["timeline"]:
        if line["what"].split(":")[0] in ("act", "undo", "restore") and "reroute" in line["what"]:
            begun = at(line)
        elif begun is not None and (line["what"].startswith("effect") or line["what"].startswith("restore: ")):
            found.append((begun, at(line), line["text"]))
            begun = None
    return found


@pytest.mark.timeout(240)
@pytest.mark.parametrize("clusters", [1, 2])
async def test_reroutes_from_a_to_b_and_from_b_to_a_at_once_neither_overlap_nor_block_each_other(
    lab: labs.Lab, clusters: int
) -> None:
    """Both pools are sick. In one domain, and with each pool in its own: locks in sorted order, all or none."""
    before = await weights(lab)
    async with clusters_of(lab, patient(), clusters) as (cases, cluster, homes):
        await measured(lab)
        alerts = [lost(lab, pool, homes) for pool in ("chat-a", "chat-b")]
        handles = await asyncio.gather(*(lab.start(d) for d in alerts))
        cases += handles

        async def rested() -> bool:
            states = [(await lab.status(h))["state"] for h in handles]
            return all(s in ("mitigated", "closed", "handed_over") for s in states)

        await labs.until(rested, "both have come to rest", 90)
        at_rest = await weights(lab)
        assert sum(at_rest.values()) == sum(before.values())
        cluster.heal("lamp")
        for alert in alerts:
            with contextlib.suppress(RPCError):  # one may have closed
                await lab.resolve(alert)
        await asyncio.gather(*(asyncio.wait_for(h.result(), 90) for h in handles))
        told = [await lab.status(h) for h in handles]
        acts = sorted(s for status in told for s in spans(status))
        assert acts, "nobody acted at all"
        movers = {status["case"] for status in told if said(status, "act")}
        assert len(movers) == 1, "no load goes into a pool that another case is emptying"
        assert all(a[1] <= b[0] for a, b in pairwise(acts)), acts
        assert await weights(lab) == before
        await both_free(lab, *set(homes.values()))


async def test_a_step_in_two_domains_gives_the_first_back_while_another_holds_the_second(lab: labs.Lab) -> None:
    """All or none: east is free while the case waits for west, and both are free at the end."""
    async with clusters_of(lab, patient(), 2) as (cases, cluster, homes):
        await measured(lab)
        west = lab.client.get_workflow_handle(guard_id("west"))
        held = question(1, domain="west", target=Target(cluster="west", service="x"))

        async def holds() -> bool:
            answer: Answer = await west.execute_update("acquire", held, result_type=Answer)
            return answer.kind == "permit"

        await labs.until(holds, "another case holds west")
        alert = lost(lab, "chat-a", homes)
        handle = await lab.start(alert)
        cases.append(handle)
        await lab.in_state(handle, "waiting_domain")

        async def given_back() -> bool:
            east, other = await views(lab, "east", "west")
            return east["holder"] is None and other["holder"] == held.workflow_id and other["queue"] == 1

        await labs.until(given_back, "east is free while west is held")
        release = Release(case=held.case, workflow_id=held.workflow_id, applied=False, at=datetime.now(UTC))
        await west.signal("release", release)
        status = await lab.in_state(handle, "mitigated", 40)
        assert said(status, "no permit yet (queued)")
        assert all(v["standing"] for v in await views(lab, "east", "west")), "what stands counts in both"
        cluster.heal("lamp")
        await lab.resolve(alert)
        assert (await asyncio.wait_for(handle.result(), 60))["outcome"] == "restored"
        await both_free(lab, "east", "west")
        assert not any(v["standing"] for v in await views(lab, "east", "west"))


# --- a worker that is away -----------------------------------------------------------------------------------------


class Late:
    """A clock that can be set forward, and back."""

    def __init__(self) -> None:
        self.by = timedelta(0)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.by


async def test_a_worker_away_for_20_minutes_with_the_lock_does_not_act_late_and_its_case_goes_on(lab: labs.Lab) -> None:
    """It died with the permit in its hand. The lock has not moved, the late act is refused, and the case checks anew."""
    engine = lab.engines["a0"]
    alert = lab.hang(engine)
    async with ended(lab) as cases:
        journal = HeldJournal(lab.journal_url)
        async with labs.running_worker(replace(lab.parts(patient()), journal=journal)):
            await start_guard(lab, look_every_s=60)
            await measured(lab)
            await hang(lab, engine)
            journal.arm("intend", alert.workflow_id)
            handle = await lab.start(alert)
            cases.append(handle)
            await labs.until(_set(journal.reached), "the worker has the permit")
            held = await view(lab)
            assert held["holder"] == alert.workflow_id
        clock = Late()
        clock.by = timedelta(minutes=20)
        traffic = EnvoyTraffic(lab.fleet, lab.folder / "edge", lab.admin, lab.http, clock=clock)
        journal = HeldJournal(lab.journal_url)
        journal.arm("intend", alert.workflow_id)
        async with labs.running_worker(replace(lab.parts(patient()), journal=journal, routes=traffic)):
            await labs.until(_set(journal.reached), "the act is tried again", 30)
            again = await view(lab)
            assert (again["holder"], again["held_since"]) == (held["holder"], held["held_since"]), "the lock has moved"
            assert engine.address in await lab.rotation("chat-a")
            journal.go.set()

            async def refused() -> Any:
                return said(await lab.status(handle), "act refused")

            lines = await labs.until(refused, "the late act is refused")
            assert "expired" in lines[0]["text"]
            clock.by = timedelta(0)
            status = await lab.in_state(handle, "mitigated")
            assert len(status["record"]["steps"][0]["receipts"]) == 1
            assert engine.address not in await lab.rotation("chat-a")


async def test_a_worker_away_for_20_minutes_that_had_acted_finds_its_own_act_and_does_not_repeat_it(
    lab: labs.Lab,
) -> None:
    """It died after the write and before anybody knew. The permit has long expired; what it did is read back."""
    engine = lab.engines["a0"]
    alert = lab.hang(engine)
    async with ended(lab) as cases:
        journal = HeldJournal(lab.journal_url)
        before = await lab.envoy_counts()
        async with labs.running_worker(replace(lab.parts(patient()), journal=journal)):
            await start_guard(lab, look_every_s=60)
            await measured(lab)
            await hang(lab, engine)
            journal.arm("receive", alert.workflow_id)
            handle = await lab.start(alert)
            cases.append(handle)
            await labs.until(_set(journal.reached), "the worker has written")
            assert engine.address not in await lab.rotation("chat-a")
        clock = Late()
        clock.by = timedelta(minutes=20)
        traffic = EnvoyTraffic(lab.fleet, lab.folder / "edge", lab.admin, lab.http, clock=clock)
        async with labs.running_worker(replace(lab.parts(patient()), routes=traffic)):
            status = await lab.in_state(handle, "mitigated", 40)
            [receipt] = status["record"]["steps"][0]["receipts"]
            assert receipt["recovered"], receipt
            after = await lab.envoy_counts()
            assert after["cluster.chat-a.update_success"] - before["cluster.chat-a.update_success"] == 1


@pytest.mark.timeout(240)
async def test_a_guard_that_still_reads_its_journal_grants_nothing_and_ends_no_case(lab: labs.Lab) -> None:
    """Whether levers are halted is not known before it has read: the case holds, and goes on with the next worker."""
    engine = lab.engines["a0"]
    journal = HeldJournal(lab.journal_url)
    journal.arm("remembered", labs.CLUSTER, each=True)
    rules = patient(hold_limit_s=120)
    async with ended(lab) as cases:
        async with labs.running_worker(replace(lab.parts(rules), journal=journal)):
            await start_guard(lab, look_every_s=60)
            await labs.until(_set(journal.reached), "the Guard reads its journal")
            await measured(lab)
            await hang(lab, engine)
            handle = await lab.start(lab.hang(engine))
            cases.append(handle)
            await lab.in_state(handle, "holding", 60)
            assert engine.address in await lab.rotation("chat-a")
        async with labs.running_worker(lab.parts(rules)):
            await lab.in_state(handle, "mitigated", 60)
            assert engine.address not in await lab.rotation("chat-a")


@pytest.mark.timeout(240)
async def test_a_check_that_comes_to_no_end_for_half_a_minute_ends_no_case_and_its_history_replays(
    lab: labs.Lab,
) -> None:
    """The journal answers nothing to what the case has left standing. The check runs out of time, the case asks on; and what
    another worker makes of its history is the same."""
    engine = lab.engines["a0"]
    journal = HeldJournal(lab.journal_url)
    journal.arm("left", lab.hang(engine).workflow_id, each=True)
    rules = patient(hold_limit_s=120)
    async with ended(lab) as cases:
        async with labs.running_worker(replace(lab.parts(rules), journal=journal)):
            await start_guard(lab, look_every_s=60)
            await measured(lab)
            await hang(lab, engine)
            handle = await lab.start(lab.hang(engine))
            cases.append(handle)
            await labs.until(_set(journal.reached), "the check asks what is left", 60)

            async def failed() -> Any:
                return said(await lab.status(handle), "check failed")

            await labs.until(failed, "the check has failed", 90)
            assert engine.address in await lab.rotation("chat-a")
        async with labs.running_worker(lab.parts(rules)):
            status = await lab.in_state(handle, "mitigated", 60)
            assert said(status, "check failed")
            assert engine.address not in await lab.rotation("chat-a")


async def test_a_check_that_fails_five_times_ends_no_case(lab: labs.Lab) -> None:
    """The journal is away for a moment, and no gate could be asked: the case holds, asks again, and goes on."""
    engine = lab.engines["a0"]
    journal = HeldJournal(lab.journal_url)
    journal.away = 5
    async with labs.running_worker(replace(lab.parts(patient()), journal=journal)), ended(lab) as cases:
        await start_guard(lab, look_every_s=60)
        await measured(lab)
        await hang(lab, engine)
        handle = await lab.start(lab.hang(engine))
        cases.append(handle)
        status = await lab.in_state(handle, "mitigated", 40)
        assert "the journal is away" in said(status, "check failed")[0]["text"]


# --- Prometheus ----------------------------------------------------------------------------------------------------


def by_prometheus() -> Library:
    """The shipped catalogue; whether an engine hangs is Prometheus' word alone."""
    shipped = labs.quick(load_library(None))
    vllm = shipped.dialects["vllm"]
    up = Indicator(
        source="prometheus", query='up{instance="{{ endpoint }}"}', unit="share", better="higher", mark="I: tests"
    )
    vllm = vllm.model_copy(update={"indicators": {**vllm.indicators, "scraped": up}})
    book = shipped.runbooks["engine_hang.yaml"]
    first = book.steps[0]
    assert first.verify is not None
    quick = first.verify.model_copy(
        update={
            "criteria": (Criterion(indicator="route_generation", above=1.0),),
            "soak_s": 0.3, "every_s": 0.2, "min_samples": 2, "deadline_s": 10.0,
        }
    )  # fmt: skip
    first = first.model_copy(update={"verify": quick})
    book = book.model_copy(
        update={"healthy": Criterion(indicator="scraped", above=1.0), "steps": (first, *book.steps[1:])}
    )
    return shipped.model_copy(
        update={
            "dialects": {**shipped.dialects, "vllm": vllm},
            "runbooks": {**shipped.runbooks, "engine_hang.yaml": book},
        }
    )


@pytest.mark.timeout(180)
async def test_when_prometheus_dies_after_ten_isolations_nothing_more_is_done_and_nothing_undone_blindly(
    lab: labs.Lab, tmp_path: Path
) -> None:
    """Facts are Unknown: the eleventh is denied, what resolved is not put back on faith, and the ten that stand count."""
    dead = [f"127.0.0.1:{labs.free_port()}" for _ in range(11)]
    alive = [e.address for e in lab.engines.values() if e.pool == "chat-a"]
    spare = Pool(
        name="chat-c", cluster="ten", dialect="vllm", model="smollm2", tokens_per_second=200,
        endpoints=tuple(Endpoint(address=a) for a in [*alive, *dead]),
    )  # fmt: skip
    pools = tuple(p.model_copy(update={"cluster": "ten"}) for p in lab.fleet.pools)
    fleet = Fleet(
        routes=(Route(name="chat", pools=("chat-a", "chat-b", "chat-c")),),
        pools=(*pools, spare),
        controls=outside("ten"),
    )
    admin, front = labs.free_port(), labs.free_port()
    boot = write_edge(
        fleet, tmp_path / "edge", admin_port=admin, listen_port=front,
        weights={"chat": {"chat-a": 50, "chat-b": 50, "chat-c": 0}},
    )  # fmt: skip
    wide = LeverPolicy(max_endpoints_down=11, max_share_down=0.9, max_acts_per_hour=1000, attempts=1000)
    # Three live ones, one of which may be slow: by Prometheus' word the one that goes out is not known to be silent.
    rules = patient(isolate_endpoint=wide).model_copy(update={"min_answering": 0.05})
    scraped = replace(
        lab, engines={**lab.engines, **{a: labs.Engine(int(a.rpartition(":")[2]), "chat-c", lab.envoy) for a in dead}}
    )
    with (tmp_path / "envoy.log").open("ab") as out:
        envoy = subprocess.Popen(envoy_command(boot), stderr=out, cwd=tmp_path / "edge")
    try:
        metrics = contextlib.ExitStack()
        with metrics:
            address = metrics.enter_context(prometheus(tmp_path, scraped, "", "127.0.0.1:9"))
            parts = replace(
                lab.parts(rules), fleet=fleet, library=by_prometheus(), envoy_folder=tmp_path / "edge",
                envoy_admin=f"http://127.0.0.1:{admin}", route_urls={"chat": f"http://127.0.0.1:{front}"},
                prometheus_url=f"http://{address}",
            )  # fmt: skip
            await _scraped(lab, address, dead[0])
            async with labs.running_worker(parts), ended(lab) as cases:
                try:
                    await _ten(lab, metrics, cases, dead)
                finally:
                    await lab.forget("ten")
    finally:
        envoy.kill()
        envoy.wait(10)


async def _scraped(lab: labs.Lab, address: str, instance: str) -> None:
    async def known() -> bool:
        with contextlib.suppress(httpx.HTTPError):
            asked = {"query": f'up{{instance="{instance}"}}'}
            found = (await lab.http.get(f"http://{address}/api/v1/query", params=asked)).json()
            return bool(found["data"]["result"])
        return False

    await labs.until(known, "Prometheus has scraped")


async def _ten(lab: labs.Lab, metrics: contextlib.ExitStack, cases: list[Handle], dead: list[str]) -> None:
    def about(address: str) -> Detection:
        return lab.hang(lab.engines["a0"]).model_copy(
            update={"target": Target(cluster="ten", service="chat-c", endpoint=address)}
        )

    alerts = [about(a) for a in dead[:10]]
    handles = [await lab.start(d) for d in alerts]
    cases += handles
    for handle in handles:
        await lab.in_state(handle, "mitigated", 60)
    metrics.close()
    late = await lab.start(about(dead[10]))
    cases.append(late)
    await lab.in_state(late, "holding")
    for alert in alerts[:3]:
        await lab.resolve(alert)
    await asyncio.sleep(4)  # several looks of each case: nothing is to happen in them
    [seen] = await views(lab, "ten")
    assert sorted(s["target_id"].rpartition("/")[2] for s in seen["standing"]) == sorted(dead[:10])
    status = await lab.status(late)
    assert status["record"]["steps"][0]["receipts"] == []
    verdict = status["record"]["verdicts"][-1]
    unknown = {g["gate"] for g in verdict["verdict"]["gates"] if g["outcome"] == "deny"}
    assert verdict["verdict"]["outcome"] == "deny"
    assert "G16" in unknown, verdict
    for handle in handles:
        status = await lab.status(handle)
        assert status["state"] == "mitigated", status["timeline"]
        assert not said(status, "restore")
        assert not said(status, "undo")
        assert not said(status, "fault gone?")


# --- a queue behind a rollout --------------------------------------------------------------------------------------

RING_S = 10.0
"""A ring that soaks: scaled down with the policy's patience (which is 15 minutes) from forty minutes."""


def rolling() -> Library:
    """One rollout in two rings, each with a long soak."""
    verify = Verify(
        criteria=(Criterion(indicator="rolled_out", above=1.0),), soak_s=RING_S, every_s=1.0, deadline_s=40.0,
        min_samples=3,
    )  # fmt: skip
    step = StepSpec.model_validate(
        {
            "lever": "rollout_hotfix",
            "with": {"rings": [["chat-b"], ["chat-a"]], "image": "engine:v2"},
            "verify": verify.model_dump(exclude_none=True),
            "restore": RestoreRule(clear_for_s=1.0, every_s=0.5).model_dump(),
        }
    )
    return by_lamp("engine.bad_output", step)


@pytest.mark.parametrize("patience", ["long", "short"])
async def test_an_isolate_queued_behind_a_two_hour_rollout_gets_its_turn_between_two_rings_by_news(
    lab: labs.Lab, patience: str
) -> None:
    """Also when it has waited longer than a plan may be old (short): it plans again, and does not lose its turn by it."""
    pools = tuple(
        p.model_copy(update={"workload": Workload(namespace="x", deployment=p.name, replicas=2)})
        for p in lab.fleet.pools
    )
    names = tuple(p.name for p in pools)
    nodes = tuple(Node(name=f"n{i}", cluster=labs.CLUSTER, pools=names, gpus=3) for i in range(3))
    lamp = Node(name="lamp", cluster=labs.CLUSTER, pools=names)
    fleet = lab.fleet.model_copy(update={"pools": pools, "nodes": (*nodes, lamp)})
    cluster = SimulatedCluster(fleet, labs.CLUSTER, {p: SimSpec() for p in names}, start_s=0.2, end_s=0.1)
    cluster.fail("lamp", "bad output")
    loose = LeverPolicy(max_endpoints_down=9, max_acts_per_hour=1000, attempts=1000, largest_increment=1.0)
    rules = patient(rollout_hotfix=loose)
    auto = ClassPolicy(mode="auto")
    rules = rules.model_copy(update={"classes": {**rules.classes, "engine.bad_output": auto}})
    if patience == "short":
        timing = rules.timing.model_copy(update={"replan_after_s": RING_S / 4})
        rules = rules.model_copy(update={"timing": timing})
    engine = lab.engines["a0"]
    parts = replace(lab.parts(rules), fleet=fleet, cluster=cluster, library=rolling())
    async with labs.running_worker(parts), ended(lab) as cases:
        await start_guard(lab, look_every_s=60)
        await measured(lab)
        now = datetime.now(UTC)
        bad = Detection(
            alert="EngineBadOutput", target=lab.pool("chat-b"), severity="critical", started_at=now, observed_at=now,
            detector="lab",
        )  # fmt: skip
        rollout = await lab.start(bad)
        cases.append(rollout)
        await lab.in_state(rollout, "verifying")
        await hang(lab, engine)
        isolate = await lab.start(lab.hang(engine))
        cases.append(isolate)
        await lab.in_state(isolate, "waiting_domain")
        status = await lab.in_state(isolate, "mitigated", 40)
        assert said(status, "no permit yet (queued)")
        ring = said(await lab.status(rollout), "effect")[0]
        turn = said(status, "act: isolate_endpoint")[0]
        assert timedelta(0) <= at(turn) - at(ring) < timedelta(seconds=5), "news of the release reaches it at once"

        async def second_ring() -> Any:
            found = said(await lab.status(rollout), "act: rollout_hotfix")
            return found if len(found) == 2 else None

        rings = await labs.until(second_ring, "the second ring begins", 60)
        assert at(rings[0]) < at(turn) < at(rings[1]), "its turn is between two rings"


# --- a case that is terminated, and a fault that returns ------------------------------------------------------------


async def test_a_case_terminated_in_the_ui_while_it_holds_the_lock_leaves_people_told_and_its_change_counted(
    lab: labs.Lab,
) -> None:
    """Terminated while it verifies: dirty until the reaper has told people, then the next case goes on."""
    one, two = lab.engines["a0"], lab.engines["b0"]
    async with labs.running_worker(lab.parts()), ended(lab) as cases:
        await start_guard(lab)
        await measured(lab)
        await hang(lab, one)
        handle = await lab.start(lab.hang(one))
        cases.append(handle)
        await lab.in_state(handle, "verifying")
        before = len(lab.pages())
        await handle.terminate("a hostile test")
        await hang(lab, two)
        next_one = await lab.start(lab.hang(two))
        cases.append(next_one)

        async def told() -> Any:
            return [p for p in lab.pages()[before:] if handle.id in p["title"] and "without giving" in p["title"]]

        page = (await labs.until(told, "people are told"))[0]
        assert "isolate_endpoint" in page["body"]
        assert "interlock undo" in page["body"]
        await lab.in_state(next_one, "mitigated", 40)
        assert one.address not in await lab.rotation("chat-a"), "nobody undoes blindly"
        seen = await view(lab)
        assert seen["dirty"] is None
        assert {s["target_id"] for s in seen["standing"]} == {lab.endpoint(one).id, lab.endpoint(two).id}


async def test_a_fault_that_returns_after_restore_is_mitigated_again_until_attempts_are_used_up_then_told(
    lab: labs.Lab,
) -> None:
    """Counted by the Guard over cases (G10): twice it is isolated and put back, the third time it is people's."""
    engine = lab.engines["a0"]
    twice = LeverPolicy(max_endpoints_down=1, max_acts_per_hour=1000, attempts=2, cooldown_s=3600)
    async with labs.running_worker(lab.parts(patient(isolate_endpoint=twice))), ended(lab) as cases:
        await start_guard(lab, look_every_s=60)
        await measured(lab)
        ids: set[str] = set()
        for _ in range(2):
            await hang(lab, engine)
            alert = lab.hang(engine)
            handle = await lab.start(alert)
            cases.append(handle)
            await lab.in_state(handle, "mitigated")
            engine.go_on()
            await lab.resolve(alert)
            result = await handle.result()
            assert result["outcome"] == "restored"
            ids.add(result["case"])
        assert len(ids) == 2  # within a minute: one id for both would leave one record
        told = len(lab.pages())
        await hang(lab, engine)
        handle = await lab.start(lab.hang(engine))
        cases.append(handle)
        assert (await handle.result())["outcome"] == "paged"
        status = await lab.status(handle)
        assert "tried 2 time(s)" in said(status, "step refused")[0]["text"]
        assert engine.address in await lab.rotation("chat-a")
        assert [p for p in lab.pages()[told:] if engine.address in p["title"] or engine.address in p["body"]]
        tries = (await view(lab))["attempts"]
        assert [len(v) for k, v in tries.items() if engine.address in k] == [2]
