"""Gates that say no where nothing else would: the whole way from the alert to people who are told, and nothing is touched.

Their histories are kept: a gate that has become always-true says something else to them (`interlock histories check`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from activities.adapters.simulated_cluster import SimSpec
from runbooks.detection import Detection, Target
from runbooks.fleet import ControlPlane, outside
from runbooks.policy import ClassPolicy, Freeze, LeverPolicy, Placement, Policy
from tests import histories
from tests import lab as labs
from tests.crash_kube import cases as kube
from tests.scenarios.hostile import asking, ended, hang, measured
from tests.scenarios.sites import Site, site
from tests.scenarios.test_sequences import denied_by, lit, lost, patient, rerouting
from worker.wiring import Parts

AUTO = ClassPolicy(mode="auto")


async def denied(lab: labs.Lab, parts: Parts, alert: Detection, gate: str) -> list[str]:
    """What the gate says to a case that ends with people and without an act."""
    async with labs.running_worker(parts), ended(lab) as cases:
        await measured(lab)
        if alert.target.endpoint is not None:
            await hang(lab, lab.engines["a0"])
        handle = await lab.start(alert)
        cases.append(handle)
        assert (await handle.result())["outcome"] == "paged"
        status = await lab.status(handle)
        assert not any(s["receipts"] for s in status["record"]["steps"])
        return denied_by(status, gate)


async def test_more_than_policy_lets_be_out_is_not_taken_out(lab: labs.Lab) -> None:
    """G2: not even one."""
    none = LeverPolicy(max_endpoints_down=0, max_acts_per_hour=1000, attempts=1000)
    rules = labs.policy()
    rules = rules.model_copy(update={"levers": {**rules.levers, "isolate_endpoint": none}})
    reasons = await denied(lab, lab.parts(rules), lab.hang(lab.engines["a0"]), "G2")
    assert reasons[0].startswith("1 endpoints of chat-a would be out; the limit is 0"), reasons


async def test_a_lever_that_works_through_what_is_sick_is_not_moved(lab: labs.Lab) -> None:
    """G11: the proxy's control runs on the very endpoint."""
    target = lab.endpoint(lab.engines["a0"])
    others = [c for c in outside(labs.CLUSTER) if c.kind != "traffic"]
    sick = ControlPlane(cluster=labs.CLUSTER, kind="traffic", runs_on=(target.id,))
    fleet = lab.fleet.model_copy(update={"controls": (*others, sick)})
    reasons = await denied(lab, replace(lab.parts(), fleet=fleet), lab.hang(lab.engines["a0"]), "G11")
    assert f"runs on {target.id}" in reasons[0], reasons


async def test_requests_of_a_pool_that_declares_no_residency_go_nowhere_else_by_this_policy(lab: labs.Lab) -> None:
    """G12: what is not declared is not known."""
    fleet, cluster = lit(lab.fleet)
    rules = patient().model_copy(update={"placement": Placement(undeclared="deny")})
    parts = replace(lab.parts(rules), fleet=fleet, cluster=cluster, library=rerouting())
    reasons = await denied(lab, parts, lost(lab, "chat-a", {"chat-a": labs.CLUSTER}), "G12")
    assert "chat-a declares no residency" in reasons[0], reasons


async def test_a_target_that_falls_sick_while_the_faults_of_its_domain_are_one_is_not_mended_alone(
    lab: labs.Lab,
) -> None:
    """G13: two others asked before it; their faults are the domain's."""
    rules = asking()
    rules = rules.model_copy(update={"domain": rules.domain.model_copy(update={"correlate_targets": 2})})
    one, two, three = (lab.engines[n] for n in ("a0", "b0", "a1"))
    whole = lab.client.get_workflow_handle(f"remediate:{labs.CLUSTER}")
    async with ended(lab) as cases:
        async with labs.running_worker(lab.parts(rules)):
            await measured(lab)
            for engine in (one, two):
                await hang(lab, engine)
            both = [await lab.start(lab.hang(e)) for e in (one, two)]
            assert [(await h.result())["outcome"] for h in both] == ["handed_over"] * 2
            assert (await whole.result())["outcome"] == "paged"
        # Another worker, which nobody has told: it reads all facts, and asks its gates.
        async with labs.running_worker(lab.parts(rules)):
            await hang(lab, three)
            late = await lab.start(lab.hang(three))
            cases += [late, *both, whole]
            assert (await late.result())["outcome"] == "handed_over"
            status = await lab.status(late)
            assert len(status["record"]["verdicts"][0]["verdict"]["gates"]) > 1
            assert "they are one fault" in denied_by(status, "G13")[0]
            assert not status["record"]["steps"][0]["receipts"]


@asynccontextmanager
async def dark(lab: labs.Lab, folder: Path, lever: str, rules: Policy) -> AsyncIterator[tuple[Site, dict[str, Any]]]:
    """A case of one lever on a simulated cluster that must end with people; its status."""
    story, name = kube.BY_LEVER[lever], f"denied-{lever.replace('_', '-')}"
    async with site(
        lab, folder, name, nodes={f"{name}-1": 4, f"{name}-lamp": 0}, policy=rules, library=kube.library(story),
        replicas={p.name: p.replicas for p in story.pools},
        pools={p.name: SimSpec(min_available=p.budget) for p in story.pools},
    ) as made:  # fmt: skip
        made.cluster.fail(f"{name}-lamp", "dark")
        now = datetime.now(UTC)
        alert = Detection(
            alert=story.alert, target=Target(cluster=name, service="a"), severity="critical", started_at=now,
            observed_at=now, detector="lab",
        )  # fmt: skip
        async with labs.running_worker(made.parts()):
            handle = await replace(lab, task_queue=name).start(alert)
            assert (await handle.result())["outcome"] == "paged"
            status = await lab.status(handle)
            await histories.keep_chosen(handle)
        assert made.cluster.log == []
        yield made, status


async def test_what_cannot_be_taken_back_waits_for_a_named_person_though_its_class_is_unattended(
    lab: labs.Lab, tmp_path: Path
) -> None:
    """G6: nobody comes, and nothing is restarted."""
    rules = kube.policy()
    rules = rules.model_copy(
        update={
            "default": ClassPolicy(mode="auto", approval_ttl_s=1),
            "levers": {**rules.levers, "restart_engine": LeverPolicy(attempts=1000)},
        }
    )
    async with dark(lab, tmp_path, "restart_engine", rules) as (_, status):
        asked = [g for v in status["record"]["verdicts"] for g in v["verdict"]["gates"] if g["outcome"] == "ask"]
        assert {g["gate"] for g in asked} == {"G6"}
        assert status["record"]["steps"][0]["end"] == "expired"


async def test_while_changes_are_frozen_no_version_is_rolled_out(lab: labs.Lab, tmp_path: Path) -> None:
    """G15: and nobody may lift this freeze."""
    now = datetime.now(UTC)
    frozen = Freeze(name="quarter-end", starts=now - timedelta(hours=1), ends=now + timedelta(days=1), reason="books")
    rules = kube.policy().model_copy(update={"freezes": (frozen,)})
    async with dark(lab, tmp_path, "rollout_hotfix", rules) as (_, status):
        assert "quarter-end" in denied_by(status, "G15")[0]
