"""Settings keys of `runbooks/change.py` against the fleet: which file holds a key, in which domain, what it may be.

Pure: no file and no Envoy is touched here.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from typing import Literal

from runbooks.facts import Value
from runbooks.fleet import Fleet

RTDS_FILE = "rtds.json"
"""Weights and admit percentages of all routes (Envoy: runtime discovery)."""
CDS_FILE = "cds.json"
"""Connection settings of all pools (Envoy: cluster discovery)."""
MAX_WEIGHT = 100_000
"""Envoy shows runtime numbers with six digits (1000000 as 1e+06), and what cannot be read back is not written."""

Family = Literal["weight", "endpoint", "connections", "admit"]


def eds_file(pool: str) -> str:
    """Name of the file that lists the endpoints of a pool that are in rotation."""
    return f"eds-{pool}.json"


@dataclass(frozen=True)
class Key:
    """A settings key of something in the fleet: `owner` is a route or a pool, `item` a pool, address or tier."""

    text: str
    family: Family
    owner: str
    item: str

    @property
    def file(self) -> str:
        """The one file in which this setting is declared."""
        if self.family in ("weight", "admit"):
            return RTDS_FILE
        return CDS_FILE if self.family == "connections" else eds_file(self.owner)

    @property
    def runtime_key(self) -> str:
        """Envoy's runtime key, for weights and admit percentages."""
        prefix = {"weight": "routing.split", "admit": "routing.admit"}[self.family]
        return f"{prefix}.{self.owner}.{self.item}"

    def problem(self, value: Value) -> str | None:
        """Why the value cannot stand under this key, or None."""
        if self.family == "endpoint":
            return None if value in ("in", "out") else f'{self.text} must be "in" or "out", not {value!r}'
        if isinstance(value, bool) or not isinstance(value, int):
            return f"{self.text} must be a whole number, not {value!r}"
        highest = {"weight": MAX_WEIGHT, "admit": 100}.get(self.family)
        if value < 0 or (highest is not None and value > highest):
            return f"{self.text} must be {'0 or more' if highest is None else f'0 to {highest}'}, not {value}"
        return None


def split_address(address: str) -> tuple[str, int]:
    """IP and port of an endpoint; ValueError when it is not IP:PORT as Envoy writes it. Its EDS resolves no names."""
    host, _, port = address.rpartition(":")
    try:
        ip, number = ip_address(host.strip("[]")), int(port)
    except ValueError as error:
        raise ValueError(f"endpoint {address!r} is not IP:PORT, and Envoy's EDS resolves no names") from error
    written = f"[{ip}]:{number}" if ip.version == 6 else f"{ip}:{number}"
    if written != address or not 0 < number < 65_536:
        raise ValueError(f"endpoint {address!r} must be written as Envoy does ({written}), with a port of 1 to 65535")
    return str(ip), number


def domains_of(fleet: Fleet, key: Key) -> frozenset[str]:
    """The domains that a key is in: a route is in the domain of each of its pools."""
    route = fleet.route(key.owner) if key.family in ("weight", "admit") else None
    names = route.pools if route is not None else (key.owner,)
    return frozenset(p.cluster for p in fleet.pools if p.name in names)


def all_keys(fleet: Fleet) -> list[Key]:
    """Every setting of the fleet. ValueError when two would share one runtime key in Envoy or an address is no IP:PORT."""
    keys = [Key(f"weight/{r.name}/{p}", "weight", r.name, p) for r in fleet.routes for p in r.pools]
    keys += [Key(f"admit/{r.name}/{t}", "admit", r.name, t) for r in fleet.routes for t in r.tiers]
    for address in (e.address for p in fleet.pools for e in p.endpoints):
        split_address(address)
    seen: dict[str, str] = {}
    for key in keys:
        other = seen.setdefault(key.runtime_key, key.text)
        if other != key.text:
            raise ValueError(
                f"{key.text} and {other} are one runtime key {key.runtime_key} in Envoy; rename one of them"
            )
    keys += [
        Key(f"endpoint/{p.name}/{e.address}", "endpoint", p.name, e.address) for p in fleet.pools for e in p.endpoints
    ]
    return keys + [Key(f"connections/{p.name}", "connections", p.name, "") for p in fleet.pools]
