"""A surge: more replicas where there is room, and where there is none the lowest tier waits so that the others are served."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from runbooks.policy import ClassPolicy
from tests.kube.cluster import PoolSpec
from tests.kube.stories.conftest import Stage
from tests.kube.stories.lab import Story, rules, said, step_of, story_of, words
from tests.kube.stories.users import told
from tests.lab import until

AUTO = ClassPolicy(mode="auto")
SPEED = 40.0
"""Tokens/s of one replica: with twelve at once, thirteen answers of three tokens per second."""
SLOW = ("--tokens-per-second", f"{SPEED:g}", "--slots", "12")
POOL = PoolSpec("chat-a", replicas=2, budget=2, args=SLOW, slots=7)
SIX = replace(POOL, args=(*SLOW[:-1], "6"))
"""With six at once."""
SURGE = {"arrival_ratio": 2.5, "hot_share": 1.0}
ROLES = ("increase_capacity",)


async def test_a_surge_is_met_by_more_replicas_and_they_go_when_it_is_over(stage: Stage) -> None:
    """Webhook → one replica, proven to serve → the queue is still there: another → enough → the crowd leaves → one after
    the other goes → closed as restored. Nobody fails, nobody is refused, and never fewer than the two of normal times."""
    policy, nodes = rules(demand__surge=AUTO), {"a": 2, "b": 2}
    async with stage("surge", pools=(SIX,), nodes=nodes, policy=policy, roles=ROLES, speed=SPEED) as story:
        cluster = story.cluster
        story.users.max_tokens = 6
        story.users.steady(1)
        with cluster.watch_minimum() as minimum:
            # 21 requests per second and the steady one: more than three replicas answer (20), so that of 30 people 12 wait, and
            # less than four do (26). People who never paused would keep four as busy as three, however many they were.
            crowd = story.users.crowd(30, "batch", every_s=30 / 21)
            await story.queued("chat-a", above=10)
            await story.fire("DemandSurge", {"service": "chat-a"}, **SURGE)
            case = await story.opened(story.target(service="chat-a"))
            helped = await story.in_state(case, "mitigated")
            helped_at = time.time()
            assert len(cluster.serving("chat-a")) == 4, story_of(helped["record"])
            assert story.edge.rotation("chat-a") == cluster.serving("chat-a")

            async def by_all_four() -> bool:
                return len({a.endpoint for a in story.users.since(helped_at) if a.served}) == 4

            await until(by_all_four, "the crowd is served by all four")
            await story.users.leave(crowd)
            await story.resolve()
            record = await story.closed(case)
            await cluster.until_serving("chat-a", 2)

        assert record.outcome == "restored", story_of(record)
        assert minimum.violations == []
        assert minimum.least["chat-a"] == 2
        assert [(words(w), w.body["spec"]["replicas"]) for w in story.writes()] == [
            ("patch deployments/scale chat-a", n) for n in (3, 4, 3, 2)
        ]
        assert story.forbidden() == []
        lost = [a for a in story.users.answers if not a.served]
        assert lost == [], f"{told(lost)}\n{story_of(record)}"

        grown = step_of(record, "increase_capacity")
        assert (grown.end, grown.standing) == ("mitigated", None), story_of(record)
        assert [r.after for r in grown.receipts] == [{"replicas/chat-a": n} for n in (3, 4, 3, 2)]
        assert [e.outcome for e in grown.effects] == ["better"] * 4
        shed = step_of(record, "shed_load")
        assert (shed.end, shed.receipts) == ("enough", []), story_of(record)
        assert [p["title"] for p in story.pages()] == ["Closed: restored"]


def no_gpus(_: Story) -> None:
    """The nodes have no more than the pool holds already."""


def no_quota(story: Story) -> None:
    """There are free GPUs, and the namespace may not have them."""
    about = {"name": "gpus", "namespace": story.cluster.namespace}
    spec = {"hard": {"requests.nvidia.com/gpu": "2"}}
    story.plane.apply({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": about, "spec": spec})


@pytest.mark.parametrize(
    ("name", "gpus", "takes_away", "why"),
    [
        ("full", 1, no_gpus, "Insufficient nvidia.com/gpu: 1 replica(s) of 1 GPU(s), room for 0"),
        ("quota", 2, no_quota, "1 GPU(s) are needed and the quota of chat-a has 0 left"),
    ],
    ids=["no free GPU", "quota used up"],
)
async def test_a_surge_that_cannot_be_met_falls_through_to_shedding_the_lowest_tier(
    stage: Stage, name: str, gpus: int, takes_away: Callable[[Story], None], why: str
) -> None:
    """Nothing is written to the cluster; tier batch is refused in two parts, tier paid is served as in normal times, and
    batch comes back slowly when the crowd has gone."""
    policy, nodes = rules(demand__surge=AUTO), {"a": gpus, "b": gpus}
    async with stage(name, pools=(POOL,), nodes=nodes, policy=policy, roles=ROLES, speed=SPEED) as story:
        cluster = story.cluster
        takes_away(story)
        before = cluster.placement("chat-a")
        story.users.steady(3, "paid")
        with cluster.watch_minimum() as minimum:
            crowd = story.users.crowd(44, "batch")
            await story.queued("chat-a", above=10)
            await story.fire("DemandSurge", {"service": "chat-a"}, **SURGE)
            case = await story.opened(story.target(service="chat-a"))
            await story.in_state(case, "mitigated")
            helped_at = time.time()

            async def both_answered() -> bool:
                return (
                    len(story.users.since(helped_at, "paid")) >= 5 and len(story.users.since(helped_at, "batch")) >= 44
                )

            await until(both_answered, "both tiers are answered meanwhile")
            paid, batch = (story.users.since(helped_at, tier) for tier in ("paid", "batch"))
            assert await story.waiting("chat-a") == 0
            await story.users.leave(crowd)
            story.users.steady(2, "batch")
            await story.resolve()
            record = await story.closed(case)
            closed_at = time.time()

            async def again_answered() -> bool:
                return len(story.users.since(closed_at, "batch")) >= 3

            await until(again_answered, "batch is answered again")
            again = story.users.since(closed_at, "batch")

        assert record.outcome == "restored", story_of(record)
        assert story.writes() == []
        assert cluster.placement("chat-a") == before
        assert minimum.violations == []
        assert all(a.refused for a in batch), told(batch)
        assert all(a.served for a in paid), told(paid)
        assert all(a.served for a in again), told(again)
        assert story.users.failures() == [], told(story.users.failures())

        grown, shed = step_of(record, "increase_capacity"), step_of(record, "shed_load")
        assert (grown.end, grown.receipts) == ("refused", []), story_of(record)
        assert said(record, "act", "G8", "2-increase_capacity") == why
        assert (shed.end, shed.standing) == ("mitigated", None), story_of(record)
        assert [r.after["admit/chat/batch"] for r in shed.receipts] == [50, 0, 25, 50, 75, 100]
        assert [p["title"] for p in story.pages()] == ["Closed: restored"]


async def test_replicas_that_find_no_place_are_taken_back_before_anybody_is_refused(stage: Stage) -> None:
    """There is a free GPU, and its node is kept for others: the new replica is unschedulable → Worse → scaled back at
    once → the next step. What nobody could foresee is found out by looking."""
    policy, nodes = rules(demand__surge=AUTO), {"a": 1, "b": 1, "c": 1}
    async with stage("taint", pools=(POOL,), nodes=nodes, policy=policy, roles=ROLES, speed=SPEED) as story:
        cluster = story.cluster
        before = cluster.placement("chat-a")
        (free,) = set(cluster.nodes) - set(before.values())
        taint = {"key": "dedicated", "value": "training", "effect": "NoSchedule"}
        story.plane.api.merge(f"/api/v1/nodes/{free}", {"spec": {"taints": [taint]}})
        with cluster.watch_minimum() as minimum:
            crowd = story.users.crowd(44, "batch")
            await story.queued("chat-a", above=10)
            await story.fire("DemandSurge", {"service": "chat-a"}, **SURGE)
            case = await story.opened(story.target(service="chat-a"))
            await story.in_state(case, "mitigated")
            assert cluster.placement("chat-a") == before
            await story.users.leave(crowd)
            await story.resolve()
            record = await story.closed(case)

        assert record.outcome == "restored", story_of(record)
        assert minimum.violations == []
        assert [(words(w), w.body["spec"]["replicas"]) for w in story.writes()] == [
            ("patch deployments/scale chat-a", n) for n in (3, 2)
        ]
        grown, shed = step_of(record, "increase_capacity"), step_of(record, "shed_load")
        assert (grown.end, grown.standing) == ("undone", None), story_of(record)
        assert grown.effects[0].why == "unschedulable was 1 and then 1, which is worse than its bound"
        assert shed.end == "mitigated"
        first = min((a for a in story.users.answers if a.refused), key=lambda a: a.at)
        assert first.at > grown.receipts[1].acted_at.timestamp()
        assert story.users.failures() == [], told(story.users.failures())
