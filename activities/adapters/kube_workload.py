"""One pool's Deployment with what belongs to it: revisions, autoscaler, budgets, quota. Pure."""

from __future__ import annotations

from activities.adapters.kube_errors import Json
from activities.adapters.kube_read import Picture
from activities.adapters.kube_values import (
    HASH,
    REVISION,
    asked,
    bare,
    condition,
    count,
    labels,
    moment,
    name,
    notes,
    owned_by,
    said,
    selects,
)
from runbooks.cluster import Revision, WorkloadState
from runbooks.fleet import Workload


def find(things: tuple[Json, ...], namespace: str, wanted: str) -> Json | None:
    """The object of this namespace and name."""
    return next((t for t in things if t["metadata"].get("namespace") == namespace and name(t) == wanted), None)


def replicasets(picture: Picture, deployment: Json) -> list[Json]:
    """Of a Deployment, oldest revision first."""
    mine = [r for r in picture.replicasets if owned_by(r, deployment["metadata"]["uid"])]
    return sorted(mine, key=number)


def number(replicaset: Json) -> int:
    """The revision's number; one that the controller has not numbered yet is the newest."""
    text = notes(replicaset).get(REVISION, "")
    return int(text) if text.isdigit() else 2**31


def template_hash(deployment: Json, sets: list[Json]) -> str:
    """Hash of the present template; empty until the controller has made the ReplicaSet for it."""
    wanted = bare(deployment["spec"]["template"])
    return next((labels(r).get(HASH, "") for r in reversed(sets) if bare(r["spec"]["template"]) == wanted), "")


def autoscaler_of(picture: Picture, deployment: Json) -> Json | None:
    """The HorizontalPodAutoscaler that scales it."""
    for scaler in picture.autoscalers:
        target = scaler["spec"]["scaleTargetRef"]
        same = scaler["metadata"]["namespace"] == deployment["metadata"]["namespace"]
        if same and target.get("kind") == "Deployment" and target.get("name") == name(deployment):
            return scaler
    return None


def frozen(scaler: Json) -> bool:
    """True when it may scale in neither direction."""
    behaviour = scaler["spec"].get("behavior") or {}
    return all((behaviour.get(way) or {}).get("selectPolicy") == "Disabled" for way in ("scaleUp", "scaleDown"))


def workload_state(pool: str, workload: Workload, picture: Picture, gpu: str) -> WorkloadState | None:
    """None: there is no such Deployment."""
    found = find(picture.deployments, workload.namespace, workload.deployment)
    if found is None:
        return None
    spec, status, sets = found["spec"], found.get("status") or {}, replicasets(picture, found)
    present = template_hash(found, sets)
    progress, scaler = condition(found, "Progressing"), autoscaler_of(picture, found)
    return WorkloadState(
        pool=pool,
        desired=spec.get("replicas", 1),
        ready=status.get("readyReplicas", 0),
        updated=status.get("updatedReplicas", 0),
        available=status.get("availableReplicas", 0),
        observed=status.get("observedGeneration", 0) >= found["metadata"]["generation"] and bool(present),
        paused=bool(spec.get("paused")),
        template=present,
        revisions=tuple(_revision(r) for r in sorted(sets, key=lambda r: (labels(r).get(HASH) == present, number(r)))),
        gpus_per_replica=asked(spec["template"]["spec"], gpu),
        image=spec["template"]["spec"]["containers"][0]["image"],
        stalled=said(progress) if progress.get("reason") == "ProgressDeadlineExceeded" else "",
        autoscaler=name(scaler) if scaler is not None else "",
        autoscaler_max=scaler["spec"]["maxReplicas"] if scaler is not None else None,
        frozen=scaler is not None and frozen(scaler),
        max_unavailable=_unavailable(spec),
        disruptions_allowed=_disruptions(picture, found),
        quota_gpus_left=_quota(picture, workload.namespace, gpu),
    )


def _revision(replicaset: Json) -> Revision:
    return Revision(
        template=labels(replicaset).get(HASH, ""),
        number=number(replicaset),
        created_at=moment(replicaset["metadata"]["creationTimestamp"]),
        image=replicaset["spec"]["template"]["spec"]["containers"][0]["image"],
    )


def _unavailable(spec: Json) -> int:
    """Replicas that a rolling update may take down at once, as the controller counts them; the API server fills both in."""
    desired, strategy = spec.get("replicas", 1), spec.get("strategy") or {}
    if strategy.get("type") == "Recreate":
        return int(desired)
    rolling = strategy.get("rollingUpdate") or {}
    down = _share(rolling.get("maxUnavailable", "25%"), desired)
    # With no surge and rounded to nothing, the controller lets one go: it could never begin otherwise.
    return 1 if down == 0 and rolling.get("maxSurge", "25%") in (0, "0%") else down


def _share(value: int | str, desired: int) -> int:
    """A count, or a percentage of the replicas rounded down."""
    return desired * int(value.rstrip("%")) // 100 if isinstance(value, str) else value


def _disruptions(picture: Picture, deployment: Json) -> int | None:
    on = labels(deployment["spec"]["template"] | {"metadata": deployment["spec"]["template"].get("metadata") or {}})
    allowed = []
    for budget in picture.budgets:
        if budget["metadata"]["namespace"] != deployment["metadata"]["namespace"]:
            continue
        if selects(budget["spec"].get("selector"), on):
            status = budget.get("status") or {}
            # A budget that its controller has not counted yet allows nothing.
            counted = status.get("observedGeneration", 0) >= budget["metadata"].get("generation", 1)
            allowed.append(status.get("disruptionsAllowed", 0) if counted else 0)
    return min(allowed, default=None)


def _quota(picture: Picture, namespace: str, gpu: str) -> int | None:
    left = []
    for quota in picture.quotas:
        hard, used = quota["spec"].get("hard") or {}, (quota.get("status") or {}).get("used") or {}
        for key in (f"requests.{gpu}", f"limits.{gpu}"):
            if quota["metadata"]["namespace"] == namespace and key in hard:
                # A quota that nobody has counted yet has nothing left.
                left.append(count(hard[key]) - count(used.get(key, hard[key])))
    return max(0, min(left)) if left else None
