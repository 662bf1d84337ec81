"""The shipped roles are exactly what each lever needs: with one taken away its write is refused in one sentence."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml

from activities.adapters.kube import KubeCluster
from activities.adapters.kube_access import RIGHTS, may, missing
from activities.adapters.kube_api import KubeApi
from activities.adapters.kube_config import KubeAccess, Token
from activities.errors import Permanent
from activities.ports import Cluster
from runbooks.change import (
    GONE,
    Change,
    Permit,
    autoscale_key,
    cordon_key,
    image_key,
    pod_key,
    replicas_key,
)
from runbooks.facts import Value
from tests.adapters.cluster_lab import DOMAIN, IMAGE, ROLES, KubeBench, kube_bench
from tests.kube.control_plane import ControlPlane


@pytest.fixture(scope="module")
async def running(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[KubeBench]:
    """A control plane of its own: on the session's one other tests have granted roles, and those are cluster-wide.

    `control_plane` is asked for all the same: where its programs are missing, it says so.
    """
    with ControlPlane(tmp_path_factory.mktemp("rbac") / "plane") as plane:
        async with kube_bench(plane, tmp_path_factory.mktemp("rbac") / "lab") as bench:
            yield bench


@pytest.fixture
async def bench(running: KubeBench) -> AsyncIterator[KubeBench]:
    """All roles are bound when a test begins and when it ends."""
    await running.heal()
    yield running
    running.apply_roles()


def documents(name: str) -> list[dict[str, Any]]:
    """The objects of one manifest."""
    return list(yaml.safe_load_all((ROLES / name).read_text(encoding="utf-8")))


def take(bench: KubeBench, manifest: str) -> None:
    """Without the rights of this manifest."""
    api = bench.plane.api
    for one in yaml.safe_load_all(bench.manifest(manifest.removesuffix(".yaml"))):
        if one["kind"] in {"RoleBinding", "ClusterRoleBinding"}:
            assert api.delete(api.path_of(one))


async def swap(cluster: Cluster, key: str, before: Value, after: Value, epoch: int = 1) -> None:
    """One setting."""
    wanted = Change(before={key: before}, after={key: after}, last=True)
    until = datetime.now(UTC) + timedelta(minutes=1)
    permit = Permit(
        id=f"permit-{epoch}",
        domain=DOMAIN,
        case="case",
        step_id="step",
        change_digest=wanted.digest,
        purpose="act",
        epoch=epoch,
        act_before=until,
    )
    await cluster.swap(wanted, permit)


async def acts(bench: KubeBench) -> dict[str, tuple[str, Value, Value]]:
    """By manifest: a setting that needs it, before and after."""
    pod = (await bench.cluster().read(DOMAIN)).state.of("pool-a")[0]
    return {
        "rebalance_nodes.yaml": (cordon_key(bench.nodes[0]), "off", "on"),
        "evict.yaml": (pod_key("pool-a", pod.name), pod.uid, GONE),
        "increase_capacity.yaml": (replicas_key("pool-b"), 1, 2),
        "rollout.yaml": (image_key("pool-b"), IMAGE, "engine:v2"),
        "freeze_changes.yaml": (autoscale_key("pool-a"), "on", "off"),
    }


SAYS = {
    "rebalance_nodes.yaml": "patch nodes",
    "evict.yaml": "create pods/eviction",
    "increase_capacity.yaml": "patch deployments.apps/scale",
    "rollout.yaml": "patch deployments.apps",
    "freeze_changes.yaml": "patch horizontalpodautoscalers.autoscaling",
}


@pytest.mark.parametrize("manifest", sorted(SAYS))
async def test_without_the_role_of_one_lever_its_write_is_permanent_and_the_others_work(
    bench: KubeBench, manifest: str
) -> None:
    """The sentence names the verb, the resource and the manifest to bind. Rollout and freeze share a right on Deployments."""
    every = await acts(bench)
    shared = {"rollout.yaml": "freeze_changes.yaml"}
    without = {manifest} | ({shared[manifest]} if manifest in shared else set())
    for name in without:
        take(bench, name)
    cluster = bench.cluster()

    with pytest.raises(Permanent) as error:
        await swap(cluster, *every[manifest])

    assert SAYS[manifest] in str(error.value)
    assert f"docs/rbac/{manifest}" in str(error.value)
    settings = (await cluster.read(DOMAIN)).settings
    assert settings[every[manifest][0]] == every[manifest][1]
    for epoch, (name, act) in enumerate(sorted(every.items()), start=2):
        if name not in without:
            await swap(cluster, *act, epoch=epoch)


@pytest.mark.parametrize(
    ("manifest", "says"), [("read.yaml", "list [a-z.]+ .*is forbidden"), ("fence.yaml", "get configmaps")]
)
async def test_without_the_roles_that_all_levers_need_nothing_is_read(
    bench: KubeBench, manifest: str, says: str
) -> None:
    """Never an empty cluster, nor an epoch of nought."""
    take(bench, manifest)

    with pytest.raises(Permanent, match=says) as error:
        await bench.cluster().read(DOMAIN)

    assert f"docs/rbac/{manifest}" in str(error.value)


async def test_a_fence_that_is_lost_is_no_open_gate(bench: KubeBench) -> None:
    """Nothing is read or written until somebody has laid it down again, knowingly."""
    bench.plane.api.delete("/api/v1/namespaces/interlock/configmaps/interlock-fence")

    with pytest.raises(Permanent, match=r"docs/rbac/fence\.yaml"):
        await swap(bench.cluster(), cordon_key(bench.nodes[0]), "off", "on")

    assert not bench.plane.api.get(f"/api/v1/nodes/{bench.nodes[0]}")["spec"].get("unschedulable")


async def test_the_account_may_do_what_the_manifests_say_and_no_more(bench: KubeBench) -> None:
    """Asked by SelfSubjectAccessReview: nothing is tried."""
    api, space = bench.api(), bench.lab.namespace
    assert await missing(api, bench.fleet, DOMAIN) == {
        "node_agent.yaml": ["list replicasets.apps"],  # the node's agent has an account of its own
    }

    assert await may(api, "create", "pods/eviction", namespace=space)
    for verb, resource, group in (
        ("delete", "nodes", ""),
        ("patch", "nodes/status", ""),
        ("get", "secrets", ""),
        ("update", "deployments", "apps"),
        ("delete", "deployments", "apps"),
        ("patch", "pods", ""),
        ("create", "pods/exec", ""),
        ("create", "configmaps", ""),
        ("create", "rolebindings", "rbac.authorization.k8s.io"),
    ):
        assert not await may(api, verb, resource, group=group, namespace=space), (verb, resource)
    assert not await may(api, "patch", "deployments", group="apps", namespace="default")
    assert not await may(api, "get", "configmaps", namespace="interlock", name="kube-root-ca.crt")


async def test_missing_names_the_manifest(bench: KubeBench) -> None:
    """For whoever installs it."""
    take(bench, "increase_capacity.yaml")

    found = await missing(bench.api(), bench.fleet, DOMAIN)

    assert found["increase_capacity.yaml"] == [f"patch deployments/scale.apps in {bench.lab.namespace}"]


@pytest.mark.parametrize("manifest", sorted(p.name for p in ROLES.glob("*.yaml")))
def test_a_manifest_gives_exactly_the_rights_that_the_table_names(manifest: str) -> None:
    """No wildcard, no right that nobody has accounted for; every role of it is bound."""
    given, bound, roles = set(), set(), set()
    for one in documents(manifest):
        if one["kind"] in {"Role", "ClusterRole"}:
            roles.add((one["kind"], one["metadata"]["name"]))
            place = "cluster" if one["kind"] == "ClusterRole" else "namespace"
            place = "fence" if one["metadata"].get("namespace") == "interlock" else place
            for rule in one["rules"]:
                assert "*" not in [*rule["verbs"], *rule["resources"], *rule["apiGroups"]]
                names = rule.get("resourceNames", [""])
                given |= {
                    (verb, resource, group, place, name)
                    for verb in rule["verbs"]
                    for resource in rule["resources"]
                    for group in rule["apiGroups"]
                    for name in names
                }
        if one["kind"].endswith("Binding"):
            bound.add((one["roleRef"]["kind"], one["roleRef"]["name"]))

    assert given == {(r.verb, r.resource, r.group, r.place, r.name) for r in RIGHTS[manifest]}
    assert roles <= bound


async def test_a_token_that_the_server_does_not_know_is_permanent(bench: KubeBench) -> None:
    """And is not in the sentence."""
    known = bench.access()
    async with KubeApi(KubeAccess(known.server, Token("very-secret-words"), known.tls)) as api:
        with pytest.raises(Permanent, match="401") as error:
            await KubeCluster(bench.fleet, api).read(DOMAIN)
    assert "very-secret" not in str(error.value)
