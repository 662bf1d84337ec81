"""Triage's look at a simulated site, through the ports: what it finds, what it leaves out, how long it takes at most."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from activities.adapters.simulated import SimulatedSite
from activities.looking import LookingActivities
from activities.looking_pool import TOLD_BY
from activities.ports import ClusterSnapshot, Snapshot
from runbooks.change import endpoint_key
from runbooks.detection import Target
from runbooks.facts import Known, Unknown
from runbooks.library import Library, load_library
from runbooks.taxonomy_looked import Looked, LookRequest
from tests.adapters.fluid_lab import Time, incident

EAST = Target(cluster="east", service="chat-east")
FIRST = Target(cluster="east", service="chat-east", endpoint="chat-east-0:8000")
LIBRARY: Library = load_library()


class Site:
    """A site some time after its faults began."""

    def __init__(self, *faults: dict[str, Any], seconds: float = 300.0) -> None:
        self.time = Time()
        self.ports = SimulatedSite(incident(*faults), self.time)
        self.time.pass_(seconds)

    def activities(self, **ports: Any) -> LookingActivities:
        """Over its ports, or others."""
        p = self.ports
        given = {"traffic": p.traffic, "metrics": p.metrics, "prober": p.watched, "cluster": p.cluster, **ports}
        return LookingActivities(fleet=p.fleet, library=LIBRARY, clock=self.time, **given)

    async def look(self, target: Target = EAST, whole: bool = True, **ports: Any) -> Looked:
        """One."""
        return await self.activities(**ports).look(LookRequest(target=target, now=self.time.now, whole=whole))


def fault(kind: str, at: str = "60s", **more: Any) -> dict[str, Any]:
    """A minute after the start."""
    return {"fault": kind, "at": at, **more}


def test_every_name_that_a_look_may_read_is_in_the_vocabulary_and_its_indicator_in_every_dialect() -> None:
    """What no rule could read would be read for nothing."""
    assert set(TOLD_BY) <= {one.name for one in LIBRARY.taxonomy.evidence}
    for dialect in LIBRARY.dialects.values():
        assert set(TOLD_BY.values()) <= set(dialect.indicators)


async def test_what_a_look_finds_is_in_the_vocabulary() -> None:
    """Each name, of each kind of target."""
    names = {one.name for one in LIBRARY.taxonomy.evidence}
    site = Site()
    for target in (EAST, FIRST, Target(cluster="east"), Target(cluster="east", node="east-n1")):
        found = await site.look(target)
        assert found.readings
        assert set(found.readings) <= names, target.id


async def test_a_well_pool_looks_well() -> None:
    """Nothing hangs, nothing is slow, nothing has changed: no rule may find anything in it."""
    seen = (await Site().look()).evidence

    assert (seen["endpoints_hung"], seen["endpoints_refusing"], seen["on_lost_nodes"]) == (0.0, 0.0, 0.0)
    assert (seen["replicas_serving"], seen["slow_endpoints"], seen["hot_endpoints"]) == (1.0, 0.0, 0.0)
    assert seen["latency_of_normal"] == pytest.approx(1.0, rel=0.05)
    assert "minutes_since_change" not in seen
    assert "metrics_unread" not in seen


async def test_a_hung_engine_is_seen_by_its_generations_and_only_of_its_own_case() -> None:
    """Of another endpoint's case it is not the fault."""
    site = Site(fault("hang", pool="chat-east", replicas=1))
    of_pool = await site.look()
    of_each = [
        (await site.look(Target(cluster="east", service="chat-east", endpoint=f"chat-east-{n}:8000"))).evidence[
            "endpoints_hung"
        ]
        for n in range(4)
    ]

    assert of_pool.evidence["endpoints_hung"] == 1.0
    assert sorted(of_each) == [0.0, 0.0, 0.0, 1.0]


async def test_an_engine_on_a_lost_node_is_lost_with_it_and_does_not_refuse_by_itself() -> None:
    """The prober cannot tell them apart, the control plane can."""
    seen = (await Site(fault("node_down", cluster="east", nodes=1), seconds=90).look()).evidence

    assert seen["nodes_not_ready"] == 1.0
    assert float(seen["on_lost_nodes"]) >= 1
    assert seen["endpoints_refusing"] == 0.0


async def test_a_glance_reads_the_cluster_alone() -> None:
    """What is proven waits for nothing else."""
    found = await Site(fault("node_down", cluster="east", nodes=1), seconds=90).look(FIRST, whole=False)

    assert "on_lost_nodes" in found.readings
    assert not {"error_rate", "endpoints_hung", "queue"} & set(found.readings)


async def test_a_cluster_that_is_gone_is_told_from_an_api_that_is_silent() -> None:
    """Its engines tell them apart."""
    gone = await Site(fault("cluster_gone", cluster="east")).look()
    silent = await Site(fault("blind", what="cluster", of="east", stale=False)).look()

    assert gone.evidence["cluster_unreachable"] is True
    assert silent.evidence["cluster_unreachable"] is False
    assert "replicas_ready" in silent.unread


