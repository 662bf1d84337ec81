"""What our account may do, by the API server's own word, and the manifest that would give what is missing."""

from __future__ import annotations

from dataclasses import dataclass

from activities.adapters.kube_api import KubeApi
from activities.adapters.kube_keys import workloads
from activities.adapters.kube_read import together
from runbooks.fleet import Fleet

_REVIEW = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


@dataclass(frozen=True)
class Right:
    """One verb on one resource; `place` says whether it is had in the whole cluster, per namespace, or at the fence."""

    verb: str
    resource: str
    group: str = ""
    place: str = "namespace"
    name: str = ""

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}" + (f".{self.group}" if self.group else "")


def _all(verbs: str, *resources: str, group: str = "", place: str = "namespace", name: str = "") -> tuple[Right, ...]:
    return tuple(Right(v, r, group, place, name) for r in resources for v in verbs.split())


RIGHTS: dict[str, tuple[Right, ...]] = {
    "fence.yaml": _all("get patch", "configmaps", place="fence", name="interlock-fence"),
    "read.yaml": (
        *_all("get list watch", "nodes", "pods", place="cluster"),
        *_all("get list", "deployments", "replicasets", group="apps"),
        *_all("list", "poddisruptionbudgets", group="policy"),
        *_all("list", "horizontalpodautoscalers", group="autoscaling"),
        *_all("list", "resourcequotas"),
    ),
    "evict.yaml": _all("create", "pods/eviction"),
    "rebalance_nodes.yaml": (*_all("patch", "nodes", place="cluster"), *_all("create delete", "pods")),
    "increase_capacity.yaml": _all("patch", "deployments/scale", group="apps"),
    "rollout.yaml": _all("patch", "deployments", group="apps"),
    "freeze_changes.yaml": (
        *_all("patch", "deployments", group="apps"),
        *_all("patch", "horizontalpodautoscalers", group="autoscaling"),
    ),
    "reroute_traffic.yaml": _all("get patch", "httproutes", group="gateway.networking.k8s.io"),
    "node_agent.yaml": (
        *_all("get list watch patch", "nodes", place="cluster"),
        *_all("list", "pods", place="cluster"),
        *_all("list", "replicasets", group="apps", place="cluster"),
    ),
}
"""What each manifest of docs/rbac gives: the sum of these is all that Interlock can do to a cluster."""


async def may(api: KubeApi, verb: str, resource: str, *, group: str = "", namespace: str = "", name: str = "") -> bool:
    """SelfSubjectAccessReview. `resource` may have a subresource, e.g. "pods/eviction"; no namespace: in all of them."""
    kind, _, sub = resource.partition("/")
    about = {"verb": verb, "resource": kind, "subresource": sub, "group": group, "namespace": namespace, "name": name}
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {k: v for k, v in about.items() if v}},
    }
    return bool((await api.ask(_REVIEW, body))["status"]["allowed"])


async def missing(api: KubeApi, fleet: Fleet, domain: str, fence_namespace: str = "interlock") -> dict[str, list[str]]:
    """Manifest → the rights of it that our account has not, for every namespace of the domain's pools."""
    spaces = sorted({w.namespace for w in workloads(fleet, domain).values()})
    places = {"cluster": [""], "namespace": spaces, "fence": [fence_namespace]}

    async def lacks(manifest: str, right: Right, space: str) -> tuple[str, str] | None:
        had = await may(api, right.verb, right.resource, group=right.group, namespace=space, name=right.name)
        return None if had else (manifest, f"{right}" + (f" in {space}" if space else ""))

    asked = [
        lacks(manifest, right, space)
        for manifest, rights in RIGHTS.items()
        for right in rights
        for space in places[right.place]
    ]
    found: dict[str, list[str]] = {}
    for manifest, words in (x for x in await together(*asked) if x is not None):
        found.setdefault(manifest, []).append(words)
    return found
