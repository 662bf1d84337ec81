"""What every Traffic implementation must do, on a real proxy with real requests, and in the simulated site.

A second implementation is one more entry in BENCHES. What it cannot set (an HTTPRoute knows weights alone) it leaves out
of its `families`; a test that needs a family is collected for the benches that have it, and for no other.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import pytest

from activities.errors import Refused
from activities.ports import Snapshot, Traffic
from runbooks.change import Change, Permit
from runbooks.facts import Settings
from runbooks.fleet import Fleet
from tests.adapters.envoy_lab import Upstream, envoy_lab, until
from tests.adapters.gateway_lab import gateway_lab
from tests.adapters.simulated_lab import simulated_edge


class Bench(Protocol):
    """A proxy that serves `fleet`.

    Domain `east` has route `chat`, `pool-a` of two endpoints (weight 100) and `pool-b` of one (weight 0); domain `west` has
    route `code` and `pool-c` (weight 100). `updates` counts how often a setting's file or object was changed.
    """

    fleet: Fleet
    upstreams: dict[str, Upstream]

    def traffic(self, **options: Any) -> Traffic: ...
    async def served(self, count: int, tier: str | None = None) -> Counter[tuple[int, str, str]]: ...
    async def updates(self, key: str) -> int: ...
    async def hand_edit(self, settings: Settings) -> None: ...


@dataclass(frozen=True)
class Kind:
    """How a bench is started, what it can set, and a change in `east` that stands in another file or object than chat."""

    start: Callable[[Path, pytest.FixtureRequest], AbstractAsyncContextManager[Bench]]
    families: frozenset[str]
    aside: Change


def change(before: Settings, after: Settings) -> Change:
    """A whole change."""
    return Change(before=before, after=after, last=True)


BENCHES = {
    "envoy": Kind(
        lambda folder, _: envoy_lab(folder),
        frozenset({"weight", "endpoint", "connections", "admit"}),
        change({"connections/pool-a": 0}, {"connections/pool-a": 60}),
    ),
    "gateway": Kind(
        lambda folder, request: gateway_lab(folder, request.getfixturevalue("plane")),
        frozenset({"weight"}),
        change({"weight/draft/pool-b": 50}, {"weight/draft/pool-b": 20}),
    ),
    "simulated": Kind(
        lambda _, __: simulated_edge(),
        frozenset({"weight", "endpoint", "connections", "admit"}),
        change({"connections/pool-a": 0}, {"connections/pool-a": 60}),
    ),
}
A, B, BATCH = "weight/chat/pool-a", "weight/chat/pool-b", "admit/chat/batch"


def with_family(family: str) -> pytest.MarkDecorator:
    """For the benches that can set this family of settings."""
    return pytest.mark.parametrize("bench", [n for n, k in BENCHES.items() if family in k.families], indirect=True)


@pytest.fixture(params=sorted(BENCHES))
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    """A fresh proxy for each test: fences and epochs start anew."""
    async with BENCHES[request.param].start(tmp_path, request) as ready:
        yield ready


def permit(for_change: Change, epoch: int = 1, **fields: Any) -> Permit:
    """A permit that is good for a minute."""
    given = {"domain": "east", "act_before": datetime.now(UTC) + timedelta(minutes=1), **fields}
    return Permit(
        id=f"permit-{epoch}",
        case="case",
        step_id="step",
        change_digest=for_change.digest,
        purpose="act",
        epoch=epoch,
        **given,
    )


SHIFT = change({A: 100, B: 0}, {A: 40, B: 60})


def by_pool(served: Counter[tuple[int, str, str]]) -> Counter[str]:
    """Requests answered 200, by pool."""
    found: Counter[str] = Counter()
    for (status, pool, _), count in served.items():
        found[pool if status == 200 else str(status)] += count
    return found


async def refused(traffic: Traffic, wanted: Change, by: Permit) -> str:
    """The reason why the swap is refused."""
    with pytest.raises(Refused) as error:
        await traffic.swap(wanted, by)
    return str(error.value)


@pytest.fixture
def kind(request: pytest.FixtureRequest) -> Kind:
    """What the bench of this test can do."""
    return BENCHES[request.node.callspec.params["bench"]]


async def test_read_gives_every_setting_of_the_domain_and_no_other(bench: Bench, kind: Kind) -> None:
    """Weights and whatever else the implementation can set of `east`; nothing of `west`; no epoch yet."""
    snapshot = await bench.traffic().read("east")

    routes = [r for r in bench.fleet.routes if "pool-a" in r.pools]
    every = {f"weight/{r.name}/{p}" for r in routes for p in r.pools}
    every |= {f"admit/{r.name}/{t}" for r in routes for t in r.tiers}
    every |= {f"endpoint/{p.name}/{e.address}" for p in bench.fleet.pools[:2] for e in p.endpoints}
    every |= {"connections/pool-a", "connections/pool-b"}
    assert set(snapshot.settings) == {k for k in every if k.partition("/")[0] in kind.families}
    assert {k: snapshot.settings[k] for k in SHIFT.before} == SHIFT.before
    assert (snapshot.epoch, snapshot.permit_id) == (0, "")


@with_family("endpoint")
async def test_read_gives_endpoints_connections_and_tiers_as_they_start(bench: Bench) -> None:
    """All in rotation, all admitted, connections without an end."""
    settings = (await bench.traffic().read("east")).settings

    assert {v for k, v in settings.items() if k.startswith("endpoint/")} == {"in"}
    assert {v for k, v in settings.items() if k.startswith("admit/")} == {100}
    assert {v for k, v in settings.items() if k.startswith("connections/")} == {0}


async def test_effective_agrees_with_what_is_declared_and_leaves_unknown_keys_out(bench: Bench) -> None:
    """The proxy's own word, before any change."""
    traffic = bench.traffic()
    declared = (await traffic.read("east")).settings

    assert await traffic.effective([*declared, "weight/chat/nowhere"]) == declared