async def test_metrics_that_are_missing_while_engines_answer_are_seen_as_that() -> None:
    """Nothing of what could not be read has a value."""
    found = await Site(fault("blind", what="metrics", of="chat-east", stale=False)).look()

    assert found.evidence["metrics_unread"] is True
    assert {"error_rate", "queue", "kv_used"} <= set(found.unread)
    assert not {"error_rate", "queue", "kv_used"} & set(found.evidence)


async def test_metrics_that_stand_still_are_as_old_as_they_are() -> None:
    """Their own time says it."""
    found = await Site(fault("blind", what="metrics", of="chat-east", stale=True)).look()

    assert found.evidence["metrics_flat_s"] == pytest.approx(240, abs=5)


async def test_probes_that_cannot_be_made_leave_what_rests_on_them_unknown() -> None:
    """Not nought."""
    found = await Site(fault("blind", what="probes", of="chat-east", stale=False)).look()

    assert {"endpoints_hung", "endpoints_refusing"} <= set(found.unread)
    assert "replicas_serving" not in found.readings


async def test_an_endpoint_out_of_rotation_is_not_looked_at() -> None:
    """Whoever took it out knows."""
    site = Site(fault("hang", pool="chat-east", replicas=1))
    for n in range(4):
        one = Target(cluster="east", service="chat-east", endpoint=f"chat-east-{n}:8000")
        if (await site.look(one)).evidence["endpoints_hung"]:
            site.ports.set_by_hand({endpoint_key("chat-east", str(one.endpoint)): "out"})

    assert (await site.look()).evidence["endpoints_hung"] == 0.0


class Silent:
    """A control plane that takes a question and never answers it."""

    async def read(self, domain: str) -> ClusterSnapshot:
        """Never."""
        await asyncio.Event().wait()
        raise AssertionError(domain)


class Stuck:
    """An edge that does not answer either."""

    async def read(self, domain: str) -> Snapshot:
        """Never."""
        await asyncio.Event().wait()
        raise AssertionError(domain)


async def test_a_look_ends_although_nothing_answers() -> None:
    """The others' readings stand; what hung is Unknown, with the reason."""
    async with asyncio.timeout(4):
        found = await Site().look(cluster=Silent(), traffic=Stuck())

    assert "no answer within 3 s" in found.unread["replicas_ready"]
    assert "no answer within 3 s" in found.unread["endpoints_hung"]
    assert isinstance(found.readings["error_rate"], Known)
    assert isinstance(found.readings["cluster_unreachable"], Unknown)


async def test_a_catalogue_of_before_looks_with_what_it_has() -> None:
    """A site's own folder may lack the indicators of a later version: that is no reason to see nothing."""
    old = {
        name: dialect.model_copy(
            update={"indicators": {k: v for k, v in dialect.indicators.items() if k != "pool_timeout_share"}}
        )
        for name, dialect in LIBRARY.dialects.items()
    }
    site = Site(fault("hang", pool="chat-east", replicas=1))
    p = site.ports
    for dialects, missing in ((old, "timeout_share"), ({}, "error_rate")):
        library = LIBRARY.model_copy(update={"dialects": dialects})
        looking = LookingActivities(p.traffic, p.metrics, p.watched, p.fleet, library, p.cluster, site.time)
        found = await looking.look(LookRequest(target=EAST, now=site.time.now))

        assert missing in found.unread
        assert found.evidence["endpoints_hung"] == 1.0


async def test_a_look_writes_nothing() -> None:
    """Neither at the edge nor in a cluster."""
    site = Site(fault("hang", pool="chat-east", replicas=1))
    before = (await site.ports.traffic.read("east"), await site.ports.cluster.read("east"))
    await site.look()

    after = (await site.ports.traffic.read("east"), await site.ports.cluster.read("east"))
    assert [s.settings for s in after] == [s.settings for s in before]


class Counting:
    """A prober that counts."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.asked: list[str] = []

    async def generate(self, scope: str) -> Any:
        """See Prober. It takes its moment, as each real one does."""
        self.asked.append(scope)
        await asyncio.sleep(0)
        return await self.inner.generate(scope)


async def test_sixty_looks_at_one_pool_at_once_ask_each_engine_once() -> None:
    """Each target of a storm looks at its pool: on a worker that has much to do no look would ever end in time."""
    site = Site(fault("hang", pool="chat-east", replicas=1))
    prober = Counting(site.ports.watched)
    looking = site.activities(prober=prober)
    request = LookRequest(target=EAST, now=site.time.now, whole=True)
    found = await asyncio.gather(*(looking.look(request) for _ in range(60)))
    assert len(prober.asked) == len(set(prober.asked))
    assert all(one == found[0] for one in found)
    assert found[0] == await site.look()
