"""What the kubelet asks of an engine: one real token, or only whether it answers; and of a proxy, whom it sends requests."""

from __future__ import annotations

from typing import Any

import httpx


class EngineProbe:
    """Asks engines. `timeout_s` bounds each question: a stopped engine accepts and says nothing."""

    def __init__(self, timeout_s: float) -> None:
        self._http = httpx.AsyncClient(timeout=timeout_s, trust_env=False)

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def token(self, address: str) -> bool:
        """True when one real generation gave a token."""
        body = {"model": "smollm2", "prompt": "ready", "max_tokens": 1}
        try:
            answer = await self._http.post(f"http://{address}/v1/completions", json=body)
        except httpx.HTTPError:
            return False
        return answer.status_code == httpx.codes.OK and answer.json()["usage"]["completion_tokens"] > 0

    async def health(self, address: str) -> bool:
        """True when its server answers /health."""
        try:
            return (await self._http.get(f"http://{address}/health")).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    async def fronted(self, admin: str, address: str) -> bool:
        """True while the Envoy with this admin URL has the address as an endpoint. One that is away sends nothing."""
        try:
            found = (await self._http.get(f"{admin}/clusters?format=json")).raise_for_status().json()
        except httpx.HTTPError:
            return False
        hosts = [h["address"]["socket_address"] for c in found["cluster_statuses"] for h in c.get("host_statuses", [])]
        return address in {f"{h['address']}:{h['port_value']}" for h in hosts}

    async def fault(self, address: str, fault: dict[str, Any]) -> None:
        """Switch a fault on; {} heals. httpx.HTTPError when the engine cannot be told."""
        (await self._http.post(f"http://{address}/admin/fault", json=fault)).raise_for_status()