async def test_a_weight_swap_moves_requests_and_is_declared_and_effective(bench: Bench) -> None:
    """60 of 100 go to pool-b, give or take chance; the snapshot names the permit and its epoch."""
    traffic = bench.traffic()
    assert by_pool(await bench.served(20)) == {"pool-a": 20}

    snapshot = await traffic.swap(SHIFT, permit(SHIFT, epoch=7))

    assert (snapshot.epoch, snapshot.permit_id) == (7, "permit-7")
    assert snapshot == Snapshot(**{**(await traffic.read("east")).model_dump(), "observed_at": snapshot.observed_at})
    assert await traffic.effective([A, B]) == SHIFT.after
    assert 120 < by_pool(await bench.served(300))["pool-b"] < 240


@with_family("endpoint")
async def test_an_endpoint_swap_takes_it_out_at_once_and_closes_its_connections(bench: Bench) -> None:
    """Not one request reaches it after the swap has returned; undone, it serves again."""
    traffic, (first, second) = bench.traffic(), [e.address for e in bench.fleet.pools[0].endpoints]
    key = f"endpoint/pool-a/{first}"
    out = change({key: "in"}, {key: "out"})
    await bench.served(10)
    assert bench.upstreams[first].open

    await traffic.swap(out, permit(out, epoch=1))

    assert await bench.served(30) == {(200, "pool-a", second): 30}

    async def closed() -> bool:
        return not bench.upstreams[first].open

    await until(closed, "the isolated endpoint has no connection", deadline_s=1.0)
    back = out.reversed("undo")
    await traffic.swap(back, permit(back, epoch=2))
    assert {e for _, _, e in await bench.served(10)} == {first, second}


@with_family("connections")
async def test_a_connections_swap_drops_old_connections_and_limits_new_ones(bench: Bench) -> None:
    """Connections from before the swap are closed; with a life of 1 s the next ones are closed too."""
    traffic, upstream = bench.traffic(), bench.upstreams[bench.fleet.pools[0].endpoints[0].address]
    recycle = change({"connections/pool-a": 0}, {"connections/pool-a": 1})
    await bench.served(10)
    old = set(upstream.open)

    await traffic.swap(recycle, permit(recycle))

    async def none_of_the_old() -> bool:
        return not (old & upstream.open)

    await until(none_of_the_old, "old connections are closed", deadline_s=1.0)
    await bench.served(10)
    new = set(upstream.open)

    async def none_of_the_new() -> bool:
        return not (new & upstream.open)

    assert new
    await until(none_of_the_new, "connections live 1 s")
    assert by_pool(await bench.served(10)) == {"pool-a": 10}


