"""A hotfix by rings, the largest pool first; a bad one is taken back to the template that was recorded."""

from __future__ import annotations

import time

from runbooks.policy import ClassPolicy
from tests.kube.cluster import PoolSpec
from tests.kube.stories.conftest import Stage
from tests.kube.stories.lab import rules, step_of, story_of, words
from tests.kube.stories.users import told

AUTO = ClassPolicy(mode="auto")
# Wrong on the GPU type of one pool only (oai-2024-02-20), which is the larger: it answers 200 without a word.
POOLS = (
    PoolSpec("chat-a", replicas=3, budget=3, image="engine:mute"),
    PoolSpec("chat-b", replicas=2, budget=2, image="engine:v1"),
)
NODES = {"a": 3, "b": 3}


async def test_a_hotfix_goes_ring_by_ring_and_each_ring_is_proven_before_the_next(stage: Stage) -> None:
    """Webhook with the label hotfix_image → no change to go back to → ring of the largest pool → proven by its own
    replicas, requests and canary → the other ring → the canary passes, the alert resolves → closed as fixed."""
    policy = rules(engine__bad_output=AUTO)
    async with stage("hotfix", pools=POOLS, nodes=NODES, policy=policy, roles=("rollout",), canary=True) as story:
        cluster = story.cluster
        story.users.steady(8)
        with cluster.watch_minimum() as minimum:
            await story.fire("CanaryPromptFailed", {"service": "chat-a", "hotfix_image": "engine:v2"})
            case = await story.opened(story.target(service="chat-a"))
            reached = await story.in_state(case, "mitigated", "closed")
            print(story_of(reached["record"]))
            mended_at = time.time()
            for pool in POOLS:
                assert cluster.images(pool.name) == {"engine:v2"}
            await cluster.until_serving("chat-a", 3)
            await cluster.until_serving("chat-b", 2)
            await story.resolve()
            record = await story.closed(case)

        print(story_of(record))
        assert record.outcome == "fixed", story_of(record)
        assert minimum.violations == []
        assert [words(w) for w in story.writes()] == ["patch deployments chat-a", "patch deployments chat-b"]
        assert story.refused_writes() == []
        rolled = step_of(record, "rollout_hotfix")
        assert [r.before | r.after for r in rolled.receipts] == [
            {"image/chat-a": "engine:v2"},
            {"image/chat-b": "engine:v2"},
        ]
        assert [r.before for r in rolled.receipts] == [{"image/chat-a": "engine:mute"}, {"image/chat-b": "engine:v1"}]
        assert rolled.standing is None
        assert step_of(record, "rollback_change").receipts == []
        assert story.users.failures() == [], told(story.users.failures())
        assert all(a.served for a in story.users.since(mended_at)), told(story.users.since(mended_at))
        assert not all(a.served for a in story.users.answers)


async def test_a_bad_hotfix_stops_at_its_first_ring_and_is_taken_back_to_what_was_recorded(stage: Stage) -> None:
    """The canary ring answers errors though its replicas are Ready → Worse → both template and replicas are again those
    of before → people are told. The second ring never saw the version."""
    policy = rules(engine__bad_output=AUTO)
    async with stage("badfix", pools=POOLS, nodes=NODES, policy=policy, roles=("rollout",), canary=True) as story:
        cluster = story.cluster
        template = cluster.control_plane.api.get(cluster.path("chat-a"))["spec"]["template"]
        story.users.steady(8)
        with cluster.watch_minimum() as minimum:
            await story.fire("CanaryPromptFailed", {"service": "chat-a", "hotfix_image": "engine:broken"})
            case = await story.opened(story.target(service="chat-a"))
            record = await story.closed(case)
            back_at = time.time()
            await cluster.until_serving("chat-a", 3)

        print(story_of(record))
        assert record.outcome == "paged", story_of(record)
        assert minimum.violations == []
        assert cluster.control_plane.api.get(cluster.path("chat-a"))["spec"]["template"] == template
        assert cluster.images("chat-a") == {"engine:mute"}
        assert cluster.images("chat-b") == {"engine:v1"}
        assert [words(w) for w in story.writes()] == ["patch deployments chat-a", "patch deployments chat-a"]
        assert story.refused_writes() == []
        rolled = step_of(record, "rollout_hotfix")
        assert rolled.end == "undone", story_of(record)
        assert [e.outcome for e in rolled.effects][0] == "worse"
        assert [p for p in story.pages()]
        assert back_at
