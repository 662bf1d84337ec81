"""The settings of the simulated proxy, as the fluid model reads them, and who is a member of which pool."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from activities.adapters.simulated_things import SimPod
from runbooks.change import admit_key, connections_key, endpoint_key, weight_key
from runbooks.facts import Settings, Value
from runbooks.fleet import Fleet


class Edge:
    """Weights, admitted tiers, rotation and the life of connections. `touched`: pools whose rotation is another since that
    was cleared."""

    def __init__(self, fleet: Fleet, weights: Mapping[str, Mapping[str, int]]) -> None:
        self.weights: dict[str, dict[str, int]] = {r: dict(by) for r, by in weights.items()}
        self.admit: dict[str, dict[str, int]] = {r.name: dict.fromkeys(r.tiers, 100) for r in fleet.routes}
        self.rotation: dict[str, dict[str, bool]] = {
            p.name: {e.address: False for e in p.endpoints} for p in fleet.pools
        }
        self.connections: dict[str, int] = {p.name: 0 for p in fleet.pools}
        self.touched: set[str] = set()
        self._members: dict[str, str] = {}

    def settings(self) -> Settings:
        """All of it, by key."""
        found: Settings = {weight_key(r, p): w for r, by in self.weights.items() for p, w in by.items()}
        found |= {admit_key(r, t): percent for r, by in self.admit.items() for t, percent in by.items()}
        found |= {connections_key(p): life for p, life in self.connections.items()}
        for pool, addresses in self.rotation.items():
            found |= {endpoint_key(pool, a): "in" if inside else "out" for a, inside in addresses.items()}
        return found

    def get(self, key: str) -> Value | None:
        """One of them; None: there is no such setting."""
        family, owner, item = _parts(key)
        match family:
            case "weight":
                return self.weights.get(owner, {}).get(item)
            case "admit":
                return self.admit.get(owner, {}).get(item)
            case "connections":
                return self.connections.get(owner)
            case "endpoint":
                inside = self.rotation.get(owner, {}).get(item)
                return None if inside is None else "in" if inside else "out"
            case _:
                return None

    def put(self, key: str, value: Value) -> None:
        """Sets one that is there. ValueError: it is not there, or cannot be so."""
        if self.get(key) is None:
            raise ValueError(f"{key}: the simulated edge has no such setting")
        family, owner, item = _parts(key)
        if family == "endpoint":
            if value not in ("in", "out"):
                raise ValueError(f'{key}: {value!r} is neither "in" nor "out"')
            self.rotation[owner][item] = value == "in"
            self.touched.add(owner)
            return
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise ValueError(f"{key}: {value!r} is no whole number of 0 or more")
        if family == "connections":
            self.connections[owner] = value
        else:
            (self.weights if family == "weight" else self.admit)[owner][item] = value

    def joined(self, pool: str, pods: Iterable[tuple[SimPod, bool]]) -> None:
        """Membership follows the life of replicas: one that is ready for the first time comes in, one that is gone goes out.

        Nothing else takes a replica out by itself, neither a crash nor a hang: nobody checks. What was taken out stays out
        until another replica has the address.
        """
        there: set[str] = set()
        for pod, ready in pods:
            there.add(pod.address)
            if ready and self._members.get(pod.address) != pod.uid:
                self._members[pod.address] = pod.uid
                self.rotation[pool][pod.address] = True
                self.touched.add(pool)
        for address in [a for a in self.rotation[pool] if a in self._members and a not in there]:
            del self._members[address]
            self.rotation[pool][address] = False
            self.touched.add(pool)


def _parts(key: str) -> tuple[str, str, str]:
    family, _, rest = key.partition("/")
    owner, _, item = rest.partition("/")
    return family, owner, item
