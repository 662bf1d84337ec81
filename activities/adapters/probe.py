"""Asks an engine, or a route through the proxy, for a real token. Only a token proves that an engine serves."""

from __future__ import annotations

import asyncio
import time

import httpx

from activities.adapters.reading import Clock, failure, own_fault, utc_now
from activities.errors import Permanent, Retryable
from activities.ports import Generation
from runbooks.fleet import Fleet, Pool

ROUTE_HEADER = "x-route"
"""Names the route at a proxy that serves several on one port. No tier is named: a probe must not be shed."""
_PROMPT = "Count: one, two, three,"


class HttpProber:
    """Implements Prober by POST /v1/completions, whose answer has one shape in vLLM and llama.cpp.

    `route_urls`: base URL of each route at the proxy, by route name. `timeout_s` bounds the whole request.
    """

    def __init__(
        self,
        fleet: Fleet,
        client: httpx.AsyncClient,
        route_urls: dict[str, str],
        timeout_s: float = 2.0,
        max_tokens: int = 1,
        now: Clock = utc_now,
    ) -> None:
        self._client = client
        self._timeout_s = timeout_s
        self._max_tokens = max_tokens
        self._now = now
        self._places: dict[str, tuple[str, str]] = {
            e.address: (f"http://{e.address}", p.model) for p in fleet.pools for e in p.endpoints
        }
        pools: dict[str, Pool] = {p.name: p for p in fleet.pools}
        for route in fleet.routes:
            if route.name in route_urls:
                self._places[f"route/{route.name}"] = (route_urls[route.name], pools[route.pools[0]].model)

    async def generate(self, scope: str) -> Generation:
        """One generation on an endpoint address or `route/NAME`.

        Permanent: the inventory has no such scope. Retryable: this worker could not ask (its own connections, files or
        time ran out), which says nothing about the engine.
        """
        return await self.within(scope, self._timeout_s)

    def knows(self, scope: str) -> bool:
        """True for an endpoint of the inventory and for a route with a URL."""
        return scope in self._places

    async def within(self, scope: str, timeout_s: float) -> Generation:
        """The same with its own deadline, seconds.

        `observed_at` is when the request was sent: an answer through the proxy tells about the settings that stood
        then, not about a change made while it was under way.
        """
        if scope not in self._places:
            raise Permanent(
                f"cannot probe {scope!r}: it is neither an endpoint of the inventory nor a route with a URL"
            )
        base, model = self._places[scope]
        at, began = self._now(), time.monotonic()
        headers = {"user-agent": "interlock-probe"}
        if scope.startswith("route/"):
            headers[ROUTE_HEADER] = scope.removeprefix("route/")
        tokens = 0
        try:
            async with asyncio.timeout(timeout_s):
                answer = await self._client.post(
                    f"{base.rstrip('/')}/v1/completions",
                    json={"model": model, "prompt": _PROMPT, "max_tokens": self._max_tokens, "temperature": 0},
                    headers=headers,
                    timeout=httpx.Timeout(timeout_s, pool=0.9 * timeout_s),
                )
            tokens, why = _judge(answer)
        except (TimeoutError, httpx.HTTPError) as error:
            if ours := own_fault(error):
                raise Retryable(f"cannot probe {scope}: {ours}") from error
            timed_out = isinstance(error, TimeoutError | httpx.TimeoutException)
            # A worker that was itself stopped sees its deadline pass although the engine may have answered.
            if timed_out and time.monotonic() - began > timeout_s + 0.5:
                raise Retryable(f"cannot probe {scope}: this worker was held up past its own deadline") from error
            why = f"no token within {timeout_s} s" if timed_out else failure(error, timeout_s)
        return Generation(ok=not why, tokens=tokens, seconds=time.monotonic() - began, why=why, observed_at=at)


def _judge(answer: httpx.Response) -> tuple[int, str]:
    """Tokens of the answer, and why it is no proof of serving ("" when it is)."""
    if answer.status_code != 200:
        return 0, f"HTTP {answer.status_code}"
    try:
        body = answer.json()
        text, tokens = body["choices"][0]["text"], body["usage"]["completion_tokens"]
    except (ValueError, KeyError, IndexError, TypeError):
        return 0, "HTTP 200, but the body is no completion with text and usage"
    # A bool is an int in Python; neither it nor a float is a count of tokens.
    if type(tokens) is not int or not isinstance(text, str):
        return 0, "HTTP 200, but the body is no completion with text and usage"
    if tokens < 1:
        return 0, "HTTP 200 with no completion token"
    if not text:
        return 0, "HTTP 200 with empty text"
    return tokens, ""
