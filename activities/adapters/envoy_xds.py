"""What stands in an xDS file: rendering settings as Envoy resources and reading them back from the same JSON.

Measured on Envoy 1.40, and the reason for what is rendered:

Taking an endpoint out (EDS). `health_status` UNHEALTHY and DRAINING both stop new requests within 2 ms but leave idle
connections ESTABLISHED for as long as they like: close_connections_on_host_health_failure acts on active health checks
only. *Removing* the endpoint stops new requests within 2 ms and closes its idle connections at once (TIME-WAIT in the
same millisecond). So "out" is: not in the file. None of the three cuts a request that is in flight to a stopped engine:
it ends with 504 at the route's timeout, and its connection is closed with it (`route_timeout_s` of write_edge).

Recycling connections (CDS). Any change of a cluster makes Envoy build it anew (2 ms) and close all idle connections of
the old one at once; busy ones end with their request, at the latest at the route's timeout.

Admit percentages (RTDS). A plain percent and a weighted split are drawn from the SAME random number: with 50 admitted
and weights 50/50 all admitted requests went to the first pool. As a fraction of a million the draw uses other digits of
the number and the split stays true; that is why admit is written as {numerator, denominator}.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from activities.adapters.envoy_keys import Key, eds_file, split_address
from runbooks.facts import Value
from runbooks.fleet import Pool

RUNTIME = "interlock"
"""Name of the runtime resource and of its layer in the bootstrap."""
TYPE = "type.googleapis.com/"
HTTP = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
PER_PERCENT = 10_000
"""Millionths in one percent."""
IDLE_S = 4
"""Envoy lets an idle connection go after this. It must be first: vLLM (VLLM_HTTP_TIMEOUT_KEEP_ALIVE) and llama.cpp (cpp-httplib)
close theirs after 5 s, and a request that Envoy sends at that moment is lost with 503."""


class Mangled(ValueError):
    """The file is JSON, but not as we (and Envoy) need it: the message says what is missing."""


def runtime(weights: Mapping[str, int], admit: Mapping[str, int]) -> list[dict[str, Any]]:
    """RTDS resources: runtime key to weight, and runtime key to percent admitted."""
    layer: dict[str, Any] = {**weights, **{key: _fraction(percent) for key, percent in admit.items()}}
    return [{"@type": f"{TYPE}envoy.service.runtime.v3.Runtime", "name": RUNTIME, "layer": layer}]


def assignment(pool: Pool) -> list[dict[str, Any]]:
    """EDS resources of a pool with all its endpoints in rotation."""
    hosts = [_host(e.address) for e in pool.endpoints]
    kind = f"{TYPE}envoy.config.endpoint.v3.ClusterLoadAssignment"
    return [{"@type": kind, "cluster_name": pool.name, "endpoints": [{"lb_endpoints": hosts}]}]


def cluster(pool: str, folder: Path, seconds: int) -> dict[str, Any]:
    """CDS resource of a pool: no health checks and no outlier detection, so that nothing but Interlock heals it."""
    source = {"resource_api_version": "V3", "path_config_source": {"path": str(folder / eds_file(pool))}}
    return {
        "@type": f"{TYPE}envoy.config.cluster.v3.Cluster",
        "name": pool,
        "type": "EDS",
        "connect_timeout": "1s",
        "lb_policy": "ROUND_ROBIN",
        "eds_cluster_config": {"service_name": pool, "eds_config": source},
        # The default merge window of 1 s would let requests reach an endpoint after Envoy says that it is out.
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}, "update_merge_window": "0s"},
        "close_connections_on_host_health_failure": True,
        **_connections(seconds),
    }


def get(resources: list[Any], key: Key) -> Value:
    """The setting as these resources declare it; Mangled when it is not there or no such thing."""
    try:
        match key.family:
            case "weight":
                return _whole(_layer(resources)[key.runtime_key])
            case "admit":
                return percent_of(_layer(resources)[key.runtime_key]["numerator"])
            case "endpoint":
                return "in" if any(address_of(h) == key.item and serves(h) for h in _hosts(resources)) else "out"
            case "connections":
                return life_of(_named(resources, key.owner))
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise Mangled(f"{key.text} cannot be read from it ({type(error).__name__}: {error})") from error


def put(resources: list[Any], key: Key, value: Value) -> None:
    """Declare the setting, in place. The value has passed `Key.problem`; all else in the resources stays as it is."""
    match key.family:
        case "weight":
            _layer(resources)[key.runtime_key] = value
        case "admit":
            _layer(resources)[key.runtime_key] = _fraction(_whole(value))
        case "endpoint":
            hosts = _hosts(resources)
            kept = [h for h in hosts if address_of(h) != key.item]
            hosts[:] = [*kept, _host(key.item)] if value == "in" else kept
        case "connections":
            _named(resources, key.owner).update(_connections(_whole(value)))


def address_of(host: dict[str, Any]) -> str:
    """`host:port` of an lb_endpoint or of a host status of the admin API."""
    socket = host.get("endpoint", host)["address"]["socket_address"]
    name = str(socket["address"])
    return f"[{name}]:{socket['port_value']}" if ":" in name else f"{name}:{socket['port_value']}"


def serves(host: dict[str, Any]) -> bool:
    """False for a host that somebody drained by hand with `health_status` in place of removing it."""
    return host.get("health_status", "HEALTHY") in ("HEALTHY", "UNKNOWN")


def life_of(config: dict[str, Any]) -> int:
    """Longest life of a cluster's connections in whole seconds, 0 for none."""
    common = config["typed_extension_protocol_options"][HTTP]["common_http_protocol_options"]
    text = common.get("max_connection_duration", "0s")
    if not (isinstance(text, str) and text.endswith("s") and text[:-1].isdigit()):
        raise Mangled(f"max_connection_duration {text!r} is not whole seconds")
    return int(text[:-1])


