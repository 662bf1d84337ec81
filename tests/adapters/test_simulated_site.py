"""A simulated site behind its ports: what it tells, what it hides, and what does not answer."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from activities.adapters.simulated import SimulatedSite
from activities.errors import Ambiguous, Permanent, Refused, Retryable
from activities.ports import Actuator, Snapshot
from runbooks.change import GONE, Change, Permit, boot_key, cordon_key, gpu_key, replicas_key, weight_key
from runbooks.detection import Target
from runbooks.facts import Settings
from runbooks.library import load_library
from runbooks.plan import IndicatorQuery, Sample
from tests.adapters.fluid_lab import QUIET, Time, fleet, incident, pool

EAST = "chat-east-0:8000"


class Stage:
    """A site and its clock."""

    def __init__(self, *faults: dict[str, Any], of: dict[str, Any] | None = None, **more: Any) -> None:
        self.time = Time()
        self.site = SimulatedSite(incident(*faults, of=of, **more), self.time)

    def after(self, seconds: float) -> Stage:
        """Seconds later."""
        self.time.pass_(seconds)
        return self

    def permit(self, change: Change, domain: str = "east", epoch: int = 1, **fields: Any) -> Permit:
        """Good for a minute."""
        given = {"id": f"permit-{epoch}", "act_before": self.time.now + timedelta(minutes=1), **fields}
        return Permit(
            domain=domain, case="c", step_id="s", change_digest=change.digest, purpose="act", epoch=epoch, **given
        )

    async def swap(self, actuator: Actuator, before: Settings, after: Settings, **fields: Any) -> Snapshot:
        """One change under a permit of its own."""
        change = Change(before=before, after=after, last=True)
        return await actuator.swap(change, self.permit(change, **fields))

    async def sample(self, source: Any, query: str, scope: str = "", name: str = "x") -> Sample:
        """One reading."""
        asked = IndicatorQuery(name=name, source=source, query=query, unit="1", scope=scope)
        [found] = await self.site.metrics.sample([asked])
        return found

    def well(self, target: str) -> bool | None:
        """As a detector of it sees it."""
        return self.site.well(Target.of(target))


def fault(kind: str, **more: Any) -> dict[str, Any]:
    """One fault, five minutes after the start."""
    return {"fault": kind, "at": "5m", **more}


# --- what it tells -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", ["vllm", "llamacpp"])
async def test_every_indicator_of_the_catalogue_has_a_value_when_all_is_well(dialect: str) -> None:
    """But for what an engine of that dialect does not tell."""
    of = fleet(pools=[pool("chat-east", "east", dialect=dialect), pool("chat-west", "west", dialect=dialect)])
    stage = Stage(of=of).after(60)
    indicators = load_library(None).dialects[dialect]
    context = {
        "pool": "chat-east", "route": "chat", "endpoint": EAST, "siblings": ["chat-west"], "node": "east-n1", "gpu": "0",
        "cluster": "east",
    }  # fmt: skip
    queries = [indicators.query(name, context, ("test",)) for name in indicators.indicators]

    samples = {s.indicator: s for s in await stage.site.metrics.sample(queries)}

    unknown = {name: s.why for name, s in samples.items() if s.value is None}
    assert set(unknown) == ({"kv_used", "ttft_p99", "latency_p99"} & set(samples) if dialect == "llamacpp" else set())
    assert samples["real_generation"].value == 1.0
    assert samples["error_rate"].value == 0.0
    assert samples["replicas_serving"].value == 1.0
    assert samples["pool_canary_pass"].value == 1.0


async def test_an_unknown_query_has_no_value_and_says_why() -> None:
    """Never a default."""
    stage = Stage().after(60)

    for source, query in (("prometheus", "up"), ("scrape", "nonsense"), ("cluster", "nonsense")):
        found = await stage.sample(source, query, "chat-east")
        assert (found.value, bool(found.why)) == (None, True)


async def test_dependencies_tell_how_many_replicas_they_can_take() -> None:
    """By the site's own query, the API of a cluster among them."""
    data = {"name": "db", "capacity": 100, "load": 70, "per_replica": 2, "per_start": 5}
    of = fleet(pools=[pool("chat-east", "east", depends_on=["db"]), pool("chat-west", "west")], dependencies=[data])
    stage = Stage(fault("api_load", cluster="west", load=100), of=of).after(60)
    queries = {d.name: d.headroom for d in stage.site.fleet.dependencies}
    work = next(p.workload for p in stage.site.fleet.pools if p.name == "chat-east")

    assert work is not None
    assert work.depends_on == ("db", "kube-api-east")
    assert (await stage.sample("prometheus", queries["db"])).value == 4  # 22 of 100 are left
    assert (await stage.sample("prometheus", queries["kube-api-east"])).value == pytest.approx(34, abs=1)
    stage.after(600)
    headroom = (await stage.sample("prometheus", queries["kube-api-west"])).value
    assert headroom is not None
    assert headroom < 0


