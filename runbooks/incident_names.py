"""The names that the fleet of an incident file has, to tell a wrong one from a right one."""

from __future__ import annotations

from runbooks.detection import Target
from runbooks.incident_faults import Fault
from runbooks.incident_fleet import FleetSpec


class Names:
    """What the fleet of an incident has, to tell a wrong name from a right one."""

    def __init__(self, fleet: FleetSpec) -> None:
        self._fleet = fleet
        self._by: dict[str, list[str]] = {
            "cluster": [c.name for c in fleet.clusters],
            "pool": [p.name for p in fleet.pools],
            "route": [r.name for r in fleet.routes],
            "name": [d.name for d in fleet.dependencies],
            "node": [f"{c.name}-n{n}" for c in fleet.clusters for n in range(1, c.nodes + 1)],
        }
        self._by["of"] = [*self._by["cluster"], *self._by["pool"], *self._by["route"]]

    def check_fault(self, field: str, fault: Fault) -> None:
        """ValueError: it names what the fleet has not."""
        data = fault.model_dump()
        for key in ("cluster", "pool", "route", "name", "node", "of"):
            if key in data:
                self._one(f"{field}.{key}", data[key], self._by[key])
        for name in data.get("pools", ()):
            self._one(f"{field}.pools", name, self._by["pool"])
        for name in data.get("only_on", ()):
            self._one(f"{field}.only_on", name, self._by["cluster"])

    def check_target(self, field: str, target_id: str) -> None:
        """ValueError: it is no target id, or of something that the fleet has not."""
        try:
            target = Target.of(target_id)
        except ValueError:
            raise ValueError(
                f"{field}: {target_id!r} is no target id; write CLUSTER, CLUSTER/service/POOL, "
                f"CLUSTER/service/POOL/endpoint/ADDRESS, CLUSTER/node/NODE or CLUSTER/node/NODE/gpu/INDEX"
            ) from None
        self._one(field, target.cluster, self._by["cluster"])
        if target.node is not None:
            self._one(field, target.node, [n for n in self._by["node"] if n.startswith(f"{target.cluster}-n")])
        if target.service is not None:
            pools = {p.name: p for p in self._fleet.pools if p.cluster == target.cluster}
            self._one(field, target.service, list(pools))
            if target.endpoint is not None:
                self._one(field, target.endpoint, list(pools[target.service].addresses))

    @staticmethod
    def _one(field: str, name: str, known: list[str]) -> None:
        if name not in known:
            some = ", ".join(known[:8]) + (", …" if len(known) > 8 else "")
            raise ValueError(f"{field}: the fleet of this file has no {name!r}; there are {some or 'none'}")
