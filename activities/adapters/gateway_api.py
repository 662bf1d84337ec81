"""The two calls that the HTTPRoute adapter makes, and how a route is read by them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

from activities.adapters.gateway_route import Patch, Place, RouteObject, parse

ROLE = "reroute_traffic.yaml"
"""The manifest that allows these two calls: get and patch of httproutes."""


class RouteApi(Protocol):
    """What `KubeApi` is asked here. Errors are those of `activities/adapters/kube_errors.py`."""

    async def get(self, path: str, role: str) -> dict[str, Any]:
        """One object, never from a cache that may lag."""
        ...

    async def patch(self, path: str, ops: Patch, *, role: str) -> dict[str, Any]:
        """The object as patched. Refused: a test failed, or the server does not take it. Ambiguous: no answer came."""
        ...


async def load(api: RouteApi, place: Place) -> RouteObject:
    """One HTTPRoute as it stands now."""
    return parse(place, await api.get(place.path, role=ROLE))


async def load_all(api: RouteApi, places: Sequence[Place]) -> list[RouteObject]:
    """Several, at once, in order."""
    return list(await asyncio.gather(*(load(api, place) for place in places)))
