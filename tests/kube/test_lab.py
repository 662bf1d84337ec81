"""The lab itself: what it says serves does serve, and the real control plane reacts to it as in production."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx

from activities.adapters.envoy import EnvoyTraffic
from activities.adapters.envoy_files import EdgeFolder
from runbooks.change import Change, Permit
from tests.kube.cluster import Cluster, PoolSpec
from tests.kube.kubelet import Note

NewCluster = Callable[..., Cluster]
TWO = {"gpu-a": 2, "gpu-b": 2}


def tokens(address: str) -> int:
    """Of one real generation."""
    body = {"model": "smollm2", "prompt": "hello", "max_tokens": 3}
    answer = httpx.post(f"http://{address}/v1/completions", json=body, timeout=5, trust_env=False).raise_for_status()
    return int(answer.json()["usage"]["completion_tokens"])


def status_of(address: str) -> int:
    """Of one generation, whatever it answers."""
    return httpx.post(f"http://{address}/v1/completions", json={"prompt": "x"}, trust_env=False).status_code


async def test_every_ready_pod_gives_real_tokens_and_envoy_knows_no_other_address(new_cluster: NewCluster) -> None:
    """Ready means that a process answers generations at the pod's own address, and Envoy's endpoints are these pods."""
    cluster = new_cluster(PoolSpec("chat-a"), PoolSpec("chat-b", replicas=1), nodes=TWO)
    assert len(cluster.serving("chat-a")) == 2
    for address in cluster.serving("chat-a") | cluster.serving("chat-b"):
        assert tokens(address) == 3
    with cluster.edge() as edge:
        for pool in ("chat-a", "chat-b"):
            assert edge.rotation(pool) == cluster.serving(pool)
        victim = cluster.kubelet.pods("chat-a")[0]
        cluster.kubelet.hang(victim.name)
        await cluster.until(lambda: victim.address not in cluster.serving("chat-a"), "the hung pod is not Ready")
        await cluster.until(lambda: edge.rotation("chat-a") == cluster.serving("chat-a"), "Envoy has let it go")
        cluster.kubelet.go_on(victim.name)
        await cluster.until_serving("chat-a", 2)
        assert tokens(edge.front.removeprefix("http://")) == 3


async def test_a_drain_is_held_by_the_budget_and_lands_elsewhere(new_cluster: NewCluster) -> None:
    """With all replicas needed an eviction is 429; with one to spare the pod moves off the cordoned node, and at no
    event fewer served than the budget asks for. The audit log names who did it."""
    cluster = new_cluster(PoolSpec("chat-a", replicas=2, budget=2), nodes={"gpu-a": 3, "gpu-b": 3})
    before = cluster.placement("chat-a")
    pod, node = next(iter(before.items()))
    assert cluster.evict(pod) == 429
    assert cluster.evict(pod, dry_run=True) == 429
    with cluster.watch_minimum(chat_a=2) as minimum:
        cluster.cordon(node)
        cluster.control_plane.api.merge(cluster.path("chat-a", "/scale"), {"spec": {"replicas": 3}})
        await cluster.until_serving("chat-a", 3)
        await cluster.until(lambda: cluster.evict(pod) == 201, "the budget lets one go")
        await cluster.until(lambda: pod not in cluster.placement("chat-a"), "it is gone")
        await cluster.until_serving("chat-a", 3)
    assert minimum.violations == []
    assert minimum.events > 5
    fresh = {p: where for p, where in cluster.placement("chat-a").items() if p not in before}
    assert len(fresh) == 2
    assert node not in fresh.values()
    evictions = cluster.control_plane.writes(resource="pods", subresource="eviction", name=pod)
    assert [w.status for w in evictions if w.applied] == [201]
    assert {w.status for w in evictions if not w.applied} >= {429}
    assert {w.user for w in evictions} == {"admin"}


async def test_a_version_that_never_gives_a_token_never_replaces_one_that_does(new_cluster: NewCluster) -> None:
    """The rollout stalls with the old replicas serving; another one answers errors and is Ready all the same."""
    cluster = new_cluster(PoolSpec("chat-a", replicas=2), nodes={"gpu-a": 2, "gpu-b": 2})
    image = "/spec/template/spec/containers/0/image"

    def roll(tag: str) -> None:
        patch = [{"op": "replace", "path": image, "value": f"engine:{tag}"}]
        cluster.control_plane.api.request("PATCH", cluster.path("chat-a"), patch, "application/json-patch+json")

    with cluster.watch_minimum(chat_a=2) as minimum:
        roll("never")
        await cluster.until(
            lambda: any(p.container["image"] == "engine:never" and p.process for p in cluster.kubelet.pods("chat-a")),
            "the new version has started",
        )
        roll("broken")
        await cluster.until(
            lambda: not [p for p in cluster.kubelet.pods("chat-a") if p.container["image"] != "engine:broken"],
            "all are of the broken version",
        )
        await cluster.until_serving("chat-a", 2)
    assert minimum.violations == []
    for address in cluster.serving("chat-a"):
        assert status_of(address) == 500


async def test_a_service_account_may_do_what_its_role_says_and_no_more(new_cluster: NewCluster) -> None:
    """RBAC is on: a token of an account with a role gets 200 on its verbs and 403 on others."""
    cluster = new_cluster(PoolSpec("chat-a", replicas=1), nodes={"gpu-a": 1})
    plane, space = cluster.control_plane, cluster.namespace
    plane.apply(
        f"""
