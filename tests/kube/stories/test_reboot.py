"""A dead node is restarted by its BMC: drained before, approved by a named person, ordered once, proven by another boot."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from runbooks.change import GONE
from runbooks.fleet import Fleet
from runbooks.policy import ClassPolicy
from tests import lab as labs
from tests.kube.cluster import PoolSpec
from tests.kube.stories.conftest import Stage
from tests.kube.stories.lab import rules, said, step_of, story_of, words
from tests.kube.stories.processes import AGENT, Processes, patient
from tests.nvml.bmc import SYSTEM, TOKEN, Bmc, bmc_running

AUTO = ClassPolicy(mode="auto", approval_ttl_s=120)
POOLS = (PoolSpec("chat-a", replicas=3, budget=2),)


def with_bmc(fleet: Fleet, node: str, bmc: Bmc) -> Fleet:
    """The inventory that also says where the node's Redfish service is."""
    nodes = (n.model_copy(update={"bmc": bmc.url}) if n.name == node else n for n in fleet.nodes)
    return fleet.model_copy(update={"nodes": tuple(nodes)})


async def test_a_node_that_stays_down_is_rebooted_by_its_bmc_once_a_named_person_says_so(stage: Stage) -> None:
    """Webhook → cordon → evictions → a verified yes → one ForceRestart by a worker that runs elsewhere → another boot id →
    the node is Ready → check under load → uncordon → closed as restored."""
    policy, nodes = patient(rules(infra__node_down=AUTO)), {"a": 3, "b": 3, "c": 3}
    roles = ("rebalance_nodes", "evict", "node_agent")
    async with (
        stage("reboot", pools=POOLS, nodes=nodes, policy=policy, roles=roles) as story,
        AsyncExitStack() as stack,
    ):
        cluster = story.cluster
        places = [node for p in POOLS for node in cluster.placement(p.name).values()]
        sick = min(sorted(set(places)), key=places.count)  # its replicas are not served while it is down
        moved = [pod for p in POOLS for pod, node in cluster.placement(p.name).items() if node == sick]
        assert len(moved) == 1, cluster.world.told()
        bmc = await stack.enter_async_context(bmc_running())
        run = Processes(story, with_bmc(story.fleet, sick, bmc))
        (run.folder / "bmc.token").write_text(TOKEN)
        settings = {
            "INTERLOCK_NODE__BMC_SYSTEM": SYSTEM,
            "INTERLOCK_NODE__BMC_TOKEN_FILE": str(run.folder / "bmc.token"),
        }
        await stack.enter_async_context(run.running("intake", "intake"))
        await stack.enter_async_context(run.running("hands", "worker", "--node", sick, "--bmc", **settings))
        await run.doors_open()
        await run.polls("hands")
        boot = cluster.world.node(sick)["status"]["nodeInfo"]["bootID"]

        with cluster.watch_minimum() as minimum:
            cluster.kubelet.fail_node(sick, reason="KernelDeadlock", message="watchdog: soft lockup")
            await cluster.until_node(sick, ready=False)
            await story.fire("KubeNodeNotReady", {"node": sick})
            case = await story.opened(story.target(node=sick))
            asked = await story.asks(case, "2-reboot_node", deadline_s=90)
            assert sick not in {n for p in POOLS for n in cluster.placement(p.name).values()}
            assert bmc.resets == []

            waiting = asked["waiting"]
            await run.approve(case.id, waiting["step"], waiting["digest"], "ana")
            await labs.until(lambda: ordered(bmc), "the BMC is told", 60)
            new = await asyncio.to_thread(cluster.kubelet.reboot_node, sick)
            await cluster.until_node(sick, ready=True)
            await story.resolve()
            record = await story.closed(case)

        assert record.outcome == "restored", story_of(record) + run.log("hands")
        assert bmc.resets == [{"ResetType": "ForceRestart"}]
        assert minimum.violations == []

        cordon, *evictions, check, _gone, uncordon = story.writes()
        assert [words(w) for w in (cordon, uncordon)] == [f"patch nodes {sick}"] * 2
        assert sorted(words(w) for w in evictions) == sorted(f"create pods/eviction {pod}" for pod in moved)
        assert check.body["spec"]["nodeName"] == sick
        assert story.forbidden() == []
        # A BMC's worker writes nothing about the node: its reboot shows in what the kubelet says of it.
        assert {w.resource for w in story.plane.writes(user=AGENT) if w.name == sick} == set()

        reboot = step_of(record, "reboot_node")
        (receipt,) = reboot.receipts
        assert (receipt.before, receipt.after) == ({f"boot/{sick}": boot}, {f"boot/{sick}": GONE}), story_of(record)
        assert cluster.world.node(sick)["status"]["nodeInfo"]["bootID"] == new
        assert said(record, "act", "G6", reboot.step_id) == "approved by ana, verified"
        assert step_of(record, "rebalance_nodes").standing is None
        assert not cluster.world.node(sick)["spec"].get("unschedulable")


async def ordered(bmc: Bmc) -> bool:
    """True once a restart was ordered."""
    return bool(bmc.resets)