@with_family("admit")
async def test_an_admit_swap_refuses_that_share_of_one_tier_and_leaves_the_split_alone(bench: Bench) -> None:
    """Half of `batch` gets 429, `paid` none; what is admitted still goes half to each pool."""
    traffic = bench.traffic()
    split = change({A: 100, B: 0}, {A: 50, B: 50})
    shed = change({BATCH: 100}, {BATCH: 50})
    await traffic.swap(split, permit(split, epoch=1))

    await traffic.swap(shed, permit(shed, epoch=2))

    batch = by_pool(await bench.served(400, tier="batch"))
    assert 150 < batch["429"] < 250
    assert 60 < batch["pool-a"] < 140
    assert 60 < batch["pool-b"] < 140
    assert by_pool(await bench.served(30, tier="paid"))["429"] == 0
    assert await traffic.effective([BATCH]) == {BATCH: 50}


async def test_a_wrong_before_is_refused_and_nothing_moves(bench: Bench) -> None:
    """The reason names key, expected and found."""
    traffic = bench.traffic()
    wrong = change({A: 90, B: 0}, {A: 0, B: 100})

    reason = await refused(traffic, wrong, permit(wrong))

    assert A in reason
    assert "90" in reason
    assert "100" in reason
    assert (await traffic.read("east")).settings[A] == 100
    assert by_pool(await bench.served(20)) == {"pool-a": 20}


async def test_a_lower_epoch_is_refused_everywhere_in_the_domain(bench: Bench, kind: Kind) -> None:
    """The fence is the domain's, not the file's or the object's."""
    traffic = bench.traffic()
    await traffic.swap(SHIFT, permit(SHIFT, epoch=5))

    assert "fenced" in await refused(traffic, kind.aside, permit(kind.aside, epoch=4))
    assert (await traffic.read("east")).epoch == 5


@pytest.mark.parametrize(
    ("bench", "family"), [(n, f) for n, k in BENCHES.items() for f in sorted(k.families)], indirect=["bench"]
)
async def test_the_same_permit_twice_writes_once(bench: Bench, family: str) -> None:
    """Counted where it is written: one update; the second call, even after the permit expired, gives the same state."""
    traffic = bench.traffic()
    endpoint = f"endpoint/pool-a/{bench.fleet.pools[0].endpoints[0].address}"
    wanted = {
        "weight": SHIFT,
        "endpoint": change({endpoint: "in"}, {endpoint: "out"}),
        "connections": change({"connections/pool-a": 0}, {"connections/pool-a": 60}),
        "admit": change({BATCH: 100}, {BATCH: 10}),
    }[family]
    key, by = next(iter(wanted.after)), permit(wanted)
    at_first = await bench.updates(key)
    once = await traffic.swap(wanted, by)
    assert await bench.updates(key) == at_first + 1

    late = bench.traffic(clock=lambda: by.act_before + timedelta(seconds=1))
    twice = await late.swap(wanted, by)

    assert await bench.updates(key) == at_first + 1
    assert twice.settings == once.settings
    assert twice.permit_id == by.id


async def test_a_late_attempt_cannot_undo_an_undo(bench: Bench) -> None:
    """After an undo by a higher epoch the first permit is refused, though its before-state stands again."""
    traffic = bench.traffic()
    await traffic.swap(SHIFT, permit(SHIFT, epoch=1))
    undo = SHIFT.reversed("undo")
    await traffic.swap(undo, permit(undo, epoch=2))
    count = await bench.updates(A)

    assert "fenced" in await refused(traffic, SHIFT, permit(SHIFT, epoch=1))
    assert await bench.updates(A) == count
    assert by_pool(await bench.served(20)) == {"pool-a": 20}


async def test_an_expired_permit_is_refused(bench: Bench) -> None:
    """Judged by the given clock, to the instant: at act_before it is too late."""
    by = permit(SHIFT)

    assert "expired" in await refused(bench.traffic(clock=lambda: by.act_before), SHIFT, by)
    assert (await bench.traffic().read("east")).settings[A] == 100


