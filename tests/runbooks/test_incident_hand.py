"""Settings by hand in an incident file: each mistake is one sentence, and what is right passes."""

from __future__ import annotations

import pytest

from runbooks.incident_fleet import ClusterSpec, FleetSpec, PoolSpec, RouteSpec
from runbooks.incident_hand import mistakes

FLEET = FleetSpec(
    clusters=(ClusterSpec(name="east", nodes=2),),
    pools=(PoolSpec(name="a", cluster="east", replicas=2), PoolSpec(name="b", cluster="east", replicas=1)),
    routes=(RouteSpec(name="chat", pools=("a", "b"), requests_per_second=5.0),),
)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("weight/chat/a", 0), ("weight/chat/a", 100), ("endpoint/a/a-0:8000", "out"), ("connections/a", 10),
        ("admit/chat/batch", 50), ("cordon/east-n2", "on"), ("replicas/b", 0), ("image/a", "v2"), ("env/a/FLAG", "x"),
        ("paused/a", "on"), ("autoscale/b", "off"),
    ],
)  # fmt: skip
def test_what_can_be_set_passes(key: str, value: int | str) -> None:
    """Every form that there is."""
    assert list(mistakes(FLEET, key, value)) == []


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("weight/chat/west", 0, "there is no pool on route chat 'west'; there are a, b"),
        ("weight/talk/a", 0, "there is no route 'talk'; there are chat"),
        ("weight/chat/a", 900, "it is 900; write a whole number from 0 to 100"),
        ("weight/chat/a", "half", "it is 'half'; write a whole number from 0 to 100"),
        ("endpoint/a/b-0:8000", "out", "there is no address of a 'b-0:8000'; there are a-0:8000"),
        ("endpoint/a/a-0:8000", "gone", 'it is \'gone\'; write "in" or "out"'),
        ("admit/chat/gold", 1, "there is no tier of route chat 'gold'; there are batch, paid"),
        ("replicas/a", -4, "it is -4; write a whole number from 0 to 100000"),
        ("autoscale/a", "maybe", 'it is \'maybe\'; write "on" or "off"'),
        ("cordon/east-n3", "on", "there is no node 'east-n3'; there are east-n1, east-n2"),
        ("image/c", "v2", "there is no pool 'c'; there are a, b"),
        ("image/a", 2, "write the value as text"),
        ("wait/chat/a", 1, "there is no such setting; write weight/ROUTE/POOL"),
    ],
)
def test_what_cannot_be_set_is_said_in_one_sentence(key: str, value: int | str, said: str) -> None:
    """With what there is instead."""
    found = list(mistakes(FLEET, key, value))
    assert len(found) == 1
    assert found[0].startswith(said)
