"""One connection pool for each server that is asked, instead of one for all.

httpx's own pool looks at every connection for every request that waits or begins, all servers together (encode/httpcore#1035,
not merged): with sixty engines that are asked once a second two thirds of the event loop went into that (py-spy). And a hung
engine holds connections for which others would have to wait.
"""

from __future__ import annotations

import httpx

LIMITS = httpx.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=4.0)
"""httpx's own, but for the last: engines close an idle connection after 5 s, as httpx would, and a request sent in that moment
is lost."""


class PerOrigin(httpx.AsyncBaseTransport):
    """Give it to `httpx.AsyncClient(transport=…)`. Limits are for each server."""

    def __init__(self) -> None:
        self._tls = httpx.create_ssl_context(trust_env=False)  # made once: each costs twenty milliseconds
        self._pools: dict[tuple[bytes, bytes, int | None], httpx.AsyncHTTPTransport] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """By the pool of the request's scheme, host and port."""
        url = request.url
        origin = (url.raw_scheme, url.raw_host, url.port)
        pool = self._pools.get(origin)
        if pool is None:
            pool = self._pools[origin] = httpx.AsyncHTTPTransport(verify=self._tls, trust_env=False, limits=LIMITS)
        return await pool.handle_async_request(request)

    async def aclose(self) -> None:
        """Closes all of them."""
        pools, self._pools = list(self._pools.values()), {}
        for pool in pools:
            await pool.aclose()
