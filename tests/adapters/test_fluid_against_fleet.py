"""The fluid model beside a real fleet of the same size: same fault, same lever, same direction and order of magnitude.

The real one is Envoy with four engine processes (worker/engine.py): pools `a` and `b` of two, each engine of 40 tokens/s in
four slots, requests of four tokens, given up after 1.5 s. So an engine serves 10 requests/s, and a pool 20.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import httpx
import pytest

from activities.adapters.envoy import EnvoyTraffic
from activities.adapters.fluid_cause import Cause
from activities.adapters.fluid_replicas import Replica
from activities.adapters.fluid_world import FluidWorld
from activities.ports import Traffic
from runbooks.change import Change, Permit
from runbooks.facts import Value
from runbooks.fleet import Endpoint, Fleet, Pool, Route
from tests.adapters.engine_lab import Engine, engines
from tests.adapters.envoy_lab import running
from tests.adapters.simulated_lab import incident_of
from tests.ports import free_port
from worker.edge import write_edge
from worker.edge_bootstrap import TIER_HEADER

TOKENS_S, SLOTS, TOKENS, DEADLINE_S = 40, 4, 4, 1.5
BATCH = 0.6
"""Share of the requests that are of the lowest tier."""
LENGTHS = (3, 1, 9, 2, 6, 1, 4, 2, 12, 3, 1, 5, 2, 4, 8, 1)
"""Of requests, in tokens: four in the mean, and they differ widely, as users' requests do."""
LOOK_S = 4.0
Sick = Callable[[Replica], None]


@dataclass(frozen=True)
class Shares:
    """Of all requests in a look: answered well, failed, refused by tier."""

    good: float
    failed: float
    refused: float


class Bench(Protocol):
    """A fleet under load, real or not."""

    async def hang(self, name: str) -> None: ...
    async def crash(self, name: str) -> None: ...
    async def set(self, settings: dict[str, Value]) -> None: ...
    async def look(self, rate: float, settle_s: float) -> Shares: ...


class RealBench:
    """Envoy and engines. A look sends requests at a rate, whatever becomes of them."""

    def __init__(self, url: str, traffic: Traffic, some: dict[str, Engine], http: httpx.AsyncClient) -> None:
        self._url, self._traffic, self._engines, self._http = url, traffic, some, http
        self._epoch = 0

    async def hang(self, name: str) -> None:
        self._engines[name].freeze()

    async def crash(self, name: str) -> None:
        self._engines[name].kill()

    async def set(self, settings: dict[str, Value]) -> None:
        after = {self._named(k): v for k, v in settings.items()}
        declared = (await self._traffic.read("lab")).settings
        change = Change(before={k: declared[k] for k in after}, after=after, last=True)
        self._epoch += 1
        permit = Permit(
            id=f"permit-{self._epoch}", domain="lab", case="c", step_id="s", change_digest=change.digest, purpose="act",
            epoch=self._epoch, act_before=datetime.now(UTC) + timedelta(minutes=1),
        )  # fmt: skip
        await self._traffic.swap(change, permit)

    def _named(self, key: str) -> str:
        for name, engine in self._engines.items():
            key = key.replace(f"/{name}", f"/{engine.address}")
        return key

    async def look(self, rate: float, settle_s: float) -> Shares:
        statuses: list[tuple[float, int]] = []
        under_way: set[asyncio.Task[None]] = set()
        began = time.monotonic()

        async def one(number: int) -> None:
            left = time.monotonic() - began
            tier = "batch" if number % 5 < 5 * BATCH else "paid"
            body = {"model": "smollm2", "prompt": "hello", "max_tokens": LENGTHS[number % len(LENGTHS)]}
            try:
                answer = await self._http.post(
                    f"{self._url}/v1/completions", json=body, headers={TIER_HEADER: tier}, timeout=2 * DEADLINE_S
                )
                statuses.append((left, answer.status_code))
            except httpx.HTTPError:
                statuses.append((left, 0))

        number = 0
        while (now := time.monotonic() - began) < settle_s + LOOK_S:
            if now >= number / rate:
                task = asyncio.create_task(one(number))
                under_way.add(task)
                task.add_done_callback(under_way.discard)
                number += 1
            await asyncio.sleep(0.002)
        await asyncio.gather(*under_way)
        seen = [status for left, status in statuses if left >= settle_s]
        good, refused = seen.count(200) / len(seen), seen.count(429) / len(seen)
        return Shares(good, 1 - good - refused, refused)