async def test_an_error_budget_is_told_where_there_is_one() -> None:
    """And nothing is asked where there is none."""
    route = {"name": "chat", "pools": ["chat-east", "chat-west"], "requests_per_second": 20.0}
    has = Stage(of=fleet(routes=[{**route, "error_budget_left": 0.3}])).after(60)

    assert (await has.sample("prometheus", has.site.fleet.routes[0].error_budget)).value == 0.3
    assert Stage().site.fleet.routes[0].error_budget == ""


async def test_noise_is_of_the_seed_and_of_the_moment() -> None:
    """Alike in two plays, another for another seed, and never on what is only counted."""
    values = {}
    for seed in (1, 1, 2):
        stage = Stage(noise=0.05, seed=seed).after(60)
        read = await stage.sample("scrape", "tokens_per_second", "chat-east")
        again = await stage.sample("scrape", "tokens_per_second", "chat-east")
        assert read.value == again.value
        values.setdefault(seed, set()).add(read.value)
        assert (await stage.sample("cluster", "replicas_serving", "chat-east")).value == 1.0
        assert read.value == pytest.approx(2000, rel=0.2)
    assert {len(v) for v in values.values()} == {1}
    assert values[1] != values[2]


async def test_a_busy_engine_is_silent_to_a_probe_and_not_hung_to_a_watcher() -> None:
    """Its queue is longer than any probe waits, and its siblings' users get tokens."""
    stage = Stage(fault("demand", route="chat", factor=3), fault("hang", pool="chat-west", replicas=1)).after(900)

    busy, watched = await stage.site.prober.generate(EAST), await stage.site.watched.generate(EAST)
    hung = await stage.site.watched.generate("chat-west-0:8000")
    states = await stage.site.metrics.pools("east", await stage.site.traffic.read("east"))

    assert (busy.ok, busy.why) == (False, "no token within 2.0 s")
    assert (watched.ok, hung.ok) == (True, False)
    assert states["chat-east"].answering == 4


async def test_a_route_is_asked_as_a_user_asks_it() -> None:
    """Of many probes about as many fail as of the users' requests."""
    stage = Stage(fault("hang", pool="chat-east", replicas=2)).after(900)
    failed = 0
    for _ in range(400):
        failed += not (await stage.after(1).site.prober.generate("route/chat")).ok

    assert failed / 400 == pytest.approx(0.25, abs=0.06)


async def test_pool_states_follow_what_is_declared() -> None:
    """An endpoint that is out serves nobody, and one that hangs answers nobody."""
    stage = Stage(fault("hang", pool="chat-east", replicas=1)).after(600)
    stage.site.set_by_hand({"endpoint/chat-east/chat-east-1:8000": "out"})
    state = (await stage.site.metrics.pools("east", await stage.site.traffic.read("east")))["chat-east"]

    assert (state.endpoints, state.in_rotation, state.answering, state.capacity_tps) == (4, 3, 2, 2000)


async def test_people_are_told_through_the_site() -> None:
    """Its pages are kept."""
    stage = Stage()
    await stage.site.notify.tell("k", "title", "body")

    assert [p.title for p in stage.site.notify.pages] == ["title"]


# --- what does not answer ----------------------------------------------------------------------------------------


