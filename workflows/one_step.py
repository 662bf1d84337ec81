"""One step of the plan that is being run: what its parts share, and how it ends."""

from __future__ import annotations

from typing import Literal

from runbooks.levers import kind
from runbooks.plan import PlannedStep
from runbooks.record import StepRecord
from workflows.casefile import CaseFile
from workflows.increments import Increments

StepEnd = Literal[
    "mitigated",
    "observed",
    "refused",
    "undone",
    "rejected",
    "expired",
    "kept",
    "partly",
    "uncertain",
    "aborted",
    "replan",
    "resolved",
    "already",
    "enough",
    "stopped",
    "correlated",
]
HISTORY_AT_MOST = 1500
"""Events after which no further increment begins: undo, restore and the record still need room under 2,000."""


class OneStep:
    """Its record is in the case from the beginning. `step` is another object after a new plan that came out the same."""

    def __init__(self, case: CaseFile, moves: Increments, step: PlannedStep) -> None:
        self.case = case
        self.moves = moves
        self.step = step
        self.record = StepRecord(
            step_id=step.id, lever=step.step.lever, back=kind(step.step).value, targets=step.targets
        )
        case.record.steps.append(self.record)
        self.increment = 0
        self.proven = False  # what was done last was proven, and completes the step

    async def give_up(self, why: str) -> StepEnd:
        """Increments that were proven no worse stand, and what comes next in the runbook is added to them; after the last step
        people are told."""
        self.case.note("step refused", f"{self.step.id}: {why}")
        await self.moves.release(self.step, self.record, applied=False)
        return "refused" if self.record.standing is None else "partly"
