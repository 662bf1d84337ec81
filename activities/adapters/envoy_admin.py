"""Envoy's admin API, read only: what Envoy really applies. Nothing that is set there would outlive a restart."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from activities.adapters import envoy_xds
from activities.adapters.envoy_keys import CDS_FILE, RTDS_FILE, Key
from activities.errors import Retryable
from runbooks.facts import Settings, Value

ADMIN_LAYER = "admin"


@dataclass(frozen=True)
class Subscription:
    """One xDS file as Envoy took it: the `version_info` in force, and how many updates it refused since it started."""

    version: str
    refusals: int


class EnvoyAdmin:
    """One Envoy. Every method raises Retryable when it does not answer, or not as Envoy does."""

    def __init__(self, client: httpx.AsyncClient, url: str, timeout_s: float) -> None:
        self._client = client
        self._url = url.rstrip("/")
        self._timeout_s = timeout_s

    async def subscription(self, file: str, pool: str) -> Subscription:
        """State of a file's subscription; `pool` is the one whose endpoints the file lists, if it does."""
        scope = {RTDS_FILE: "runtime", CDS_FILE: "cluster_manager.cds"}.get(
            file, f"cluster.{pool}".replace(":", "_")
        )  # as Envoy names it
        names = [f"{scope}.{n}" for n in ("version_text", "update_failure", "update_rejected")]
        wanted = f"^{re.escape(scope)}\\.(version_text|update_failure|update_rejected)$"
        body = await self._get("/stats", {"format": "json", "filter": wanted})
        with self._as_envoy("/stats"):
            stats = {s["name"]: s["value"] for s in body["stats"] if "name" in s}
            return Subscription(str(stats[names[0]]), int(stats[names[1]]) + int(stats[names[2]]))

    async def overrides(self, keys: Sequence[Key]) -> dict[str, str]:
        """Runtime keys among these that somebody has overridden by the admin API, which wins over our file."""
        body = await self._get("/runtime", {"format": "json"})
        with self._as_envoy("/runtime"):
            if ADMIN_LAYER not in body["layers"]:
                return {}
            at = body["layers"].index(ADMIN_LAYER)
            found = {k.text: body["entries"].get(k.runtime_key) for k in keys if k.family in ("weight", "admit")}
            return {text: e["layer_values"][at] for text, e in found.items() if e and e["layer_values"][at] != ""}

    async def settings(self, keys: Sequence[Key]) -> Settings:
        """What Envoy applies under each key. A key that it does not know is absent."""
        found: dict[str, Value | None] = {}
        if any(k.family in ("weight", "admit") for k in keys):
            body = await self._get("/runtime", {"format": "json"})
            with self._as_envoy("/runtime"):
                found |= {k.text: _runtime(k, body["entries"]) for k in keys if k.family in ("weight", "admit")}
        for pool in {k.owner for k in keys if k.family == "endpoint"}:
            hosts = await self._hosts(pool)
            for key in (k for k in keys if k.family == "endpoint" and k.owner == pool and hosts is not None):
                found[key.text] = "in" if hosts and key.item in hosts else "out"
        for key in (k for k in keys if k.family == "connections"):
            found[key.text] = await self._life(key.owner)
        return {text: value for text, value in found.items() if value is not None}

    async def _hosts(self, pool: str) -> set[str] | None:
        body = await self._get("/clusters", {"format": "json", "filter": f"^{re.escape(pool)}$"})
        with self._as_envoy("/clusters"):
            for cluster in body.get("cluster_statuses", []):
                if cluster["name"] == pool:
                    return {envoy_xds.address_of(h) for h in cluster.get("host_statuses", []) if _healthy(h)}
        return None

    async def _life(self, pool: str) -> int | None:
        wanted = {"resource": "dynamic_active_clusters", "name_regex": f"^{re.escape(pool)}$"}
        body = await self._get("/config_dump", wanted)
        with self._as_envoy("/config_dump"):
            for config in body.get("configs", []):
                if config["cluster"]["name"] == pool:
                    return envoy_xds.life_of(config["cluster"])
        return None

    @contextmanager
    def _as_envoy(self, path: str) -> Iterator[None]:
        """Whatever is not shaped as Envoy's answer is no measurement, and never a default."""
        try:
            yield
        except (envoy_xds.Mangled, LookupError, TypeError, AttributeError, ValueError) as error:
            raise Retryable(f"{self._url}{path} does not answer as Envoy does: {error!r}") from error

    async def _get(self, path: str, params: dict[str, str]) -> Any:
        try:
            reply = await self._client.get(self._url + path, params=params, timeout=self._timeout_s)
            reply.raise_for_status()
            return reply.json()
        except (httpx.HTTPError, ValueError) as error:
            raise Retryable(f"Envoy's admin API at {self._url}{path} gave no answer: {error!r}") from error


def _healthy(host: dict[str, Any]) -> bool:
    flags = host.get("health_status", {})
    # `eds_health_status` is always there; any failed_* flag beside it takes the host out of rotation too.
    failed = any(name.startswith("failed_") and on for name, on in flags.items())
    return flags.get("eds_health_status") in ("HEALTHY", "UNKNOWN") and not failed


def _runtime(key: Key, entries: dict[str, Any]) -> Value | None:
    entry = entries.get(key.runtime_key)
    if entry is None:
        return None
    text = str(entry["final_value"])
    if text.isdigit():
        return int(text)
    # A fraction is shown as protobuf's debug text, whose blanks vary on purpose: only the one number in it is read.
    numbers = re.findall(r"number_value:\s*([0-9.e+]+)", text)
    if key.family != "admit" or len(numbers) != 1 or "MILLION" not in text:
        return text
    return envoy_xds.percent_of(int(float(numbers[0])))