async def test_an_overloaded_api_answers_neither_reads_nor_writes_and_nothing_is_written() -> None:
    """Retryable; when it answers again the same permit is good."""
    stage = Stage(fault("api_load", cluster="east", load=100, ends="10m")).after(400)
    key = replicas_key("chat-east")

    with pytest.raises(Retryable, match="east"):
        await stage.site.cluster.read("east")
    with pytest.raises(Retryable):
        await stage.swap(stage.site.cluster, {key: 4}, {key: 5})
    assert (await stage.site.cluster.read("west")).settings[replicas_key("chat-west")] == 4
    assert (await stage.sample("prometheus", "", "east", "apiserver_error_share")).value == pytest.approx(
        0.24, abs=0.02
    )
    stage.after(300)
    assert (await stage.swap(stage.site.cluster, {key: 4}, {key: 5})).settings[key] == 5


@pytest.mark.parametrize(
    ("needs", "sick"),
    [
        ("east", fault("api_load", cluster="east", load=100)),
        ("east/node/east-n1", fault("node_down", cluster="east")),
        ("east/service/chat-east", fault("hang", pool="chat-east")),
        ("east", fault("cluster_gone", cluster="east")),
    ],
)
async def test_traffic_that_runs_on_what_is_sick_cannot_be_steered(needs: str, sick: dict[str, Any]) -> None:
    """And an edge outside of the fleet can."""
    inside = [{"name": "east", "nodes": 2, "traffic_runs_on": [needs]}, {"name": "west", "nodes": 2}]
    stage, free = Stage(sick, of=fleet(clusters=inside)).after(600), Stage(sick).after(600)
    key = weight_key("chat", "chat-east")

    with pytest.raises(Retryable, match=needs):
        await stage.site.traffic.read("east")
    assert (await stage.site.traffic.read("west")).settings[key] == 50
    assert (await free.site.traffic.read("east")).settings[key] == 50
    control = stage.site.fleet.control("east", "traffic")
    assert control is not None
    assert control.runs_on == (needs,)


async def test_a_domain_that_is_not_there_is_permanent() -> None:
    """By every port."""
    site = Stage().site

    for asked in (site.traffic.read("nowhere"), site.cluster.read("nowhere"), site.node("east-n1").read("west")):
        with pytest.raises(Permanent):
            await asked


# --- what it hides -----------------------------------------------------------------------------------------------


async def test_missing_metrics_are_missing_and_the_rest_is_there() -> None:
    """Of one pool: the sibling, the probes and the cluster speak on."""
    stage = Stage(fault("blind", what="metrics", of="chat-east")).after(400)

    assert (await stage.sample("scrape", "error_rate", "chat-east")).value is None
    assert (await stage.sample("scrape", "error_rate", "route/chat")).value is None
    assert (await stage.sample("scrape", "error_rate", "chat-west")).value == 0.0
    assert (await stage.sample("probe", "ok", EAST)).value == 1.0
    state = (await stage.site.metrics.pools("east", await stage.site.traffic.read("east")))["chat-east"]
    assert (state.load_tps, state.queue, state.answering) == (None, None, 4)


async def test_missing_probes_leave_the_answering_unknown() -> None:
    """Nobody is called dead for it."""
    stage = Stage(fault("blind", what="probes", of="east")).after(400)
    state = (await stage.site.metrics.pools("east", await stage.site.traffic.read("east")))["chat-east"]

    assert (state.answering, state.load_tps is not None) == (None, True)
    assert (await stage.sample("probe", "ok", EAST)).value is None
    assert (await stage.sample("cluster", "replicas_serving", "chat-east")).value is None


async def test_a_domain_of_which_nothing_is_seen_cannot_be_measured() -> None:
    """Retryable: an empty picture would look like an idle fleet."""
    stage = Stage(fault("blind", what="all", of="east")).after(400)

    with pytest.raises(Retryable, match="could be measured"):
        await stage.site.metrics.pools("east", await stage.site.traffic.read("east"))
    with pytest.raises(Retryable):
        await stage.site.cluster.read("east")


