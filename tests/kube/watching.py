"""List and watch, as a Kubernetes client has to: every change once and in order, and a new list when the log has moved on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Literal

import httpx

Kind = Literal["ADDED", "MODIFIED", "DELETED", "SYNCED"]
AGAIN_S = 0.2


@dataclass(frozen=True)
class Event:
    """One change. SYNCED comes after each list, without an object: what was told so far is all that there is."""

    kind: Kind
    thing: dict[str, Any]


class _Gone(Exception):
    """The server no longer has the events after our resourceVersion."""


async def watch(client: httpx.AsyncClient, path: str, **params: str) -> AsyncGenerator[Event]:
    """Events of a collection for ever. A server that is away, slow or answers an error is asked again."""
    known: dict[str, dict[str, Any]] = {}
    while True:
        try:
            answer = (await client.get(path, params=params)).raise_for_status().json()
        except httpx.HTTPError:
            await asyncio.sleep(AGAIN_S)
            continue
        for event in _differences(known, answer["items"]):
            yield event
        yield Event("SYNCED", {})
        async with aclosing(_since(client, path, params, answer["metadata"]["resourceVersion"])) as events:
            async for event in events:
                uid = event.thing["metadata"]["uid"]
                if event.kind == "DELETED":
                    known.pop(uid, None)
                else:
                    known[uid] = event.thing
                yield event


async def _since(client: httpx.AsyncClient, path: str, params: dict[str, str], version: str) -> AsyncGenerator[Event]:
    """Every event after a version, over as many connections as it takes; ends when the server has them no more."""
    while True:
        try:
            async for event in _stream(client, path, {**params, "resourceVersion": version}):
                version = event.thing["metadata"]["resourceVersion"]
                yield event
        except _Gone:
            return
        except httpx.HTTPError:
            # Taken up where it broke off. A new list here would swallow what happened in between.
            await asyncio.sleep(AGAIN_S)


def _differences(known: dict[str, dict[str, Any]], items: list[dict[str, Any]]) -> list[Event]:
    """What a list says beyond what is known, which becomes the list."""
    listed = {item["metadata"]["uid"]: item for item in items}
    events = [Event("DELETED", thing) for uid, thing in known.items() if uid not in listed]
    for uid, thing in listed.items():
        before = known.get(uid)
        if before is None:
            events.append(Event("ADDED", thing))
        elif before["metadata"]["resourceVersion"] != thing["metadata"]["resourceVersion"]:
            events.append(Event("MODIFIED", thing))
    known.clear()
    known.update(listed)
    return events


async def _stream(client: httpx.AsyncClient, path: str, params: dict[str, str]) -> AsyncGenerator[Event]:
    timeout = httpx.Timeout(10, read=None)  # quiet for minutes is normal; the server ends it after timeoutSeconds
    asked = {**params, "watch": "true", "timeoutSeconds": "300"}
    async with client.stream("GET", path, params=asked, timeout=timeout) as answer:
        if answer.status_code == httpx.codes.GONE:
            raise _Gone
        answer.raise_for_status()
        async for line in answer.aiter_lines():
            said = json.loads(line)
            if said["type"] == "ERROR":
                raise _Gone
            yield Event(said["type"], said["object"])
