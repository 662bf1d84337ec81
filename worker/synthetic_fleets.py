"""Fleets of the synthetic corpus: 1 to 4 clusters, 2 to 8 pools; sizes, loads and rules of placement are drawn. All is ours (I)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from runbooks.incident_fleet import ApiSpec, ClusterSpec, DependencySpec, FleetSpec, PoolSpec, RouteSpec
from worker.synthetic_draw import Draw


@dataclass(frozen=True)
class Hardware:
    """What a replica of it serves. `tokens` and `slots` for one replica on one GPU."""

    gpus_per_node: int
    gpus_per_replica: tuple[int, ...]
    tokens: tuple[float, float]
    slots: int
    cold_start: tuple[float, float]
    dialect: Literal["vllm", "llamacpp"] = "vllm"


HARDWARE = {
    "l4": Hardware(4, (1,), (300, 600), 16, (40, 120)),
    "a100": Hardware(8, (1, 2), (900, 1600), 64, (60, 240)),
    "h100": Hardware(8, (1, 2, 4), (1800, 3000), 96, (90, 420)),
    "h100-large": Hardware(8, (8,), (350, 600), 24, (240, 600)),
    "cpu": Hardware(4, (1,), (40, 80), 8, (20, 60), "llamacpp"),
}
_MIX = {"l4": 2.0, "a100": 3.0, "h100": 3.0, "h100-large": 1.0, "cpu": 0.5}
_PLACES = (("east", "eu"), ("west", "us"), ("north", "eu"), ("south", "us"), ("alpine", "eu"), ("pacific", "apac"))
_TIERS = ({"batch": 0.3, "paid": 0.7}, {"batch": 0.2, "free": 0.3, "paid": 0.5}, {"free": 0.4, "paid": 0.6})
_MODELS = ("chat", "code", "embed", "vision", "speech", "rerank", "draft")


@dataclass(frozen=True)
class _Asks:
    """A route's requests: tokens generated and of the prompt, and the share of what its pools can serve that they take."""

    tokens: float
    prompt: float
    load: float


@dataclass(frozen=True)
class _Site:
    """Rules of the whole site."""

    residency: bool
    tenants: bool
    registry: bool

    def of(self, zone: str, n: int) -> dict[str, object]:
        """What it says about the n-th pool of a route."""
        return {
            "residency": zone if self.residency else "",
            "tenants": (("acme",) if n % 2 else ("acme", "globex")) if self.tenants else (),
            "depends_on": ("weights",) if self.registry else (),
        }


def draw_fleet(draw: Draw, *, siblings: bool, full: bool = False, calm: bool = False) -> FleetSpec:
    """One fleet; its first route is the one that the incident hits, and the first pool of that route.

    `siblings`: that route has a pool in another cluster. `full`: no node is free anywhere.
    `calm`: its routes take half of what there is at most.
    """
    clusters = draw.weighted({1: 2.5, 2: 4.0, 3: 2.2, 4: 1.3})
    clusters = max(2, clusters) if siblings else clusters
    places = draw.some(_PLACES, clusters)
    hardware = {name: HARDWARE[draw.weighted(_MIX)] for name, _ in places}
    site = _Site(residency=draw.happens(0.25), tenants=draw.happens(0.15), registry=draw.happens(0.3))
    pools: list[PoolSpec] = []
    routes: list[RouteSpec] = []
    for model, at in _models(draw, places, siblings):
        asks = _Asks(
            draw.between(100, 300), draw.between(300, 1200), draw.between(0.3, 0.5) if calm else draw.between(0.35, 0.7)
        )
        own: list[PoolSpec] = []
        for cluster, zone in at:
            kin = f"{model}-{cluster}" + ("-b" if any(p.cluster == cluster for p in own) else "")
            pool = _pool(draw, PoolSpec(name=kin, cluster=cluster, model=model, replicas=1), hardware[cluster], asks)
            own.append(pool.model_copy(update=site.of(zone, len(own))))
        pools += own
        routes.append(_route(draw, model, own, asks))
    return FleetSpec(
        clusters=tuple(
            _cluster(draw, name, hardware[name], [p for p in pools if p.cluster == name], full) for name, _ in places
        ),
        pools=tuple(pools),
        routes=tuple(routes),
        dependencies=(_registry(draw, pools),) if site.registry else (),
    )


