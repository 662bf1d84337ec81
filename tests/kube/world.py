"""What the API server says, kept up to date by watches: pods and budgets of a namespace, nodes. Subscribers hear of
every event in its order, after the books are updated and before anybody who waits for a condition wakes."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import aclosing
from functools import partial
from typing import Any

from tests.kube.control_plane import ControlPlane
from tests.kube.loop import LoopThread
from tests.kube.manifests import pod_serves, pool_of
from tests.kube.watching import Event, watch

Things = dict[str, dict[str, Any]]
Subscriber = Callable[[str, Event], None]
"""Called on the loop with "pods", "budgets" or "nodes" and the event. It must be quick."""


class World:
    """Three watches and a condition that is told of each event."""

    def __init__(self, control_plane: ControlPlane, namespace: str) -> None:
        self.control_plane = control_plane
        self.pods: Things = {}
        self.budgets: Things = {}
        self.nodes: Things = {}
        self._paths = {
            "pods": f"/api/v1/namespaces/{namespace}/pods",
            "budgets": f"/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets",
            "nodes": "/api/v1/nodes",
        }
        self._changed = threading.Condition()
        self._events = 0
        self.gaps = 0
        """How often a list had to be read anew: what happened just before that was not seen event by event."""
        self._subscribers: list[Subscriber] = []

    def start(self) -> None:
        """Returns when all three lists have been read."""
        self.loop = LoopThread("world")
        self.loop.call(self._open())

    def stop(self) -> None:
        """Ends the watches."""
        self.loop.stop(self._client.aclose())

    def subscribe(self, subscriber: Subscriber) -> None:
        """From now on, and not before what is known already: look at `pods` and `budgets` within the call."""

        async def add() -> None:
            for name, things in (("pods", self.pods), ("budgets", self.budgets), ("nodes", self.nodes)):
                for thing in things.values():
                    subscriber(name, Event("ADDED", thing))
            self._subscribers.append(subscriber)

        self.loop.call(add())

    def unsubscribe(self, subscriber: Subscriber) -> None:
        """Not called any more when this returns."""

        async def remove() -> None:
            self._subscribers.remove(subscriber)

        self.loop.call(remove())

    def wait(self, condition: Callable[[], Any], what: str, deadline_s: float = 30.0) -> Any:
        """Block until the condition is true, asked at each event and, since it may rest on more than these books, ten
        times a second; its value. AssertionError with `what` at the deadline."""
        end = time.monotonic() + deadline_s
        while True:
            seen = self._events
            # Asked without the lock: a condition may itself ask a server, and the watch goes on meanwhile.
            if value := condition():
                return value
            left = end - time.monotonic()
            if left <= 0:
                raise AssertionError(f"not within {deadline_s} s: {what}\n{self.told()}")
            with self._changed:
                if self._events == seen:
                    self._changed.wait(min(left, 0.1))

    def caught_up(self, deadline_s: float = 10.0) -> None:
        """Block until every event up to now has been seen: the books equal a fresh list."""
        api = self.control_plane.api
        for name, things in (("pods", self.pods), ("budgets", self.budgets)):
            fresh = {i["metadata"]["uid"]: _version(i) for i in api.get(self._paths[name])["items"]}
            self.wait(partial(_beyond, fresh, things), f"the watch of {name} catches up", deadline_s)

    def of_pool(self, pool: str) -> list[dict[str, Any]]:
        """Pods with that label, by name."""
        found = [p for p in tuple(self.pods.values()) if pool_of(p) == pool]
        return sorted(found, key=lambda p: str(p["metadata"]["name"]))

    def serving(self, pool: str) -> list[dict[str, Any]]:
        """Those that are Ready and not being deleted."""
        return [p for p in self.of_pool(pool) if pod_serves(p)]

    def node(self, name: str) -> dict[str, Any]:
        """A node as it is. KeyError."""
        for node in tuple(self.nodes.values()):
            if node["metadata"]["name"] == name:
                return node
        raise KeyError(name)

    def told(self) -> str:
        """One line per pod and node, for failure messages."""
        lines = [
            f"pod {p['metadata']['name']} on {p['spec'].get('nodeName', '-')} {p['status'].get('phase')}"
            f" serves={pod_serves(p)} deleting={'deletionTimestamp' in p['metadata']} {_why(p)}"
            for p in tuple(self.pods.values())
        ]
        lines += [
            f"node {n['metadata']['name']} {_why(n)} {n['spec'].get('taints', '')}" for n in tuple(self.nodes.values())
        ]
        return "\n".join(lines)

    async def _open(self) -> None:
        self._client = self.control_plane.async_client()
        synced = [asyncio.Event() for _ in self._paths]
        books = (self.pods, self.budgets, self.nodes)
        for (name, path), things, event in zip(self._paths.items(), books, synced, strict=True):
            self.loop.spawn(self._follow(name, path, things, event))
        await asyncio.wait_for(asyncio.gather(*(s.wait() for s in synced)), 30)

    async def _follow(self, name: str, path: str, things: Things, synced: asyncio.Event) -> None:
        async with aclosing(watch(self._client, path)) as events:
            async for event in events:
                if event.kind == "SYNCED":
                    self.gaps += synced.is_set()
                    synced.set()
                    continue
                with self._changed:
                    uid = event.thing["metadata"]["uid"]
                    if event.kind == "DELETED":
                        things.pop(uid, None)
                    else:
                        things[uid] = event.thing
                    for subscriber in tuple(self._subscribers):
                        subscriber(name, event)
                    self._events += 1
                    self._changed.notify_all()


def _version(thing: dict[str, Any]) -> int:
    return int(thing["metadata"]["resourceVersion"])


def _beyond(fresh: dict[str, int], things: Things) -> bool:
    """True when the books are as new as the list in every object that both have, and miss none of those it has unless
    they have seen it go."""
    known = {uid: _version(t) for uid, t in tuple(things.items())}
    newest = max(known.values(), default=0)
    return all(known.get(uid, newest) >= version for uid, version in fresh.items())


def _why(thing: dict[str, Any]) -> str:
    return " ".join(
        f"{c['type']}={c['status']}({c.get('reason', '')}: {c.get('message', '')[:80]})"
        for c in thing["status"].get("conditions", [])
        if c["type"] in ("Ready", "PodScheduled")
    )
