"""The static part of an edge: one listener, its routes, and where the xDS files are.

One route in the fleet: every path goes to it. Several: the request header `x-route` names the route, and a request
without one gets 404 and is told so. Header `x-tier` names the tier; a request without a known tier is not shed, so set
the header where callers cannot (an authenticating gateway). Answers carry `x-pool` and `x-endpoint`: the pool and host
that served.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from activities.adapters.envoy_admin import ADMIN_LAYER
from activities.adapters.envoy_keys import CDS_FILE, RTDS_FILE, Key
from activities.adapters.envoy_xds import RUNTIME, TYPE
from runbooks.fleet import Fleet, Route

ROUTE_HEADER, TIER_HEADER = "x-route", "x-tier"
POOL_HEADER, ENDPOINT_HEADER = "x-pool", "x-endpoint"
HTTP_FILTERS = f"{TYPE}envoy.extensions.filters"


def bootstrap(
    fleet: Fleet,
    folder: Path,
    admin_port: int,
    listen_port: int,
    weights: dict[str, dict[str, int]],
    route_timeout_s: float,
) -> dict[str, Any]:
    """Envoy's bootstrap as data."""
    runtime_layer = {"name": RUNTIME, "rtds_config": _source(folder / RTDS_FILE)}
    # The admin layer comes last and wins: a person's override in an emergency, which the adapter refuses to fight.
    layers = [{"name": RUNTIME, "rtds_layer": runtime_layer}, {"name": ADMIN_LAYER, "admin_layer": {}}]
    routes = [r for route in fleet.routes for r in _routes(fleet, route, weights[route.name], route_timeout_s)]
    if len(fleet.routes) > 1:
        names = ", ".join(r.name for r in fleet.routes)
        routes.append(_answer({"prefix": "/"}, 404, f"set header {ROUTE_HEADER} to one of: {names}\n"))
    manager = {
        "@type": f"{HTTP_FILTERS}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "edge",
        "stream_idle_timeout": "300s",
        # Clusters come from CDS, after this listener.
        "route_config": {
            "name": "edge",
            "validate_clusters": False,
            "virtual_hosts": [{"name": "edge", "domains": ["*"], "routes": routes}],
        },
        "http_filters": [
            {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{HTTP_FILTERS}.http.router.v3.Router"}}
        ],
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    return {
        "node": {"id": "interlock-edge", "cluster": "interlock-edge"},
        "admin": {"address": _loopback(admin_port)},  # no authentication there: loopback only
        "layered_runtime": {"layers": layers},
        "dynamic_resources": {"cds_config": _source(folder / CDS_FILE)},
        "static_resources": {
            "listeners": [{"name": "edge", "address": _loopback(listen_port), "filter_chains": [chain]}]
        },
    }


def _routes(fleet: Fleet, route: Route, weights: dict[str, int], timeout_s: float) -> list[dict[str, Any]]:
    headers = [_exact(ROUTE_HEADER, route.name)] if len(fleet.routes) > 1 else []
    found = []
    for tier in route.tiers:
        match: dict[str, Any] = {"prefix": "/", "headers": [*headers, _exact(TIER_HEADER, tier)]}
        key = Key(f"admit/{route.name}/{tier}", "admit", route.name, tier).runtime_key
        fraction = {"default_value": {"numerator": 1_000_000, "denominator": "MILLION"}, "runtime_key": key}
        found.append(_forward({**match, "runtime_fraction": fraction}, route, weights, timeout_s))
        found.append(_answer(match, 429, f"tier {tier} is limited now\n"))
    rest: dict[str, Any] = {"prefix": "/", **({"headers": headers} if headers else {})}
    return [*found, _forward(rest, route, weights, timeout_s)]


def _forward(match: dict[str, Any], route: Route, weights: dict[str, int], timeout_s: float) -> dict[str, Any]:
    # No retry policy: a retry would hide the failing endpoint, and double the load of a drowning pool.
    split = {
        "runtime_key_prefix": f"routing.split.{route.name}",
        "clusters": [{"name": pool, "weight": weights[pool]} for pool in route.pools],
    }
    served = [_header(POOL_HEADER, "%UPSTREAM_CLUSTER%"), _header(ENDPOINT_HEADER, "%UPSTREAM_REMOTE_ADDRESS%")]
    action = {"timeout": f"{timeout_s:.3f}s", "weighted_clusters": split}
    return {"match": match, "route": action, "response_headers_to_add": served}


def _answer(match: dict[str, Any], status: int, text: str) -> dict[str, Any]:
    return {"match": match, "direct_response": {"status": status, "body": {"inline_string": text}}}


def _header(key: str, value: str) -> dict[str, Any]:
    return {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}


def _exact(name: str, value: str) -> dict[str, Any]:
    return {"name": name, "string_match": {"exact": value}}


def _source(path: Path) -> dict[str, Any]:
    return {"resource_api_version": "V3", "path_config_source": {"path": str(path)}}


def _loopback(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
