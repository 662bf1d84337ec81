"""What somebody may set by hand in an incident file: the keys of runbooks/change.py, held against the file's own fleet."""

from __future__ import annotations

from collections.abc import Iterator

from runbooks.incident_fleet import FleetSpec

FORMS = (
    "weight/ROUTE/POOL (0 to 100), endpoint/POOL/ADDRESS (in, out), connections/POOL (seconds), admit/ROUTE/TIER (0 to 100), "
    "cordon/NODE (on, off), replicas/POOL (a number), image/POOL, env/POOL/NAME, paused/POOL or autoscale/POOL (on, off)"
)


def mistakes(fleet: FleetSpec, key: str, value: int | str) -> Iterator[str]:
    """Why this setting cannot be: no such form, nothing of that name, or no such value. One sentence each."""
    family, _, rest = key.partition("/")
    first, _, second = rest.partition("/")
    pools = {p.name: p for p in fleet.pools}
    routes = {r.name: r for r in fleet.routes}
    match family:
        case "weight":
            known = routes[first].pools if first in routes else ()
            yield from _named(first, routes, "route")
            yield from _named(second, known, f"pool on route {first}") if first in routes else ()
            yield from _number(value, 100)
        case "admit":
            yield from _named(first, routes, "route")
            yield from _named(second, routes[first].tiers, f"tier of route {first}") if first in routes else ()
            yield from _number(value, 100)
        case "endpoint":
            yield from _named(first, pools, "pool")
            yield from _named(second, pools[first].addresses, f"address of {first}") if first in pools else ()
            yield from _one_of(value, ("in", "out"))
        case "connections" | "replicas":
            yield from _named(rest, pools, "pool")
            yield from _number(value, 100_000)
        case "image" | "env":
            yield from _named(first, pools, "pool")
            yield from () if isinstance(value, str) else ["write the value as text"]
        case "paused" | "autoscale":
            yield from _named(rest, pools, "pool")
            yield from _one_of(value, ("on", "off"))
        case "cordon":
            nodes = {f"{c.name}-n{n}" for c in fleet.clusters for n in range(1, c.nodes + 1)}
            yield from _named(rest, nodes, "node")
            yield from _one_of(value, ("on", "off"))
        case _:
            yield f"there is no such setting; write {FORMS}"


def _named(name: str, known: object, what: str) -> Iterator[str]:
    names = sorted(known) if isinstance(known, (dict, tuple, set)) else []
    if name not in names:
        some = ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
        yield f"there is no {what} {name!r}; there are {some or 'none'}"


def _number(value: int | str, most: int) -> Iterator[str]:
    if not isinstance(value, int) or not 0 <= value <= most:
        yield f"it is {value!r}; write a whole number from 0 to {most}"


def _one_of(value: int | str, allowed: tuple[str, str]) -> Iterator[str]:
    if value not in allowed:
        yield f'it is {value!r}; write "{allowed[0]}" or "{allowed[1]}"'
