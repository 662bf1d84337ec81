"""A GPU must be reset: the node's own processes see it, tell it and mend it, and a named person decides."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from activities.adapters.kube_settings import RESETS
from activities.adapters.kube_state import HEALTH
from runbooks.policy import ClassPolicy
from tests import lab as labs
from tests.kube.audit import Write
from tests.kube.cluster import PoolSpec
from tests.kube.stories.conftest import Stage
from tests.kube.stories.lab import Story, rules, said, step_of, story_of, words
from tests.kube.stories.processes import AGENT, Processes, patient
from tests.kube.stories.users import told
from tests.nvml.standin import Node, build

AUTO = ClassPolicy(mode="auto", accept_unverified=True, approval_ttl_s=120)
POOLS = (PoolSpec("chat-a", replicas=3, budget=2),)
COUNT = RESETS.format(0)
HOST_PIDS = "pid:[4026531836]"


@pytest.fixture
def gpus(tmp_path: Path) -> Node:
    """Three healthy GPUs, whose driver keeps them open; beside them the library that reads them, and nvidia-smi."""
    folder = tmp_path / "gpus"
    folder.mkdir()
    build(folder)
    node = Node(folder, gpus=3)
    node.set(0, persistence=1)
    return node


def nvml(gpus: Node) -> dict[str, str]:
    """What makes a process see these GPUs."""
    return {"LD_LIBRARY_PATH": str(gpus.folder), "NVML_STANDIN": str(gpus.folder)}


def hands(gpus: Node) -> dict[str, str]:
    """The settings of the node's own worker."""
    smi = str(gpus.smi)
    return nvml(gpus) | {
        "INTERLOCK_NODE__RESET_ARGV": json.dumps([smi, "--gpu-reset", "-i", "{index}"]),
        "INTERLOCK_NODE__PERSISTENCE_ARGV": json.dumps([smi, "-pm", "{mode}", "-i", "{index}"]),
        "INTERLOCK_NODE__LOCK": str(gpus.folder / "lock"),
        "INTERLOCK_NODE__PUBLISH_S": "0.5",
        # In a container of CI nothing but the stand-in's own list could hold its GPU.
        "INTERLOCK_NODE__HOST_PIDS": "true",
    }


def counted(story: Story, node: str) -> list[Write]:
    """The agent's writes of resets, the beginning at 0 left out; its health is told twice a second and not listed."""
    mine = [w for w in story.plane.writes(user=AGENT, resource="nodes", name=node) if w.applied]
    notes: list[dict[str, Any]] = [op["value"] for w in mine if isinstance(w.body, list) for op in w.body[1:]]
    patches = [w for w in mine if isinstance(w.body, list)]
    return [w for w, note in zip(patches, notes, strict=True) if note.get(COUNT, "0") != "0"]


async def test_a_gpu_that_wants_a_reset_gets_one_on_a_drained_node_once_a_named_person_says_so(
    stage: Stage, gpus: Node
) -> None:
    """NVML → detector → cordon → evictions → an unverified yes counts nothing, a verified one does → one reset by the node's
    own worker → read back → check under load → uncordon → closed as restored. The levers but the reset need nobody."""
    policy, nodes = patient(rules(infra__gpu_fault=AUTO)), {"a": 3, "b": 3, "c": 3}
    roles = ("rebalance_nodes", "evict", "node_agent")
    async with stage("gpu", pools=POOLS, nodes=nodes, policy=policy, roles=roles) as story, AsyncExitStack() as stack:
        cluster, run = story.cluster, Processes(story, story.fleet)
        places = [node for p in POOLS for node in cluster.placement(p.name).values()]
        sick = min(sorted(set(places)), key=places.count)
        moved = [pod for p in POOLS for pod, node in cluster.placement(p.name).items() if node == sick]
        watch = ("--nvml", "--node", sick, "--cluster", cluster.name, "--period-s", "0.3", "--lock")
        await stack.enter_async_context(run.running("intake", "intake"))
        await stack.enter_async_context(run.running("hands", "worker", "--node", sick, **hands(gpus)))
        await stack.enter_async_context(
            run.running("detector", "detect", *watch, str(gpus.folder / "lock"), **nvml(gpus))
        )
        await run.doors_open()
        await run.polls("hands")
        await cluster.until(
            lambda: HEALTH in cluster.world.node(sick)["metadata"].get("annotations", {}), "GPU health is published", 60
        )
        story.users.steady(5)

        with cluster.watch_minimum() as minimum:
            gpus.set(0, recovery=1, persistence=1, pids="4242")  # the driver wants a reset while a replica is on it
            case = await story.opened(story.target(node=sick, gpu="0"))
            asked = await story.asks(case, "2-reset_gpu", deadline_s=90)
            assert asked["class"] == "infra.gpu_fault"
            assert cluster.kubelet.pods(node=sick) == []
            gpus.set(0, recovery=1, persistence=1)  # its process has ended with its pod

            await story.approve(case, asked)
            refused = await labs.until(lambda: decided(story, case), "the unverified decision is answered")
            assert (refused["verified"], refused["accepted"]) == (False, False)
            assert "not verified" in refused["why"]
            assert gpus.resets == []
            assert counted(story, sick) == []

            waiting = asked["waiting"]
            answer = await run.approve(case.id, waiting["step"], waiting["digest"], "ana")
            assert "approve of 2-reset_gpu by ana was taken" in answer
            record = await story.closed(case)

        assert record.outcome == "restored", story_of(record) + run.log("hands")
        assert gpus.resets == ["0"]
        assert "persistence=1" in (gpus.folder / "gpu0").read_text()
        assert minimum.violations == []
        assert story.users.failures() == [], told(story.users.failures())

        (count,) = counted(story, sick)
        cordon, *evictions, check, gone, uncordon = story.writes()
        assert [words(w) for w in (cordon, uncordon)] == [f"patch nodes {sick}"] * 2
        assert sorted(words(w) for w in evictions) == sorted(f"create pods/eviction {pod}" for pod in moved)
        assert [words(w) for w in (check, gone)] == [f"{verb} pods {check.name}" for verb in ("create", "delete")]
        assert check.body["spec"]["nodeName"] == sick
        assert max(w.at for w in evictions) < count.at < check.at < uncordon.at
        assert story.forbidden() == []
        assert [w for w in story.plane.writes(user=AGENT) if w.status == 403] == []

        drained, reset = step_of(record, "rebalance_nodes"), step_of(record, "reset_gpu")
        assert len(drained.receipts) == len(evictions) + 2, story_of(record)
        assert [r.after for r in reset.receipts] == [{f"gpu/{sick}/0": 1}], story_of(record)
        assert drained.standing is None
        assert said(record, "act", "G6", reset.step_id) == "approved by ana, verified"
        assert [(d.accepted, d.verified) for d in record.decisions] == [(False, False), (True, True)]
        assert not cluster.world.node(sick)["spec"].get("unschedulable")


async def decided(story: Story, case: Any) -> dict[str, Any] | None:
    """What the case answered to the newest decision."""
    found = (await story.status(case))["record"]["decisions"]
    return found[-1] if found else None
