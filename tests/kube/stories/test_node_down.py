"""A GPU node goes NotReady: its replicas are moved by eviction, and it serves again after a check under load."""

from __future__ import annotations

import time

from runbooks.policy import ClassPolicy
from tests.kube.cluster import PoolSpec
from tests.kube.stories.conftest import Stage
from tests.kube.stories.lab import rules, step_of, story_of, words
from tests.kube.stories.users import told

ASK = ClassPolicy(mode="ask", accept_unverified=True, approval_ttl_s=60)


async def test_a_node_that_is_not_ready_is_drained_and_takes_pods_again_once_a_replica_on_it_made_tokens_under_load(
    stage: Stage,
) -> None:
    """Webhook → a person approves → cordon → evictions, one by one → served elsewhere → the node heals → check under load
    → uncordon → closed as restored. The reboot that the runbook asks for next needs a named person, and never happens."""
    pools = (PoolSpec("chat-a", replicas=3, budget=2), PoolSpec("chat-b", replicas=2, budget=1))
    policy = rules(infra__node_down=ASK)
    nodes = {"a": 3, "b": 3, "c": 3}
    async with stage("node", pools=pools, nodes=nodes, policy=policy, roles=("rebalance_nodes", "evict")) as story:
        cluster = story.cluster
        places = [n for p in pools for n in cluster.placement(p.name).values()]
        sick = max(cluster.nodes, key=places.count)
        on_it = [pod for p in pools for pod, node in cluster.placement(p.name).items() if node == sick]
        assert len(on_it) == 2, cluster.world.told()
        story.users.steady(10)
        with cluster.watch_minimum() as minimum:
            cluster.kubelet.fail_node(sick, reason="GPUFailed", message="Xid 79")
            await cluster.until_node(sick, ready=False)
            await story.fire("KubeNodeNotReady", {"node": sick})
            case = await story.opened(story.target(node=sick))
            await story.approve(case, await story.asks(case, "1-rebalance_nodes"))
            await story.asks(case, "2-reboot_node", deadline_s=90)
            mended_at = time.time()
            assert cluster.world.node(sick)["spec"]["unschedulable"] is True
            assert not [n for p in pools for n in cluster.placement(p.name).values() if n == sick]
            for pool in pools:
                assert len(cluster.serving(pool.name)) == pool.replicas
                assert story.edge.rotation(pool.name) == cluster.serving(pool.name)

            cluster.kubelet.heal_node(sick)
            await cluster.until_node(sick, ready=True)
            await story.resolve()
            record = await story.closed(case)

        print(story_of(record))
        assert record.outcome == "restored", story_of(record)
        assert not cluster.world.node(sick)["spec"].get("unschedulable")
        assert minimum.violations == []
        assert minimum.events > 10
        wanted = [
            f"patch nodes {sick}",
            *(f"create pods/eviction {pod}" for pod in on_it),
            "create pods",
            "delete pods",
            f"patch nodes {sick}",
        ]
        found = [words(w) for w in story.writes()]
        assert len(found) == len(wanted), found
        assert story.refused_writes() == []
        assert cluster.checks() == []
        assert story.users.failures(since=mended_at) == [], told(story.users.failures(since=mended_at))
        assert step_of(record, "rebalance_nodes").end == "mitigated"
