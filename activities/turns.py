"""Writes down in which order a Guard was told things: a replay after a Reset brings them in another one."""

from __future__ import annotations

from temporalio import activity

from runbooks.base import Model


class Came(Model):
    """Marks of signals and updates, in the order in which they came."""

    marks: tuple[str, ...]


class TurnActivities:
    """See workflows/guard_turns.py."""

    @activity.defn(name="in_order")
    async def in_order(self, came: Came) -> Came:
        """What it is given. The first answer is in the history, and every replay gets that one."""
        return came
