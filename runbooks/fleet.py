"""The inventory that Interlock is told: routes, pools and endpoints of each cluster. What is not in it is not touched."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from runbooks.base import Model, Name, Share
from runbooks.detection import Target


class Endpoint(Model):
    """One replica: `address` is host:port, and the name of the endpoint everywhere."""

    address: Name
    node: Name | None = None


class Pool(Model):
    """A model pool (a `service` target)."""

    name: Name
    cluster: Name
    dialect: Literal["vllm", "llamacpp"]
    endpoints: tuple[Endpoint, ...] = Field(min_length=1)
    tokens_per_second: float = Field(gt=0, description="What ONE endpoint can serve, tokens/s, as measured.")
    model: str = "default"
    residency: str = ""
    tenants: tuple[str, ...] = ()


class Route(Model):
    """The pools that serve the same model, among which traffic may move. `tiers` from first to be refused to last."""

    name: Name
    pools: tuple[Name, ...] = Field(min_length=1)
    tiers: tuple[Name, ...] = ()
    target_utilisation: Share = Field(default=0.8, description="A receiving pool is never planned above this.")


class Fleet(Model):
    """Everything Interlock may touch."""

    routes: tuple[Route, ...]
    pools: tuple[Pool, ...]

    @model_validator(mode="after")
    def _names(self) -> Fleet:
        known = {p.name for p in self.pools}
        if len(known) != len(self.pools):
            raise ValueError("pools: two pools have the same name; give each pool its own")
        for route in self.routes:
            for name in route.pools:
                if name not in known:
                    raise ValueError(f"routes.{route.name}.pools: there is no pool {name!r}; pools are {sorted(known)}")
        return self

    def pool(self, name: str) -> Pool | None:
        """The pool, or None when the inventory has none of this name."""
        return next((p for p in self.pools if p.name == name), None)

    def route(self, name: str) -> Route | None:
        """The route, or None."""
        return next((r for r in self.routes if r.name == name), None)

    def route_of(self, pool: str) -> Route | None:
        """The first route that the pool serves, or None."""
        return next((r for r in self.routes if pool in r.pools), None)

    def has(self, target: Target) -> bool:
        """True when the target names something of this inventory."""
        if target.service is None:
            return any(p.cluster == target.cluster for p in self.pools)
        pool = self.pool(target.service)
        if pool is None or pool.cluster != target.cluster:
            return False
        return target.endpoint is None or any(e.address == target.endpoint for e in pool.endpoints)

    def domains(self) -> tuple[str, ...]:
        """All domains of change control, sorted."""
        return tuple(sorted({p.cluster for p in self.pools}))
