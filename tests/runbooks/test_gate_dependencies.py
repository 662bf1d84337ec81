"""G3, the part about what a receiving pool leans on: oai-2024-04-10, where GPUs were free and the control plane was not."""

from __future__ import annotations

from typing import Any

import pytest

from runbooks.facts import Known, Unknown
from runbooks.fleet import Dependency, Fleet, Workload
from runbooks.gates.dependencies import could_load
from runbooks.levers import IncreaseCapacity, IsolateEndpoint, RerouteTraffic
from runbooks.plan import GateVerdict
from tests.runbooks.gate_lab import FLEET, STEP, agrees, change, facts, known, policy, pool, question, verdict


def leaning(serves: bool = True, names: tuple[str, ...] = ("api-b",)) -> Fleet:
    """Pool-b leans on these; replicas of its own lean on a registry that requests do not need."""
    work = Workload(namespace="n", deployment="d", replicas=4, depends_on=(*names, "registry"))
    pools = tuple(
        p.model_copy(update={"workload": work} if p.name == "pool-b" else {"tokens_per_second": 15.0})
        for p in FLEET.pools
    )
    asked = tuple(Dependency(name=n, headroom="room", serves=serves) for n in names)
    return FLEET.model_copy(
        update={"pools": pools, "dependencies": (*asked, Dependency(name="registry", headroom="room"))}
    )


MOVE = STEP.model_copy(update={"step": RerouteTraffic(route="chat", away_from="pool-a")})
ROOM = "pool-b would carry 70 tokens/s; 96 is its limit"


def moved(tps: float = 30.0, fleet: Fleet | None = None, **more: Any) -> Any:
    """So many tokens/s go to pool-b, each of whose replicas serves 30."""
    what = change(share_moved={"chat": 0.2}, reserved_tps={"pool-b": tps})
    return question(step=MOVE, change=what, fleet=fleet or leaning(), **more)


def with_room(**room: float) -> Any:
    """What the dependencies have left, in replicas; pools have room."""
    pools = known({"pool-a": pool("pool-a", load=40.0), "pool-b": pool("pool-b", 4, load=10.0)})
    return facts(pools=pools, dependencies=known({k.replace("_", "-"): v for k, v in room.items()}))


def no(reason: str, **more: Any) -> GateVerdict:
    """Refused."""
    return verdict("G3", "deny", reason, **more)


def yes(reason: str) -> GateVerdict:
    """There is room."""
    return verdict("G3", "allow", reason)


CARRIES = "pool-b would carry 40 of 96 tokens/s"


@pytest.mark.parametrize(
    ("expected", "q", "f"),
    [
        (yes(f"api-b has room for 1 more; {CARRIES}"), moved(), with_room(api_b=1.0)),
        (no("api-b has room for 0.9 more replica(s), and 1 are wanted"), moved(), with_room(api_b=0.9)),
        (no("api-b has room for 0 more replica(s), and 0.5 are wanted"), moved(15.0), with_room(api_b=0.0)),
        (yes("api-b has room for 0.5 more; pool-b would carry 25 of 96 tokens/s"), moved(15.0), with_room(api_b=0.5)),
        (yes(CARRIES), moved(fleet=leaning(serves=False)), with_room()),
        (no("the headroom of api-b is unknown: it was not measured", unknown=True), moved(), with_room(registry=9.0)),
        (
            no("the headroom of api-b is unknown: away", unknown=True),
            moved(),
            with_room().model_copy(update={"dependencies": Unknown(why="away")}),
        ),
        (
            no("the headroom of api-b is unknown: it was not measured", unknown=True),
            moved(),
            with_room().model_copy(update={"dependencies": None}),
        ),
        (
            verdict("G3", "ask", "the headroom of api-b is unknown (away); policy asks people"),
            moved(policy=policy(ask_on_unknown=("G3",))),
            with_room().model_copy(update={"dependencies": Unknown(why="away")}),
        ),
        (
            no("db has room for 0 more replica(s), and 1 are wanted"),
            moved(fleet=leaning(names=("api-b", "db"))),
            with_room(api_b=5.0, db=0.0),
        ),
        (yes(CARRIES), moved(purpose="restore"), with_room(api_b=0.0)),
    ],
)  # fmt: skip
def test_moved_load_needs_room_in_all_that_the_receiving_pool_leans_on(expected: GateVerdict, q: Any, f: Any) -> None:
    """In replicas' worth of load; what only starting replicas need does not count."""
    agrees(expected, q, f)


def test_two_receiving_pools_that_lean_on_one_thing_add_up() -> None:
    """Each fits alone; together they do not."""
    work = Workload(namespace="n", deployment="d", replicas=4, depends_on=("db",))
    fleet = FLEET.model_copy(
        update={
            "pools": tuple(p.model_copy(update={"workload": work}) for p in FLEET.pools),
            "dependencies": (Dependency(name="db", headroom="room", serves=True),),
        }
    )
    step = STEP.model_copy(update={"step": RerouteTraffic(route="chat", away_from="elsewhere")})
    what = change(share_moved={"chat": 0.2}, reserved_tps={"pool-a": 15.0, "pool-b": 15.0})
    q = question(step=step, change=what, fleet=fleet)
    agrees(no("db has room for 0.9 more replica(s), and 1 are wanted"), q, with_room(db=0.9))
    assert could_load(step.step, fleet) == ("db",)


def test_what_a_step_could_load_is_known_before_it_is_planned() -> None:
    """So that it is read with the other facts."""
    fleet = leaning()
    assert could_load(MOVE.step, fleet) == ("api-b",)
    assert could_load(RerouteTraffic(route="chat", away_from="pool-b"), fleet) == ()
    assert could_load(RerouteTraffic(route="none", away_from="pool-a"), fleet) == ()
    assert could_load(IncreaseCapacity(pool="pool-b"), fleet) == ("api-b", "registry")
    assert could_load(IncreaseCapacity(pool="pool-a"), fleet) == ()
    assert could_load(IsolateEndpoint(pool="pool-b", endpoint="e:1"), fleet) == ()
    assert isinstance(with_room().dependencies, Known)
