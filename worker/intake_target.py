"""Which target an alert's labels name. The names are settings; the fleet knows what an address, a node or a Deployment is of.

What Prometheus finds in Kubernetes carries the `service` and `instance` of the exporter that was scraped, beside the
`node`, `gpu` or `deployment` that the alert is about: a service that is no pool of the fleet is not ours then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pydantic import ValidationError

from runbooks.detection import Detection, Target
from runbooks.fleet import Fleet
from worker.intake_http import first_error
from worker.settings import IntakeSettings


class Bad(Exception):
    """One alert cannot become a Detection: which field, and a sentence for the person who wrote the rule."""

    def __init__(self, field: str, error: str) -> None:
        super().__init__(error)
        self.field, self.error = field, error


def target_of(labels: Mapping[str, str], settings: IntakeSettings, fleet: Fleet | None) -> Target:
    """The target that labels name; `fleet`, when given, knows which service and cluster an endpoint is in.

    Bad when no label names a target, or its cluster is not known.
    """
    cluster = _first(labels, settings.cluster_labels)
    service = _first(labels, settings.service_labels)
    endpoint = next(filter(None, (_address(labels.get(key, "")) for key in settings.endpoint_labels)), None)
    node = _first(labels, settings.node_labels)
    gpu = _first(labels, settings.gpu_labels)
    deployed = _deployed(labels, fleet)
    if not any((cluster, service, endpoint, node, gpu, deployed)):
        names = (*settings.cluster_labels, *settings.service_labels, *settings.endpoint_labels, *settings.node_labels)
        raise Bad("labels", f"no label names a target: add one of {', '.join(names)} to the rule")
    pools = fleet.pools if fleet else ()
    if fleet is not None and fleet.pool(service or "") is None:
        here = next((p.name for p in pools if any(e.address == endpoint for e in p.endpoints)), None)
        if here is not None:
            service = here  # a Kubernetes Service may have another name than the pool that it scrapes
        elif deployed is not None:
            service, endpoint, node, gpu = deployed, None, None, None
        elif service is not None and (node or gpu):
            service, endpoint = None, None
    if cluster is None and service is not None:
        cluster = next((p.cluster for p in pools if p.name == service), None)
    if cluster is None and node is not None and fleet is not None:
        cluster = next((n.cluster for n in fleet.nodes if n.name == node), None)
    if service is None and (node is not None or gpu is not None):
        endpoint = None  # `instance` of an exporter, not of an engine: the alert is about the node
    if gpu is not None and node is None:
        raise Bad("labels", f"a gpu needs its node: add one of {', '.join(settings.node_labels)} to the rule")
    if endpoint is not None and service is None:
        raise Bad("labels", f"endpoint {endpoint} is in no known pool: add one of {', '.join(settings.service_labels)}")
    cluster = cluster or settings.default_cluster
    if cluster is None:
        raise Bad("labels", f"no label names the cluster: add one of {', '.join(settings.cluster_labels)} to the rule")
    try:
        return Target(cluster=cluster, service=service, endpoint=endpoint, node=node, gpu=gpu)
    except ValidationError as error:
        field, sentence = first_error(error, "target")
        raise Bad(f"labels ({field})", sentence) from None


def _deployed(labels: Mapping[str, str], fleet: Fleet | None) -> str | None:
    """The pool that a Deployment runs, by its labels `namespace` and `deployment` as kube-state-metrics gives them."""
    wanted = (labels.get("namespace", ""), labels.get("deployment", ""))
    for pool in fleet.pools if fleet else ():
        if pool.workload is not None and (pool.workload.namespace, pool.workload.deployment) == wanted:
            return pool.name
    return None


def _first(labels: Mapping[str, str], names: tuple[str, ...]) -> str | None:
    return next((labels[n] for n in names if labels.get(n)), None)


def _address(text: str) -> str | None:
    """host:port of an address or URL. Kubernetes also puts a port's *name* into `endpoint`: that is no address."""
    bare = text.partition("://")[2] or text
    bare = bare.partition("/")[0]
    return bare if ":" in bare else None


def tenants_of(fleet: Fleet | None) -> Callable[[Detection], str]:
    """Who shares the intake: the tenants of a target's pool where they are declared, else its domain."""
    declared = {p.name: ",".join(p.tenants) for p in (fleet.pools if fleet else ()) if p.tenants}

    def tenant(detection: Detection) -> str:
        return declared.get(detection.target.service or "", detection.target.domain)

    return tenant
