"""One reading for all who want the same while it is under way: sixty looks at one pool ask each engine once, not sixty times.

Nothing is kept: who comes after it has ended reads anew. What is told bears the time at which it was read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, TypeVar, cast

T = TypeVar("T")


class Joined:
    """By key. A reading goes on when somebody who waits for it is cancelled: others may wait as well."""

    def __init__(self) -> None:
        self._under_way: dict[Hashable, asyncio.Task[Any]] = {}

    async def read(self, key: Hashable, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What the reading of this key that is under way gives, or else `make`'s. Raises what that raises."""
        task = self._under_way.get(key)
        if task is None:
            task = self._under_way[key] = asyncio.create_task(make())
            task.add_done_callback(lambda _: self._under_way.pop(key))
        return cast(T, await asyncio.shield(task))
