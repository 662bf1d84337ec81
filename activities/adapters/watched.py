"""A Prober that answers from the watcher's newest look, so that a gate does not wait for a hung engine's time-out again."""

from __future__ import annotations

from activities.adapters.probe import HttpProber
from activities.adapters.watch import PoolWatcher
from activities.ports import Generation


class WatchedProber:
    """Implements Prober for judging. Verify asks anew with HttpProber: a look from before the act proves nothing."""

    def __init__(self, prober: HttpProber, watcher: PoolWatcher) -> None:
        self._prober = prober
        self._watcher = watcher

    async def generate(self, scope: str) -> Generation:
        """The newest look when it is fresh, else a generation now. Errors as HttpProber's."""
        look = self._watcher.newest(scope)
        if look is None:
            return await self._prober.generate(scope)
        if look.generation.ok or not look.busy:
            return look.generation
        # It gave tokens to others while our probe waited: busy, not hung (evidence of gonka PR #1421).
        return look.generation.model_copy(update={"ok": True, "why": "busy: its token counter rises"})

    def knows(self, scope: str) -> bool:
        """As the prober's."""
        return self._prober.knows(scope)