apiVersion: v1
kind: ServiceAccount
metadata: {{name: reader, namespace: {space}}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{name: reader, namespace: {space}}}
rules: [{{apiGroups: [""], resources: [pods], verbs: [get, list]}}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: reader, namespace: {space}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}}
subjects: [{{kind: ServiceAccount, name: reader, namespace: {space}}}]
"""
    )
    with plane.client(plane.service_account_token(space, "reader")) as client:
        path = f"/api/v1/namespaces/{space}/pods"
        assert client.get(path).status_code == 200
        assert client.delete(f"{path}/any").status_code == 403


def test_without_go_it_says_in_one_line_what_is_missing(tmp_path: Path) -> None:
    """An empty cache and no Go: one sentence, an error on CI and none elsewhere."""
    environment = {"XDG_CACHE_HOME": str(tmp_path), "PATH": str(tmp_path), "HOME": str(tmp_path)}
    command = [sys.executable, "-m", "tests.kube.build"]
    for more, status in (({"CI": "true"}, 1), ({}, 0)):
        done = subprocess.run(command, env={**environment, **more}, capture_output=True, text=True)
        assert done.returncode == status
        assert done.stderr.count("\n") == 1
        assert "Go is missing" in done.stderr


async def test_http_routes_are_served_and_judged_by_their_schema(new_cluster: NewCluster) -> None:
    """The Gateway API's own CRDs: weights are patched with a test operation, and a negative one is refused."""
    cluster = new_cluster(nodes={})
    plane = cluster.control_plane
    plane.install_gateway_api()
    backends = [{"name": "chat-a", "port": 8000, "weight": 50}, {"name": "chat-b", "port": 8000, "weight": 50}]
    route = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "chat", "namespace": cluster.namespace},
        "spec": {"rules": [{"backendRefs": backends}]},
    }
    plane.apply(route)
    path, weight = plane.api.path_of(route), "/spec/rules/0/backendRefs/0/weight"

    def patch(before: int, after: int) -> int:
        body = [{"op": "test", "path": weight, "value": before}, {"op": "replace", "path": weight, "value": after}]
        headers = {"content-type": "application/json-patch+json"}
        return plane.api.http.patch(path, json=body, headers=headers).status_code

    assert [patch(50, 10), patch(50, 0), patch(10, -1)] == [200, 422, 422]
    assert plane.api.get(path)["spec"]["rules"][0]["backendRefs"][0]["weight"] == 10