async def test_stale_readings_keep_the_value_and_the_time_at_which_they_stopped() -> None:
    """The fault comes later, and they show nothing of it."""
    hang = {"fault": "hang", "at": "8m", "pool": "chat-east"}
    stage = Stage(fault("blind", what="all", of="east", stale=True), hang).after(1200)
    stopped = stage.site.incident.moment("5m")

    error_rate = await stage.sample("scrape", "error_rate", "chat-east")
    generation = await stage.site.prober.generate(EAST)
    placed = await stage.site.cluster.read("east")

    assert (error_rate.value, error_rate.observed_at) == (0.0, stopped)
    assert (generation.ok, generation.observed_at) == (True, stopped)
    assert placed.observed_at == stopped
    assert (await stage.sample("scrape", "error_rate", "chat-west")).observed_at == stage.time.now


# --- nodes -------------------------------------------------------------------------------------------------------


async def drained(stage: Stage) -> None:
    """east-n1 is cordoned and has no replica any more."""
    stage.site.set_by_hand({cordon_key("east-n1"): "on"})
    seen = await stage.site.cluster.read("east")
    stage.site.set_by_hand({f"pod/chat-east/{p.name}": GONE for p in seen.state.on("east-n1")})
    stage.after(200)


async def test_a_reset_is_made_once_on_a_drained_node_and_counted() -> None:
    """Its agent finds nothing wrong afterwards."""
    stage = Stage(fault("gpu", node="east-n1", gpu=0, xid=48)).after(400)
    hands, key = stage.site.node("east-n1"), gpu_key("east-n1", "0")
    with pytest.raises(Refused, match="not cordoned"):
        await stage.swap(hands, {key: 0}, {key: 1})
    await drained(stage)
    assert (await stage.sample("cluster", "gpu_ok", "east-n1/0")).value == 0.0

    change = Change(before={key: 0}, after={key: 1}, last=True)
    permit = stage.permit(change, epoch=2)
    once = await hands.swap(change, permit)
    twice = await hands.swap(change, permit)

    assert once.settings[key] == twice.settings[key] == 1
    assert (twice.epoch, twice.permit_id) == (2, "permit-2")
    assert (await stage.after(10).sample("cluster", "gpu_ok", "east-n1/0")).value == 1.0
    with pytest.raises(Refused, match="fenced"):
        await stage.swap(hands, {key: 1}, {key: 2}, epoch=1)


async def test_a_gpu_that_is_off_the_bus_needs_a_reboot() -> None:
    """Refused by the agent, and mended by the boot."""
    stage = Stage(fault("gpu", node="east-n1", gpu=0, xid=79)).after(400)
    hands, boot = stage.site.node("east-n1"), boot_key("east-n1")
    await drained(stage)
    before = (await hands.read("east")).settings[boot]

    with pytest.raises(Refused, match="off the bus"):
        await stage.swap(hands, {gpu_key("east-n1", "0"): 0}, {gpu_key("east-n1", "0"): 1})
    after = await stage.swap(hands, {boot: before}, {boot: GONE}, epoch=2)

    assert after.settings[boot] != before
    assert (await stage.sample("cluster", "node_ready", "east-n1")).value == 0.0
    assert (await stage.after(200).sample("cluster", "node_ready", "east-n1")).value == 1.0
    assert (await stage.sample("cluster", "gpu_ok", "east-n1/0")).value == 1.0


async def test_a_reset_that_cures_nothing_says_so() -> None:
    """It was made, and the GPU has what it had; made again by the same permit it is not."""
    stage = Stage(fault("gpu", node="east-n1", gpu=0, xid=48, reset_cures=False)).after(400)
    hands, key = stage.site.node("east-n1"), gpu_key("east-n1", "0")
    await drained(stage)
    change = Change(before={key: 0}, after={key: 1}, last=True)
    permit = stage.permit(change)

    with pytest.raises(Permanent, match="did not help"):
        await hands.swap(change, permit)
    assert (await hands.swap(change, permit)).settings[key] == 1
    assert len(stage.site.account.writes) == 3


async def test_a_check_replica_tries_a_node_before_it_is_put_back() -> None:
    """It comes up on a node that is well, and not on a GPU that is sick."""
    for xid, comes_up in ((92, True), (48, False)):
        stage = Stage(fault("gpu", node="east-n1", gpu=0, xid=xid)).after(400)
        await drained(stage)
        assert await stage.site.cluster.try_node("east-n1", "chat-east", "check-1") is None
        address = await stage.after(70).site.cluster.try_node("east-n1", "chat-east", "check-1")

        assert (address is not None) == comes_up
        if address is not None:
            assert (await stage.site.prober.generate(address)).ok
        await stage.site.cluster.end_try("chat-east", "check-1")


