"""Remediation: one per target. What Temporal starts; all that it does is in `rounds.py`.

The sandbox reads this module anew for every case, and keeps it as long as the case: it must be small. With the spine in it a
waiting case cost half a megabyte and, where Python may write no bytecode, its first task began by compiling it.
"""

from __future__ import annotations

from temporalio import workflow
from temporalio.common import RawValue

from runbooks.record import CaseResult
from workflows.loose import NOTHING
from workflows.rounds import Rounds


@workflow.defn(name="Remediation")
class Remediation(Rounds):
    """Durable mitigation of one target, from the first detection to closed."""

    @workflow.run
    async def run(self, raw: RawValue = NOTHING) -> CaseResult:
        """`raw` is loosely typed on purpose: a wrong payload must close the case with its reason, not fail its tasks for ever."""
        return await self.rounds(raw)