def percent_of(millionths: object) -> int:
    """Whole percent of a numerator over a million."""
    percent, rest = divmod(_whole(millionths), PER_PERCENT)
    if rest:
        raise Mangled(f"{millionths!r} millionths are not whole percents")
    return percent


def _fraction(percent: int) -> dict[str, Any]:
    return {"numerator": percent * PER_PERCENT, "denominator": "MILLION"}


def _connections(seconds: int) -> dict[str, Any]:
    common: dict[str, Any] = {"idle_timeout": f"{IDLE_S}s"}
    probes = {"keepalive_time": 60, "keepalive_interval": 10, "keepalive_probes": 3}
    if seconds > 0:
        common["max_connection_duration"] = f"{seconds}s"
        # A half-open connection is found in 5 + 3 x 2 s instead of 90 s.
        probes = {"keepalive_time": 5, "keepalive_interval": 2, "keepalive_probes": 3}
    options = {"explicit_http_config": {"http_protocol_options": {}}, "common_http_protocol_options": common}
    return {
        "upstream_connection_options": {"tcp_keepalive": probes},
        "typed_extension_protocol_options": {HTTP: {"@type": f"{TYPE}{HTTP}", **options}},
    }


def _host(address: str) -> dict[str, Any]:
    host, port = split_address(address)
    return {"endpoint": {"address": {"socket_address": {"address": host, "port_value": port}}}}


def _layer(resources: list[Any]) -> dict[str, Any]:
    return dict_of(_named(resources, RUNTIME)["layer"])


def _hosts(resources: list[Any]) -> list[Any]:
    hosts: list[Any] = resources[0]["endpoints"][0]["lb_endpoints"]
    return hosts


def _named(resources: list[Any], name: str) -> dict[str, Any]:
    found = [r for r in resources if r["name"] == name]
    if len(found) != 1:
        raise Mangled(f"it has {len(found)} resources named {name!r}, not one")
    return dict_of(found[0])


def dict_of(value: object) -> dict[str, Any]:
    """The value, when it is a JSON object; Mangled when not."""
    if not isinstance(value, dict):
        raise Mangled(f"an object was expected, not {value!r}")
    return value


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise Mangled(f"a whole number was expected, not {value!r}")
    return value
