"""What a script takes a site for, that was written on a quiet day: every replica serves, and there is room everywhere. Pure."""

from __future__ import annotations

from runbooks.change import Change
from runbooks.cluster import ClusterState
from runbooks.facts import PoolState
from runbooks.fleet import Fleet
from runbooks.incident import Incident
from runbooks.policy import LeverPolicy

UNBOUNDED = LeverPolicy(
    largest_increment=1.0, largest_share=1.0, max_endpoints_down=10**6, max_share_down=1.0, max_acts_per_hour=10**6,
    attempts=10**6, max_nodes_out=10**6, max_gpus=10**6, unattended=True,
)  # fmt: skip
"""No limit of any kind."""


def normal(fleet: Fleet, pool: str, incident: Incident) -> PoolState:
    """A pool as it is on a quiet day: every replica answers, and the load is the route's by its weights."""
    found, route = fleet.pool(pool), fleet.route_of(pool)
    assert found is not None
    assert route is not None
    asked = next(r for r in incident.fleet.routes if r.name == route.name)
    whole = sum(p.size * p.tokens_per_second for n in route.pools if (p := fleet.pool(n)) is not None)
    capacity = found.size * found.tokens_per_second
    return PoolState(
        pool=pool,
        endpoints=found.size,
        in_rotation=found.size,
        answering=found.size,
        capacity_tps=capacity,
        load_tps=asked.requests_per_second * asked.tokens_per_request * capacity / whole,
        queue=0.0,
        kv_used=0.1,
        residency="",  # whose data may go where is a gate's matter
        tenants=(),
    )


def believed(state: ClusterState) -> ClusterState:
    """The cluster as a script takes it: every workload whole, every budget open, room on every node."""
    return state.model_copy(
        update={
            "workloads": {
                n: w.model_copy(
                    update={
                        "ready": w.desired,
                        "updated": w.desired,
                        "available": w.desired,
                        "disruptions_allowed": None,
                    }
                )
                for n, w in state.workloads.items()
            },
            "nodes": {n: x.model_copy(update={"gpus_used": 0}) for n, x in state.nodes.items()},
        }
    )


def without(state: ClusterState, change: Change) -> ClusterState:
    """The cluster as the script believes it to be once it has sent this."""
    gone = {key.split("/")[2] for key in change.after if key.startswith("pod/")}
    cordoned = {key.split("/")[1] for key, value in change.after.items() if key.startswith("cordon/") and value == "on"}
    return state.model_copy(
        update={
            "pods": {n: p for n, p in state.pods.items() if n not in gone},
            "nodes": {
                n: x.model_copy(update={"cordoned": True}) if n in cordoned else x for n, x in state.nodes.items()
            },
        }
    )