async def test_an_unsure_act_is_not_made_twice() -> None:
    """The boot shows under its own permit; a reset that somebody counted back does not."""
    stage = Stage(fault("gpu", node="east-n1", gpu=0, xid=48)).after(400)
    hands, key = stage.site.node("east-n1"), gpu_key("east-n1", "0")
    await drained(stage)
    change = Change(before={key: 0}, after={key: 1}, last=True)
    await hands.swap(change, stage.permit(change))
    stage.site.world.node("east-n1").resets[0] = 0

    with pytest.raises(Ambiguous, match="does not show"):
        await hands.swap(change, stage.permit(change))


# --- health and account ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("some", "target"),
    [
        (fault("hang", pool="chat-east", replicas=1), f"east/service/chat-east/endpoint/{EAST}"),
        (fault("hang", pool="chat-east", replicas=1), "east/service/chat-east"),
        (fault("errors", pool="chat-east", share=0.5), "east/service/chat-east"),
        (fault("slow", pool="chat-east", factor=0.3), "east/service/chat-east"),
        (fault("bad_output", pool="chat-east"), "east/service/chat-east"),
        (fault("client_errors", pool="chat-east", share=0.2), "east/service/chat-east"),
        (fault("dead_connections", pool="chat-east", share=0.2), "east/service/chat-east"),
        (fault("demand", route="chat", factor=3), "east/service/chat-east"),
        (fault("upstream", route="chat", share=0.5), "east/service/chat-east"),
        (fault("node_down", cluster="east"), "east/node/east-n1"),
        (fault("gpu", node="east-n1", gpu=0, xid=48), "east/node/east-n1/gpu/0"),
        (fault("api_load", cluster="east", load=100), "east"),
        (fault("network", cluster="east", share=1.0), "east"),
    ],
)
def test_a_target_is_not_well_while_its_fault_lasts(some: dict[str, Any], target: str) -> None:
    """Before and after it is; and so is its neighbour all the time, but for what users of both share."""
    stage = Stage(some | {"ends": "15m"}, lasts="1h")

    assert stage.after(200).well(target) is True
    assert stage.after(500).well(target) is False
    assert stage.after(900).well(target) is True


def test_what_is_hidden_is_neither_well_nor_sick() -> None:
    """And what the fleet does not have is not known."""
    stage = Stage(fault("blind", what="all", of="east", stale=True)).after(400)

    assert stage.well("east/service/chat-east") is None
    assert stage.well("east/node/east-n1") is None
    assert stage.well("west/service/chat-west") is True
    assert stage.well("nowhere") is None


async def test_acts_are_written_down_with_their_permit() -> None:
    """Under a permit, by hand, and not what the file plays."""
    script = {"fault": "by_hand", "at": "1m", "by": "a script", "sets": {"admit/chat/batch": 90}}
    stage = Stage(script).after(120)
    key, other = weight_key("chat", "chat-east"), weight_key("chat", "chat-west")
    await stage.swap(stage.site.traffic, {key: 50, other: 50}, {key: 40, other: 60})
    await stage.swap(stage.site.cluster, {cordon_key("east-n1"): "off"}, {cordon_key("east-n1"): "on"}, epoch=2)
    stage.site.set_by_hand({"admit/chat/batch": 80})

    written = [(w.permit, w.settings) for w in stage.site.account.writes]
    assert written == [
        ("permit-1", {key: 40, other: 60}),
        ("permit-2", {cordon_key("east-n1"): "on"}),
        ("", {"admit/chat/batch": 80}),
    ]


async def test_a_moved_incident_is_played_from_its_own_start() -> None:
    """The clock of the play decides, and it never goes back."""
    stage = Stage(QUIET)
    stage.site.advance(stage.time.now + timedelta(seconds=100))
    stage.site.advance(stage.time.now)

    assert stage.site.world.t == 100
