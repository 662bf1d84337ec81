"""A thin client of the Kubernetes API: few calls, each with a time-out, each answer taken for what it means.

Why not a ready-made client: docs/adr/0007.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import httpx

from activities.adapters.kube_config import KubeAccess
from activities.adapters.kube_errors import Call, Expired, Json, fault
from activities.errors import Ambiguous, Permanent, Retryable

MANAGER = "interlock"
"""Our field manager: who owns the fields that we set."""
LARGEST_BODY = 32 * 2**20
"""Bytes. A list comes in pages, so nothing of ours is near it."""
LARGEST_ERROR = 2**16
PAGE = 500
_JSON, _JSON_PATCH = "application/json", "application/json-patch+json"
_MERGE, _APPLY = "application/merge-patch+json", "application/apply-patch+yaml"
READ = "read.yaml"


@dataclass(frozen=True)
class Listing:
    """All items of a list, and the version that a watch goes on from."""

    items: tuple[Json, ...]
    resource_version: str


class KubeApi:
    """One API server. `timeout_s` bounds every call as a whole but watches. Errors: activities/adapters/kube_errors.py."""

    def __init__(self, access: KubeAccess, *, timeout_s: float = 10.0, largest_body: int = LARGEST_BODY) -> None:
        self._access = access
        self._timeout_s = timeout_s
        self._largest = largest_body
        self._client = httpx.AsyncClient(
            base_url=access.server,
            verify=access.tls if access.tls is not None else False,
            timeout=timeout_s,
            limits=httpx.Limits(max_connections=40, max_keepalive_connections=20, keepalive_expiry=30),
            trust_env=False,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.aclose()

    async def get(self, path: str, role: str = READ) -> Json:
        """One object."""
        return await self._ask(Call("GET", path, role, writes=False))

    async def list(self, path: str, params: dict[str, str] | None = None, role: str = READ) -> Listing:
        """All of a kind, page by page, at one version. A list that expires between two pages is begun again, once."""
        try:
            return await self._pages(path, params or {}, role)
        except Expired:
            return await self._pages(path, params or {}, role)

    async def patch(self, path: str, ops: Sequence[Json], *, role: str) -> Json:
        """JSON patch. Give `/metadata/resourceVersion` in it to compare-and-set."""
        return await self._ask(
            Call("PATCH", path, role, writes=True), list(ops), _JSON_PATCH, {"fieldManager": MANAGER}
        )

    async def merge(self, path: str, body: Json, *, role: str) -> Json:
        """Merge patch; with `metadata.resourceVersion` in it a compare-and-set."""
        return await self._ask(Call("PATCH", path, role, writes=True), body, _MERGE, {"fieldManager": MANAGER})

    async def apply(self, path: str, body: Json, *, role: str, force: bool = False) -> Json:
        """Server-side apply as `interlock`. Conflict: another manager owns a field, unless `force`."""
        params = {"fieldManager": MANAGER, "force": str(force).lower()}
        return await self._ask(Call("PATCH", path, role, writes=True), body, _APPLY, params)

    async def create(self, path: str, body: Json, *, role: str) -> Json:
        """A new object. Exists: the name is taken."""
        return await self._ask(Call("POST", path, role, writes=True), body, _JSON, {"fieldManager": MANAGER})

    async def ask(self, path: str, body: Json, *, role: str = READ) -> Json:
        """Posts a question (an access review): nothing is stored."""
        return await self._ask(Call("POST", path, role, writes=False), body)

    async def delete(self, path: str, *, role: str, uid: str, grace_s: int) -> Json:
        """Deletes exactly this object: another one of the same name is a Conflict."""
        body = {"gracePeriodSeconds": grace_s, "preconditions": {"uid": uid}}
        return await self._ask(Call("DELETE", path, role, writes=True), body)

    async def scale(self, path: str, replicas: int, resource_version: str, *, role: str) -> Json:
        """The scale subresource of a workload, compared with the version that was read."""
        body = {"metadata": {"resourceVersion": resource_version}, "spec": {"replicas": replicas}}
        return await self.merge(f"{path}/scale", body, role=role)

    async def evict(self, namespace: str, name: str, uid: str, *, role: str, dry_run: bool) -> None:
        """Evicts exactly this pod, as its disruption budget allows. OverBudget: it does not."""
        body = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": name, "namespace": namespace},
            "deleteOptions": {"preconditions": {"uid": uid}},
        }
        path = f"/api/v1/namespaces/{namespace}/pods/{name}/eviction"
        params = {"dryRun": "All"} if dry_run else {}
        await self._ask(Call("POST", path, role, writes=not dry_run), body, _JSON, params)

    async def watch(self, path: str, params: dict[str, str], for_s: float, role: str = READ) -> AsyncIterator[Json]:
        """Events from `resourceVersion` in `params` on, for at most `for_s` seconds. Expired: list again."""
        call = Call("GET", path, role, writes=False, watches=True)
        asked = {**params, "watch": "1", "allowWatchBookmarks": "true", "timeoutSeconds": str(max(1, int(for_s)))}
        try:
            async with asyncio.timeout(for_s), self._answer(call, None, _JSON, asked, for_s) as response:
                async for line in response.aiter_lines():
                    if len(line) > self._largest:
                        raise Permanent(f"{call.what}: one event is larger than {self._largest} bytes")
                    event = json.loads(line)
                    if event.get("type") == "ERROR":
                        told = event.get("object") or {}
                        raise fault(call, int(told.get("code") or 500), json.dumps(told).encode(), "")
                    yield event
        except (TimeoutError, httpx.ReadTimeout):
            return
        except httpx.HTTPError as error:
            raise Retryable(f"{call.what}: the watch broke ({type(error).__name__})") from error

    async def _pages(self, path: str, params: dict[str, str], role: str) -> Listing:
        items: list[Json] = []
        step: dict[str, str] = {}
        while True:
            call = Call("GET", path, role, writes=False)
            page = await self._ask(call, None, _JSON, {**params, "limit": str(PAGE), **step})
            items += page.get("items") or []
            about = page.get("metadata") or {}
            if not about.get("continue"):
                return Listing(tuple(items), str(about.get("resourceVersion", "")))
            step = {"continue": about["continue"]}

    async def _ask(
        self, call: Call, body: object = None, content: str = _JSON, params: dict[str, str] | None = None
    ) -> Json:
        sent: list[str] = []

        async def trace(event: str, _: Any) -> None:
            if event.endswith("send_request_headers.started"):
                sent.append(event)

        try:
            async with asyncio.timeout(self._timeout_s):
                async with self._answer(call, body, content, params or {}, self._timeout_s, trace) as response:
                    raw = await self._bounded(call, response)
        except (httpx.HTTPError, TimeoutError) as error:
            why = "no answer" if isinstance(error, TimeoutError | httpx.TimeoutException) else type(error).__name__
            said = f"{call.what}: {why} within {self._timeout_s} s"
            if call.writes and sent:
                raise Ambiguous(f"{said}; it was sent and may have been applied") from error
            raise Retryable(said) from error
        try:
            found = json.loads(raw)
        except ValueError as error:
            raise (Ambiguous if call.writes else Permanent)(f"{call.what}: the answer is not JSON") from error
        if not isinstance(found, dict):
            raise (Ambiguous if call.writes else Permanent)(f"{call.what}: the answer is not an object")
        return found

    @asynccontextmanager
    async def _answer(
        self, call: Call, body: object, content: str, params: dict[str, str], read_s: float, trace: Any = None
    ) -> AsyncIterator[httpx.Response]:
        """A 2xx answer whose body is still to be read. A token that was refused is read anew and tried once more."""
        for last in (False, True):
            headers = {"accept": _JSON}
            if (token := self._access.token.text()) is not None:
                headers["authorization"] = f"Bearer {token}"
            if body is not None:
                headers["content-type"] = content
            request = self._client.build_request(
                call.method,
                call.path,
                params=params,
                headers=headers,
                content=json.dumps(body) if body is not None else None,
                timeout=httpx.Timeout(self._timeout_s, read=read_s),
                extensions={"trace": trace} if trace is not None else None,
            )
            response = await self._client.send(request, stream=True)
            try:
                if response.status_code == 401 and not last and self._access.token.renew():
                    continue
                if not response.is_success:
                    raw = await _beginning(response)
                    raise fault(call, response.status_code, raw, response.headers.get("retry-after", ""))
                yield response
                return
            finally:
                await response.aclose()

    async def _bounded(self, call: Call, response: httpx.Response) -> bytes:
        raw = bytearray()
        async for part in response.aiter_bytes():
            raw += part
            if len(raw) > self._largest:
                kind = Ambiguous if call.writes else Permanent
                raise kind(f"{call.what}: the answer is larger than {self._largest} bytes")
        return bytes(raw)


async def _beginning(response: httpx.Response) -> bytes:
    """Of an error's body: what is longer says nothing more."""
    raw = b""
    async for part in response.aiter_bytes():
        raw += part
        if len(raw) > LARGEST_ERROR:
            break
    return raw[:LARGEST_ERROR]