class _Spoiled(Cause[Any]):
    """What ails the replicas of the twin, by address."""

    def __init__(self) -> None:
        super().__init__(None, 0.0, None)
        self.on = True
        self.sick: dict[str, str] = {}

    def mark(self, pool: str, replicas: Any) -> None:
        for replica in replicas:
            replica.hung |= self.sick.get(replica.address) == "hung"
            replica.up &= self.sick.get(replica.address) != "gone"


class FluidBench:
    """The twin: the same numbers in a file."""

    def __init__(self) -> None:
        spec = {
            "cluster": "lab",
            "tokens_per_second": float(TOKENS_S),
            "slots": SLOTS,
            "replicas": 2,
            "most_replicas": 2,
        }
        asks = {"tokens_per_request": float(TOKENS), "prompt_tokens": 1.0, "deadline": f"{DEADLINE_S}s", "retries": 0}
        tiers = {"batch": BATCH, "paid": 1 - BATCH}
        route = {"name": "chat", "pools": ["a", "b"], "requests_per_second": 1.0, "tiers": tiers, **asks}
        fleet = {
            "clusters": [{"name": "lab", "nodes": 1}],
            "pools": [{"name": n, **spec} for n in "ab"],
            "routes": [route],
        }
        self.world = FluidWorld(incident_of(fleet))
        self._spoiled = _Spoiled()
        self.world.causes.append(self._spoiled)

    async def hang(self, name: str) -> None:
        self._ail(name, "hung")

    async def crash(self, name: str) -> None:
        self._ail(name, "gone")

    def _ail(self, name: str, how: str) -> None:
        self._spoiled.sick[_address(name)] = how
        self.world.relevel()
        self.world.settle()

    async def set(self, settings: dict[str, Value]) -> None:
        named = {k: v for k, v in settings.items() if not k.startswith("endpoint/")}
        named |= {
            f"{k.rpartition('/')[0]}/{_address(k.rpartition('/')[2])}": v
            for k, v in settings.items()
            if k.startswith("endpoint/")
        }
        self.world.hand(named, "by hand")
        self.world.settle()

    async def look(self, rate: float, settle_s: float) -> Shares:
        world, route = self.world, self.world.routes["chat"]
        route.spec = route.spec.model_copy(update={"requests_per_second": rate})
        world.settle()
        world.advance(world.t + settle_s)
        before = (world.account.offered_requests, lost(world), sum(world.account.refused_requests.values()))
        world.advance(world.t + LOOK_S)
        after = (world.account.offered_requests, lost(world), sum(world.account.refused_requests.values()))
        offered, failed, refused = (b - a for a, b in zip(before, after, strict=True))
        return Shares(1 - (failed + refused) / offered, failed / offered, refused / offered)


def lost(world: FluidWorld) -> float:
    """Requests that failed."""
    return world.account.failed_requests


def _address(name: str) -> str:
    return f"{name[0]}-{name[1]}:8000"


