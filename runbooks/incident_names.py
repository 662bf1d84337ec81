"""The names that the fleet of an incident file has, to tell a wrong one from a right one."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

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

    def of_fault(self, field: str, fault: Fault) -> Iterator[str]:
        """What the fault names and the fleet has not, one sentence each."""
        data = fault.model_dump()
        for key in ("cluster", "pool", "route", "name", "node", "of"):
            if key in data:
                yield from self._one(f"{field}.{key}", data[key], self._by[key])
        for i, name in enumerate(data.get("pools", ())):
            yield from self._one(f"{field}.pools[{i}]", name, self._by["pool"])
        for i, name in enumerate(data.get("only_on", ())):
            yield from self._one(f"{field}.only_on[{i}]", name, self._by["cluster"])

    def of_target(self, field: str, target_id: str) -> Iterator[str]:
        """Why it is no target id, or is one of something that the fleet has not."""
        try:
            target = Target.of(target_id)
        except ValueError:
            yield (
                f"{field}: {target_id!r} is no target id; write CLUSTER, CLUSTER/service/POOL, "
                f"CLUSTER/service/POOL/endpoint/ADDRESS, CLUSTER/node/NODE or CLUSTER/node/NODE/gpu/INDEX"
            )
            return
        yield from self._one(field, target.cluster, self._by["cluster"])
        if target.node is not None:
            nodes = [n for n in self._by["node"] if n.startswith(f"{target.cluster}-n")]
            yield from self._one(field, target.node, nodes)
        if target.gpu is not None:
            gpus = next((c.gpus_per_node for c in self._fleet.clusters if c.name == target.cluster), 0)
            yield from self._one(field, target.gpu, [str(n) for n in range(gpus)])
        if target.service is not None:
            pools = {p.name: p for p in self._fleet.pools if p.cluster == target.cluster}
            yield from self._one(field, target.service, list(pools))
            if target.endpoint is not None and target.service in pools:
                yield from self._one(field, target.endpoint, list(pools[target.service].addresses))

    @staticmethod
    def _one(field: str, name: str, known: list[str]) -> Iterator[str]:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            some = ", ".join(known[:8]) + (", …" if len(known) > 8 else "") or "none of that kind"
            meant = f"; did you mean {near[0]}?" if near else f"; it has {some}"
            yield f"{field}: the fleet of this file has no {name!r}{meant}"