async def test_what_was_isolated_stays_out_while_other_pods_come_and_go(new_cluster: NewCluster) -> None:
    """Members writes only the address whose pod has changed, under the adapter's own lock, and the adapter still finds
    its permit as the last writer."""
    cluster = new_cluster(PoolSpec("chat-a", replicas=2), nodes=TWO)
    fleet = cluster.fleet()
    with cluster.edge(fleet) as edge:
        isolated, other = sorted(cluster.serving("chat-a"))
        async with httpx.AsyncClient(trust_env=False) as client:
            traffic = EnvoyTraffic(fleet, edge.folder, edge.admin, client)
            key = f"endpoint/chat-a/{isolated}"
            change = Change(before={key: "in"}, after={key: "out"}, last=True)
            permit = Permit(
                id="permit-1",
                case="case",
                step_id="step",
                domain="lab",
                epoch=7,
                change_digest=change.digest,
                act_before=datetime.now(UTC) + timedelta(minutes=1),
                purpose="act",
            )
            await traffic.swap(change, permit)
            assert edge.rotation("chat-a") == {other}
            pod = next(r for r in cluster.kubelet.pods("chat-a") if r.address == other)
            cluster.kubelet.kill(pod.name)
            await cluster.until(lambda: edge.rotation("chat-a") == set(), "the killed one is out")
            await cluster.until(lambda: edge.rotation("chat-a") == {other}, "it is in again, alone")
            seen = await traffic.read("lab")
        assert (seen.epoch, seen.permit_id) == (7, "permit-1")
        assert seen.settings[key] == "out"


async def test_a_pod_that_was_bound_by_hand_runs_even_on_a_cordoned_node(new_cluster: NewCluster) -> None:
    """As a kubelet does: what is bound to the node runs there."""
    cluster = new_cluster(nodes={"gpu-a": 1})
    cluster.cordon("gpu-a")
    template = cluster.deployment(PoolSpec("chat-a"))["spec"]["template"]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "check", "namespace": cluster.namespace, **template["metadata"]},
        "spec": {**template["spec"], "nodeName": "gpu-a"},
    }
    path = f"/api/v1/namespaces/{cluster.namespace}"
    await cluster.until(
        lambda: cluster.control_plane.api.get(f"{path}/serviceaccounts")["items"], "the account is there"
    )
    cluster.control_plane.api.request("POST", f"{path}/pods", pod)
    await cluster.until_serving("chat-a", 1)
    assert cluster.placement("chat-a") == {"check": "gpu-a"}
    assert tokens(next(iter(cluster.serving("chat-a")))) == 3
    assert cluster.control_plane.api.delete(f"{path}/pods/check")
    await cluster.until_serving("chat-a", 0)
    life = ["bound", "started", "ready", "ending", "gone"]
    await cluster.until(lambda: [n.what for n in cluster.kubelet.record] == life, "the kubelet's record is whole")


async def test_a_pod_that_goes_serves_until_envoy_sends_it_nothing_more(new_cluster: NewCluster) -> None:
    """The file is kept from its writer for a second, as on a busy machine: the deleted pod answers all the while, as one
    with a preStop hook does, and only then ends."""
    cluster = new_cluster(PoolSpec("chat-a", replicas=2, budget=1), nodes=TWO)
    with cluster.edge() as edge:

        def ending() -> list[Note]:
            return [n for n in cluster.kubelet.record if n.what == "ending"]

        before = cluster.serving("chat-a")
        async with EdgeFolder(edge.folder).lock(10, lambda: False), httpx.AsyncClient(trust_env=False) as client:
            cluster.control_plane.api.merge(cluster.path("chat-a", "/scale"), {"spec": {"replicas": 1}})
            (note,) = await cluster.until(ending, "one of them is deleted")
            body, answers = {"model": "smollm2", "prompt": "hello", "max_tokens": 1}, []
            while time.time() < note.at + 1:
                answers.append(await client.post(f"{edge.front}/v1/completions", json=body))
        assert [a.text for a in answers if a.status_code != 200] == []
        assert {a.headers["x-endpoint"] for a in answers} == before
        await cluster.until_serving("chat-a", 1)
        assert edge.rotation("chat-a") == cluster.serving("chat-a")
