"""The nearest fault for a class that a case was closed as: a guess, to be corrected by a person."""

from __future__ import annotations

from typing import Any

from runbooks.detection import Target, TargetKind
from runbooks.incident_fleet import FleetSpec

Guess = dict[str, Any]
XID = {"infra.gpu_app_fault": 31, "infra.gpu_fault": 64, "infra.node_down": 79}


def guess(failure_class: str, target: Target, fleet: FleetSpec, evidence: dict[str, float | bool | str]) -> Guess:
    """A fault without its times, about a target by its names in the file."""
    pool = target.service or next(p.name for p in fleet.pools if p.cluster == target.cluster)
    route = next(r.name for r in fleet.routes if pool in r.pools)
    one = {"replicas": 1} if target.kind is TargetKind.ENDPOINT else {}
    if target.kind is TargetKind.GPU:
        given = evidence.get("xid")
        xid = int(given) if isinstance(given, int | float) and given >= 1 else XID.get(failure_class, 64)
        return {"fault": "gpu", "node": target.node, "gpu": int(target.gpu or 0), "xid": xid}
    match failure_class:
        case "engine.hang":
            return {"fault": "hang", "pool": pool, **one}
        case "engine.crash":
            return {"fault": "crash", "pool": pool, **one}
        case "engine.timeout":
            return {"fault": "dead_connections", "pool": pool, "share": 0.3}
        case "engine.exhaustion":
            return {"fault": "long_requests", "route": route, "factor": 3.0}
        case "engine.latency_spike":
            return {"fault": "slow", "pool": pool, "factor": 0.4, **one}
        case "engine.bad_output":
            return {"fault": "bad_output", "pool": pool, "share": 0.5, **one}
        case "config.request_compat" | "config.engine_mismatch":
            return {"fault": "client_errors", "pool": pool, "share": 0.3}
        case "infra.gpu_app_fault" | "infra.gpu_fault":
            return {"fault": "gpu", "node": target.node or f"{target.cluster}-n1", "xid": XID[failure_class]}
        case "infra.node_down":
            return {"fault": "node_down", "cluster": target.cluster}
        case "infra.fleet_network":
            return {"fault": "network", "cluster": target.cluster, "share": 0.5}
        case "infra.control_plane":
            return {"fault": "api_load", "cluster": target.cluster, "load": 200.0}
        case "infra.capacity_loss":
            return {"fault": "cluster_gone", "cluster": target.cluster}
        case "ops.traffic_imbalance":
            return {"fault": "imbalance", "pool": pool, "share": 0.9}
        case "ops.bad_change":
            return {"fault": "change", "pools": [pool], "version": "changed", "errors": 0.5}
        case "dep.upstream":
            return {"fault": "upstream", "route": route, "share": 0.5}
        case "demand.surge":
            return {"fault": "demand", "route": route, "factor": 2.5}
        case _:
            # Nobody could say what it was: that it was not seen well is all that is known.
            return {"fault": "blind", "what": "metrics", "of": target.service or target.cluster, "stale": True}