def _models(draw: Draw, places: Sequence[tuple[str, str]], siblings: bool) -> list[tuple[str, list[tuple[str, str]]]]:
    """Each model with the places of its pools: 2 to 8 pools in all, and none of the clusters is empty."""
    models = draw.some(_MODELS, draw.whole(1, 3))
    made = []
    for n, model in enumerate(models):
        most = len(places) if n == 0 else min(2, len(places))
        made.append((model, draw.some(places, draw.whole(min(2, most) if siblings and n == 0 else 1, most))))
    last = made[-1][1]
    last += [p for p in places if all(p not in at for _, at in made)]
    if len(made) == 1 and len(last) == 1:
        last += last
    return made


def _pool(draw: Draw, pool: PoolSpec, hardware: Hardware, asks: _Asks) -> PoolSpec:
    gpus = draw.one(hardware.gpus_per_replica)
    slots = hardware.slots * gpus
    replicas = draw.whole(8, 20) if draw.happens(0.12) else draw.whole(3, 6)
    drawn = {
        "replicas": replicas,
        "gpus_per_replica": gpus,
        "tokens_per_second": float(round(draw.between(*hardware.tokens) * gpus)),
        "slots": slots,
        # With every slot busy the cache is a third to two thirds full: engines are sized so that slots run out first.
        "kv_tokens": float(round(slots * (asks.prompt + asks.tokens / 2) * draw.between(1.5, 3.0))),
        "cold_start": float(round(draw.between(*hardware.cold_start))),
        "most_replicas": 2 * replicas + 4,
        "dialect": hardware.dialect,
        "min_available": max(1, math.floor(replicas * draw.between(0.5, 0.8))) if draw.happens(0.7) else None,
        "autoscaler_max": replicas + draw.whole(1, 4) if draw.happens(0.3) else None,
    }
    return pool.model_copy(update=drawn)


def _route(draw: Draw, model: str, pools: list[PoolSpec], asks: _Asks) -> RouteSpec:
    capacity = sum(p.replicas * p.tokens_per_second for p in pools)
    return RouteSpec(
        name=model,
        pools=tuple(p.name for p in pools),
        requests_per_second=float(f"{asks.load * capacity / asks.tokens:.3g}"),
        tokens_per_request=asks.tokens,
        prompt_tokens=asks.prompt,
        deadline=draw.one((30.0, 60.0, 60.0, 120.0)),
        retries=draw.one((0.0, 0.5, 0.5, 1.0)),
        tiers=draw.one(_TIERS),
        error_budget_left=draw.between(0.2, 0.9) if draw.happens(0.3) else None,
    )


def _cluster(draw: Draw, name: str, hardware: Hardware, pools: list[PoolSpec], full: bool) -> ClusterSpec:
    nodes = sum(p.replicas / (hardware.gpus_per_node // p.gpus_per_replica) for p in pools)
    used = sum(p.replicas * p.gpus_per_replica for p in pools)
    replicas = sum(p.replicas for p in pools)
    return ClusterSpec(
        name=name,
        nodes=math.ceil(nodes) + (0 if full else draw.whole(0, 2)),
        gpus_per_node=hardware.gpus_per_node,
        quota_gpus=used + (0 if full else draw.whole(0, 8)) if draw.happens(0.3) else None,
        api=ApiSpec(load=draw.between(15, 40), per_replica=min(0.2, 10 / replicas)),
    )


def _registry(draw: Draw, pools: list[PoolSpec]) -> DependencySpec:
    replicas = sum(p.replicas for p in pools)
    return DependencySpec(
        name="weights",
        capacity=100.0,
        load=draw.between(10, 30),
        per_replica=min(1.0, 20 / replicas),
        per_start=draw.between(3, 12),
    )
