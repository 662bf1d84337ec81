"""A GPU node goes NotReady: its replicas are moved by eviction, and it serves again after a check under load."""

from __future__ import annotations

import time

from runbooks.policy import ClassPolicy
from tests.kube.cluster import PoolSpec
from tests.kube.stories.conftest import Stage
from tests.kube.stories.lab import rules, said, step_of, story_of, words
from tests.kube.stories.users import told

ASK = ClassPolicy(mode="ask", accept_unverified=True, approval_ttl_s=60)
POOLS = (PoolSpec("chat-a", replicas=3, budget=2), PoolSpec("chat-b", replicas=2, budget=1))


async def test_a_node_that_is_not_ready_is_drained_and_takes_pods_again_once_a_replica_on_it_made_tokens_under_load(
    stage: Stage,
) -> None:
    """Webhook → a person approves → cordon → evictions, one by one → served elsewhere → the node heals → check under load
    → uncordon → closed as restored. No agent of the node listens, so its reboot is refused."""
    policy, nodes = rules(infra__node_down=ASK), {"a": 3, "b": 3, "c": 3}
    async with stage("node", pools=POOLS, nodes=nodes, policy=policy, roles=("rebalance_nodes", "evict")) as story:
        cluster = story.cluster
        places = [node for p in POOLS for node in cluster.placement(p.name).values()]
        sick = max(cluster.nodes, key=places.count)
        moved = [pod for p in POOLS for pod, node in cluster.placement(p.name).items() if node == sick]
        dead = {cluster.kubelet.pod(name).address for name in moved}
        assert len(moved) == 2, cluster.world.told()
        story.users.steady(10)
        with cluster.watch_minimum() as minimum:
            cluster.kubelet.fail_node(sick, reason="GPUFailed", message="Xid 79")
            await cluster.until_node(sick, ready=False)
            await cluster.until(
                lambda: all(not dead & story.edge.rotation(p.name) for p in POOLS), "Envoy lets its endpoints go"
            )
            let_go_at = time.time() + 0.5
            await story.fire("KubeNodeNotReady", {"node": sick})
            case = await story.opened(story.target(node=sick))
            await story.approve(case, await story.asks(case, "1-rebalance_nodes"))
            # Nobody is asked for what nobody could do: no agent of this node listens.
            await story.tells(case, "step refused", "no agent of", deadline_s=120)

            assert cluster.world.node(sick)["spec"]["unschedulable"] is True
            for pool in POOLS:
                assert sick not in cluster.placement(pool.name).values()
                assert len(cluster.serving(pool.name)) == pool.replicas
                assert story.edge.rotation(pool.name) == cluster.serving(pool.name)

            cluster.kubelet.heal_node(sick)
            await cluster.until_node(sick, ready=True)
            await story.resolve()
            record = await story.closed(case)

        assert record.outcome == "restored", story_of(record)
        assert not cluster.world.node(sick)["spec"].get("unschedulable")
        assert not [t for t in cluster.world.node(sick)["spec"].get("taints", []) if "unschedulable" in t["key"]]
        assert cluster.checks() == []

        assert minimum.violations == []
        assert minimum.events > 10
        cordon, *evictions, check, gone, uncordon = story.writes()
        assert [words(w) for w in (cordon, uncordon)] == [f"patch nodes {sick}"] * 2
        assert sorted(words(w) for w in evictions) == sorted(f"create pods/eviction {pod}" for pod in moved)
        assert [words(w) for w in (check, gone)] == [f"{verb} pods {check.name}" for verb in ("create", "delete")]
        assert check.body["spec"]["nodeName"] == sick
        assert story.forbidden() == []

        late = story.users.failures(since=let_go_at)
        assert late == [], told(late)
        assert all(a.endpoint not in dead for a in story.users.since(let_go_at))

        drained = step_of(record, "rebalance_nodes")
        assert (drained.end, drained.standing) == ("mitigated", None), story_of(record)
        assert [e.outcome for e in drained.effects] == ["better"] * len(drained.receipts)
        assert [r.after for r in drained.receipts][0::3] == [{f"cordon/{sick}": "on"}, {f"cordon/{sick}": "off"}]
        assert said(record, "restore", "G9") == "3 indicator(s), soak 1 s"
        assert [e.text for e in record.timeline if e.what == "under load"] == [f"{sick}: 20 generations, 4 at once"]
        assert step_of(record, "reboot_node").receipts == []
        assert [d.accepted for d in record.decisions] == [True]
