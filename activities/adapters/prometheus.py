"""Instant queries to the Prometheus HTTP API. One number that is fresh, or None and why.

How old a value is: an instant query stamps its answer with the evaluation time, not with the sample's. For a bare
selector (`vllm:num_requests_waiting{pool="a"}`) the sample's own time is asked with `timestamp(...)` at the same
evaluation time, and age is counted on Prometheus's clock alone. For any other expression (`rate(x[1m])`, sums) there is
no such time: `observed_at` is then the evaluation time, and Prometheus itself bounds how stale the input may be: a
selector by its staleness marks (a failed scrape ends the series at once), a range by its length. Keep ranges short.
"""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime
from typing import Any

import httpx

from activities.adapters.reading import Clock, NotMeasured, Reading, checked, failure, utc_now

_BARE = re.compile(r'[a-zA-Z_:][a-zA-Z0-9_:]*\s*(\{([^{}"]|"([^"\\]|\\.)*")*\})?')


class PrometheusSource:
    """`max_age_s`: a sample older than this is stale. `client` may carry credentials; they never reach a `why`."""

    def __init__(
        self, base_url: str, client: httpx.AsyncClient, max_age_s: float, timeout_s: float = 2.0, now: Clock = utc_now
    ) -> None:
        self._url = f"{base_url.rstrip('/')}/api/v1/query"
        self._client = client
        self._max_age_s = max_age_s
        self._timeout_s = timeout_s
        self._now = now

    async def query(self, expression: str) -> Reading:
        """The one value of a PromQL expression. Never raises for what Prometheus does: None and why."""
        asked = self._now()
        try:
            async with asyncio.timeout(self._timeout_s):
                at, value = await self._one(expression, None)
                # Our clock and Prometheus's must agree, or `observed_at` would mean nothing beside other facts.
                if abs((at - self._now()).total_seconds()) > self._max_age_s:
                    return Reading(None, asked, f"Prometheus's clock says {at.isoformat()}: too far from ours")
                if _BARE.fullmatch(expression.strip()) is None:
                    return checked(value, at)
                _, stamp = await self._one(f"timestamp({expression})", at)
        except (TimeoutError, httpx.HTTPError) as error:
            return Reading(None, asked, f"Prometheus: {failure(error, self._timeout_s)}")
        except NotMeasured as error:
            return Reading(None, asked, str(error))
        sampled = datetime.fromtimestamp(stamp, UTC)
        age = (at - sampled).total_seconds()
        if age > self._max_age_s:
            return Reading(None, sampled, f"stale: the sample is {age:.1f} s old, {self._max_age_s:g} s is allowed")
        return checked(value, sampled)

    async def _one(self, expression: str, at: datetime | None) -> tuple[datetime, float]:
        """Evaluation time and the value of the only series."""
        form = {"query": expression} | ({"time": f"{at.timestamp():.3f}"} if at else {})
        answer = await self._client.post(self._url, data=form, timeout=self._timeout_s)
        try:
            body = answer.json()
            if answer.status_code != 200 or body["status"] != "success":
                raise NotMeasured(f"Prometheus: HTTP {answer.status_code}: {body.get('error', 'no reason given')}")
            if body.get("warnings"):  # a partial answer, say of a remote read that failed, is no measurement
                raise NotMeasured(f"Prometheus warns: {'; '.join(map(str, body['warnings']))}")
            return _point(expression, body["data"])
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            raise NotMeasured(f"Prometheus: HTTP {answer.status_code} with a body that is no query result") from error


def _point(expression: str, data: dict[str, Any]) -> tuple[datetime, float]:
    result = data["result"]
    match data["resultType"]:
        case "scalar":
            stamp, text = result
        case "vector" if len(result) == 1:
            stamp, text = result[0]["value"]
        case "vector" if not result:
            raise NotMeasured(f"no series for {expression}")
        case "vector":
            raise NotMeasured(f"{len(result)} series for {expression}: aggregate to one")
        case kind:
            raise NotMeasured(f"the result of {expression} is a {kind}, not one number")
    return datetime.fromtimestamp(float(stamp), UTC), float(text)
