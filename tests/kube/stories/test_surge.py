"""A surge: more replicas where there is room, and where there is none the lowest tier waits so that the others are served."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from runbooks.policy import ClassPolicy
from tests.kube.cluster import PoolSpec
from tests.kube.stories.conftest import Stage
from tests.kube.stories.lab import Story, rules, step_of, story_of, words
from tests.kube.stories.users import told

AUTO = ClassPolicy(mode="auto")
SPEED = 40.0
"""Tokens/s of one replica: with twelve at once, thirteen answers of three tokens per second."""
SLOW = ("--tokens-per-second", f"{SPEED:g}", "--slots", "12")
POOL = PoolSpec("chat-a", replicas=2, budget=2, args=SLOW, slots=7)
SURGE = {"arrival_ratio": 2.5, "hot_share": 1.0}


async def test_a_surge_is_met_by_more_replicas_and_they_go_when_it_is_over(stage: Stage) -> None:
    """Webhook → one replica, proven to serve → the queue is still there: another → enough → the crowd leaves → one after
    the other goes → closed as restored. Nobody fails, nobody is refused, and never fewer than the two of normal times."""
    policy = rules(demand__surge=AUTO)
    nodes = {"a": 2, "b": 2}
    async with stage(
        "surge", pools=(POOL,), nodes=nodes, policy=policy, roles=("increase_capacity",), tokens_per_second=SPEED
    ) as story:
        cluster = story.cluster
        story.users.steady(1)
        with cluster.watch_minimum() as minimum:
            # With three replicas some 36 of them are answered at once, and with four 48.
            crowd = story.users.crowd(37, "batch")
            await story.fire("DemandSurge", {"service": "chat-a"}, **SURGE)
            case = await story.opened(story.target(service="chat-a"))
            await cluster.until(lambda: len(cluster.serving("chat-a")) == 4, "four serve", 60)
            await story.in_state(case, "holding", "mitigated", "checking")
            await cluster.until(
                lambda: story.edge.rotation("chat-a") == cluster.serving("chat-a"), "Envoy has all four"
            )
            helped = time.time()
            await asyncio.sleep(2)
            served = [a.endpoint for a in story.users.since(helped) if a.served]
            await story.users.leave(crowd)
            await story.resolve()
            record = await story.closed(case)
            await cluster.until_serving("chat-a", 2)

        print(story_of(record))
        assert record.outcome == "restored", story_of(record)
        assert minimum.violations == []
        assert minimum.least["chat-a"] == 2
        assert [(words(w), w.body["spec"]["replicas"]) for w in story.writes()] == [
            ("patch deployments/scale chat-a", n) for n in (3, 4, 3, 2)
        ]
        assert story.refused_writes() == []
        assert len(set(served)) == 4
        assert [a for a in story.users.answers if not a.served] == [], told(story.users.answers)
        grown = step_of(record, "increase_capacity")
        assert grown.end == "mitigated"
        assert step_of(record, "shed_load").end in ("enough", "resolved"), story_of(record)
        assert [p["title"] for p in story.pages()] == ["Closed: restored"]
        assert [r.after for r in grown.receipts] == [{"replicas/chat-a": n} for n in (3, 4, 3, 2)]
        assert [e.outcome for e in grown.effects] == ["better"] * 4


def _no_gpus(story: Story) -> None:
    """The nodes have no more than the pool has already."""


def _no_quota(story: Story) -> None:
    plane, space = story.plane, story.cluster.namespace
    plane.apply(
        {
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {"name": "gpus", "namespace": space},
            "spec": {"hard": {"requests.nvidia.com/gpu": "2"}},
        }
    )


@pytest.mark.parametrize(
    ("name", "gpus", "takes_away", "why"),
    [
        ("full", 1, _no_gpus, "G8: Insufficient nvidia.com/gpu"),
        ("quota", 2, _no_quota, "G8: 1 GPU(s) are needed and the quota of chat-a has 0 left"),
    ],
)
async def test_a_surge_that_cannot_be_met_falls_through_to_shedding_the_lowest_tier(
    stage: Stage, name: str, gpus: int, takes_away: Callable[[Story], Any], why: str
) -> None:
    """No free GPU, or no quota: nothing is written to the cluster, tier batch is refused in two parts, tier paid is
    served as in normal times, and batch comes back slowly when the crowd has gone."""
    policy = rules(demand__surge=AUTO)
    nodes = {"a": gpus, "b": gpus}
    async with stage(
        name, pools=(POOL,), nodes=nodes, policy=policy, roles=("increase_capacity",), tokens_per_second=SPEED
    ) as story:
        cluster = story.cluster
        takes_away(story)
        story.users.steady(3, "paid")
        with cluster.watch_minimum() as minimum:
            crowd = story.users.crowd(44, "batch")
            await story.fire("DemandSurge", {"service": "chat-a"}, **SURGE)
            case = await story.opened(story.target(service="chat-a"))
            await story.in_state(case, "mitigated")
            helped = time.time()
            await asyncio.sleep(2)
            paid, batch = (story.users.since(helped, tier) for tier in ("paid", "batch"))
            await story.users.leave(crowd)
            left = time.time()
            few = story.users.steady(2, "batch")
            await story.resolve()
            record = await story.closed(case)
            await asyncio.sleep(1)
            again = story.users.since(time.time() - 1, "batch")
            await story.users.leave(few)

        print(story_of(record))
        assert record.outcome == "restored", story_of(record)
        assert step_of(record, "increase_capacity").end == "refused"
        assert step_of(record, "increase_capacity").receipts == []
        assert [e.text for e in record.timeline if e.what == "step refused" and why in e.text], story_of(record)
        assert story.writes() == []
        assert minimum.violations == []
        assert cluster.placement("chat-a").keys() == {p.name for p in cluster.kubelet.pods("chat-a")}
        assert batch
        assert all(a.refused for a in batch), told(batch)
        assert all(a.served and a.seconds < 1 for a in paid), told(paid)
        assert all(a.served for a in again), told(again)
        assert story.users.failures() == [], told(story.users.failures())
        shed = step_of(record, "shed_load")
        admitted = [r.after["admit/chat/batch"] for r in shed.receipts]
        assert admitted == [50, 0, 25, 50, 75, 100]
        assert left
