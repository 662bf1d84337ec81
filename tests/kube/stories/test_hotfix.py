"""A hotfix by rings, the largest pool first; a bad one is taken back to the template that was recorded."""

from __future__ import annotations

import time
from dataclasses import replace

from runbooks.policy import ClassPolicy
from tests.kube.cluster import PoolSpec
from tests.kube.stories.conftest import Stage
from tests.kube.stories.lab import rules, said, step_of, story_of, words
from tests.kube.stories.users import told

AUTO = ClassPolicy(mode="auto")
MUTE = "engine:mute"
"""Answers 200 without a word, and is Ready all the while."""
LARGE = PoolSpec("chat-a", replicas=3, budget=3, image=MUTE)
SMALL = PoolSpec("chat-b", replicas=2, budget=2, image=MUTE)
NODES = {"a": 3, "b": 3}


async def test_a_hotfix_goes_ring_by_ring_and_each_ring_is_proven_before_the_next(stage: Stage) -> None:
    """Webhook with the label hotfix_image → no change to go back to → ring of the largest pool → proven by its own
    replicas, requests and canary → the other ring → the canary passes, the alert resolves → closed as fixed."""
    policy, pools = rules(engine__bad_output=AUTO), (LARGE, SMALL)
    async with stage("hotfix", pools=pools, nodes=NODES, policy=policy, roles=("rollout",), canary=True) as story:
        cluster = story.cluster
        story.users.steady(8)
        with cluster.watch_minimum() as minimum:
            await story.fire("CanaryPromptFailed", {"service": "chat-a", "hotfix_image": "engine:v2"})
            case = await story.opened(story.target(service="chat-a"))
            await story.in_state(case, "mitigated")
            for pool in pools:
                assert cluster.images(pool.name) == {"engine:v2"}
                await cluster.until_serving(pool.name, pool.replicas)
            mended_at = time.time()
            await story.resolve()
            record = await story.closed(case)

        assert record.outcome == "fixed", story_of(record)
        assert minimum.violations == []
        assert [words(w) for w in story.writes()] == ["patch deployments chat-a", "patch deployments chat-b"]
        assert story.forbidden() == []
        assert story.users.failures() == [], told(story.users.failures())
        dumb = [a for a in story.users.since(mended_at) if not a.served]
        assert dumb == [], told(dumb)
        assert [a for a in story.users.answers if not a.served]  # users had no text before

        rolled = step_of(record, "rollout_hotfix")
        assert (rolled.end, rolled.standing) == ("mitigated", None), story_of(record)
        assert [r.before for r in rolled.receipts] == [{f"image/{p.name}": MUTE} for p in pools]
        assert [r.after for r in rolled.receipts] == [{f"image/{p.name}": "engine:v2"} for p in pools]
        assert [e.outcome for e in rolled.effects] == ["better"] * 2
        assert rolled.receipts[1].acted_at > rolled.effects[0].samples[-1].observed_at
        back = step_of(record, "rollback_change")
        assert (back.end, back.receipts) == ("refused", [])
        assert said(record, "act", "G8", "1-rollback_change") == "chat-a has no revision before the marked change"


async def test_a_bad_hotfix_stops_at_its_first_ring_and_is_taken_back_to_what_was_recorded(stage: Stage) -> None:
    """The canary ring answers errors though its replicas are Ready → Worse → template and replicas are again those of
    before → people are told. The second ring never saw the version."""
    # Wrong on the GPU type of one pool only (oai-2024-02-20): each goes back to a version of its own.
    policy, pools = rules(engine__bad_output=AUTO), (LARGE, replace(SMALL, image="engine:v1"))
    async with stage("badfix", pools=pools, nodes=NODES, policy=policy, roles=("rollout",), canary=True) as story:
        cluster = story.cluster
        before = {p.name: story.plane.api.get(cluster.path(p.name))["spec"] for p in pools}
        story.users.steady(8)
        with cluster.watch_minimum() as minimum:
            await story.fire("CanaryPromptFailed", {"service": "chat-a", "hotfix_image": "engine:broken"})
            record = await story.closed(await story.opened(story.target(service="chat-a")))
            await cluster.until_serving("chat-a", 3)
            back_at = time.time()
            await story.users.ask("paid")

        assert record.outcome == "paged", story_of(record)
        assert {p.name: story.plane.api.get(cluster.path(p.name))["spec"] for p in pools} == before
        assert [cluster.images(p.name) for p in pools] == [{MUTE}, {"engine:v1"}]
        assert minimum.violations == []
        assert [words(w) for w in story.writes()] == ["patch deployments chat-a"] * 2
        assert story.forbidden() == []

        # Only the ring failed users, and only while the version was there.
        failed = story.users.failures()
        ring = set(cluster.addresses.slots("chat-a", LARGE.slots))
        assert failed
        assert {a.endpoint for a in failed} <= ring, told(failed)
        assert story.users.failures(since=back_at) == []

        rolled = step_of(record, "rollout_hotfix")
        assert (rolled.end, rolled.standing) == ("undone", None), story_of(record)
        assert [r.after for r in rolled.receipts] == [
            {"image/chat-a": "engine:broken"},
            {"image/chat-a": MUTE},
        ]
        assert [e.outcome for e in rolled.effects] == ["worse", "better"], story_of(record)
        assert "pool_error_rate" in rolled.effects[0].why
        assert [p["title"] for p in story.pages()] == [record.why]