async def test_a_permit_for_another_change_or_domain_is_refused(bench: Bench) -> None:
    """A permit opens one change of its own domain."""
    traffic = bench.traffic()
    other = change({A: 100, B: 0}, {A: 0, B: 100})

    assert "another change" in await refused(traffic, SHIFT, permit(other))
    assert "west" in await refused(traffic, SHIFT, permit(SHIFT, domain="west"))


async def test_a_hand_edit_after_our_act_is_not_overwritten_by_a_second_run(bench: Bench) -> None:
    """Even when it put the before-state back: the permit has been used."""
    traffic, by = bench.traffic(), permit(SHIFT)
    await traffic.swap(SHIFT, by)
    await bench.hand_edit(SHIFT.before)
    count = await bench.updates(A)

    assert "never acts twice" in await refused(traffic, SHIFT, by)
    assert await bench.updates(A) == count
    assert by_pool(await bench.served(20)) == {"pool-a": 20}


async def test_a_second_run_finds_its_act_after_another_domain_has_written(bench: Bench) -> None:
    """`west` changes a setting that may stand in the same place; the permit of `east` still counts as used."""
    traffic, by = bench.traffic(), permit(SHIFT, epoch=3)
    west = change({"weight/code/pool-c": 100}, {"weight/code/pool-c": 50})
    await traffic.swap(SHIFT, by)
    await traffic.swap(west, permit(west, epoch=1, domain="west"))
    count = await bench.updates(A)

    snapshot = await traffic.swap(SHIFT, by)

    assert (snapshot.permit_id, snapshot.epoch) == ("permit-3", 3)
    assert await bench.updates(A) == count


async def test_of_two_concurrent_swaps_exactly_one_wins(bench: Bench) -> None:
    """Two ports, one before-state, two permits; whichever comes second is refused, by fence or by before-state."""
    other = change({A: 100, B: 0}, {A: 10, B: 90})
    at_first = await bench.updates(A)

    results = await asyncio.gather(
        bench.traffic().swap(SHIFT, permit(SHIFT, epoch=1)),
        bench.traffic().swap(other, permit(other, epoch=2)),
        return_exceptions=True,
    )

    assert sorted(type(r).__name__ for r in results) == ["Refused", "Snapshot"]
    assert await bench.updates(A) == at_first + 1


async def test_many_swaps_at_once_do_not_starve_the_one_that_holds_the_lock(bench: Bench) -> None:
    """Forty at once, more than a thread pool holds: all are answered within seconds, and one has won."""
    swaps = [change({A: 100, B: 0}, {A: 99 - n, B: n}) for n in range(40)]

    async with asyncio.timeout(8):
        results = await asyncio.gather(
            *(bench.traffic().swap(s, permit(s, epoch=n + 1)) for n, s in enumerate(swaps)), return_exceptions=True
        )

    assert Counter(type(r).__name__ for r in results) == {"Snapshot": 1, "Refused": 39}


async def test_a_change_that_cannot_be_one_write_is_refused(bench: Bench, kind: Kind) -> None:
    """Settings of two files or objects, unknown settings, impossible values, and a route without any weight."""
    traffic = bench.traffic()
    cases: list[tuple[Settings, Settings, str]] = [
        ({A: 100, **kind.aside.before}, {A: 50, **kind.aside.after}, "one change writes one"),
        ({"weight/chat/pool-x": 1}, {"weight/chat/pool-x": 2}, "no such setting"),
        ({"weight/nowhere/pool-a": 1}, {"weight/nowhere/pool-a": 2}, "no such setting"),
        ({A: 100}, {A: -1}, "0 to"),
        ({A: 100}, {A: 10_000_000}, "0 to"),
        ({A: 100}, {A: 12.5}, "whole number"),
        ({A: 100, B: 0}, {A: 0, B: 0}, "no weight at all"),
        ({A: 100}, {A: 50, B: 50}, "same settings"),
    ]
    for before, after, why in cases:
        wanted = change(before, after)
        assert why in await refused(traffic, wanted, permit(wanted))
    assert (await traffic.read("east")).epoch == 0


@with_family("admit")
async def test_more_than_all_requests_cannot_be_admitted(bench: Bench) -> None:
    """It is a percentage."""
    wanted = change({BATCH: 100}, {BATCH: 101})

    assert "0 to 100" in await refused(bench.traffic(), wanted, permit(wanted))