@pytest.fixture
async def real(tmp_path: Path) -> AsyncIterator[RealBench]:
    """Four engines behind Envoy, half of the traffic to each pool."""
    with engines(4, "--tokens-per-second", str(TOKENS_S), "--slots", str(SLOTS)) as started:
        some = dict(zip(("a0", "a1", "b0", "b1"), started, strict=True))
        fleet = Fleet(
            routes=(Route(name="chat", pools=("a", "b"), tiers=("batch", "paid")),),
            pools=tuple(
                Pool(
                    name=n, cluster="lab", dialect="vllm", tokens_per_second=TOKENS_S,
                    endpoints=tuple(Endpoint(address=e.address) for name, e in some.items() if name[0] == n),
                )
                for n in "ab"
            ),
        )  # fmt: skip
        listen, admin, folder = free_port(), free_port(), tmp_path / "edge"
        boot = write_edge(
            fleet, folder, admin_port=admin, listen_port=listen, weights={"chat": {"a": 50, "b": 50}},
            route_timeout_s=DEADLINE_S,
        )  # fmt: skip
        async with httpx.AsyncClient(trust_env=False, limits=httpx.Limits(max_connections=None)) as http:
            with running(boot):
                traffic = EnvoyTraffic(fleet, folder, f"http://127.0.0.1:{admin}", http)
                bench = RealBench(f"http://127.0.0.1:{listen}", traffic, some, http)
                end = time.monotonic() + 20
                while True:
                    try:
                        if (await http.get(f"http://127.0.0.1:{listen}/health")).status_code == 200:
                            break
                    except httpx.HTTPError:
                        assert time.monotonic() < end, "Envoy serves"
                    await asyncio.sleep(0.05)
                yield bench


def alike(real: float, fluid: float, what: str) -> None:
    """The same order of magnitude; a tenth may be the machine's, which does other things as well."""
    print(f"{what}: real {real:.3f}, fluid {fluid:.3f}")
    if max(real, fluid) > 0.1:
        assert real <= 3 * fluid, what
        assert fluid <= 3 * real, what


async def broken_and_isolated(bench: Bench) -> list[Shares]:
    """An engine hangs, and is taken out; one of the other pool is killed, and is taken out."""
    await bench.hang("a0")
    hung = await bench.look(12, 4)
    await bench.set({"endpoint/a/a0": "out"})
    out = await bench.look(12, 4)
    await bench.crash("b1")
    crashed = await bench.look(12, 4)
    await bench.set({"endpoint/b/b1": "out"})
    return [hung, out, crashed, await bench.look(12, 4)]


async def rerouted_and_shed(bench: Bench) -> list[Shares]:
    """All on one pool, then without the lowest tier, then back."""
    await bench.set({"weight/chat/a": 0, "weight/chat/b": 100})
    drowned = await bench.look(26, 7)
    await bench.set({"admit/chat/batch": 0})
    shed = await bench.look(26, 7)
    await bench.set({"weight/chat/a": 50, "weight/chat/b": 50, "admit/chat/batch": 100})
    return [drowned, shed, await bench.look(26, 4)]


@pytest.mark.timeout(240)
async def test_engines_that_hang_and_die_and_their_isolation(real: RealBench) -> None:
    """A quarter of the users fails, and nobody once they are out."""
    truth, model = await broken_and_isolated(real), await broken_and_isolated(FluidBench())

    for what, one, other in zip(("hung", "isolated", "killed", "isolated"), truth, model, strict=True):
        alike(one.failed, other.failed, what)
    for hung, out, killed, both_out in (truth, model):
        assert min(hung.failed, killed.failed) > 0.15 > 0.1 > max(out.failed, both_out.failed)


@pytest.mark.timeout(240)
async def test_a_reroute_that_drowns_its_target_and_the_tier_that_is_shed(real: RealBench) -> None:
    """All on one pool is a third too much; without the lowest tier it fits; back in both pools all is well."""
    truth, model = await rerouted_and_shed(real), await rerouted_and_shed(FluidBench())

    for what, one, other in zip(("drowned", "shed", "back"), truth, model, strict=True):
        alike(one.failed, other.failed, f"{what}, failed")
        alike(one.refused, other.refused, f"{what}, refused")
        alike(one.good, other.good, f"{what}, good")
    for drowned, shed, back in (truth, model):
        assert drowned.failed > 0.15 > 0.1 > max(shed.failed, back.failed)
        assert shed.refused == pytest.approx(BATCH, abs=0.1)
