"""After the storm: what was accepted and is nowhere, what was done twice, and what else design 8 forbids.

Judged by others than the actors: records and receipts as the journal's file holds them, acts as Envoy counts them, open
cases as Temporal lists them. The judgement itself is in kills_judge.py.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from temporalio.client import WorkflowQueryFailedError
from temporalio.service import RPCError
from temporalio.worker import Replayer

from runbooks.detection import guard_id
from runbooks.facts import GuardView
from tests.bench import kills_judge as judge
from tests.bench.kills_plant import Plant
from tests.bench.kills_site import PER_POOL, TOKEN
from tests.bench.kills_storm import Storm
from worker.plugin import interlock_plugin

CLOSED_WITHIN_S = 240.0


@dataclass(frozen=True)
class Verdict:
    """What one run came to. `wrong`: one sentence per invariant that did not hold. `ended`: ends that were no kill."""

    seed: int
    accepted: int
    lost: tuple[str, ...]
    twice: tuple[str, ...]
    wrong: tuple[str, ...]
    acts: int
    records: int
    kills: dict[str, int]
    ended: dict[str, int]
    hangs: dict[str, int]
    refused: int
    seconds: float

    @property
    def good(self) -> bool:
        """Nothing lost, nothing twice, nothing forbidden."""
        return not (self.lost or self.twice or self.wrong)

    def __str__(self) -> str:
        kills = " ".join(f"{k}={n}" for k, n in self.kills.items())
        lines = [
            f"seed {self.seed}: accepted {self.accepted}, lost {len(self.lost)}, twice {len(self.twice)}, "
            f"wrong {len(self.wrong)}; kills {kills}; acts {self.acts}, closed cases {self.records}, "
            f"hangs {self.hangs}, tries refused {self.refused}, ended by themselves {self.ended}, {self.seconds:.0f} s"
        ]
        for what, found in (("lost", self.lost), ("twice", self.twice), ("wrong", self.wrong)):
            lines += [f"  {what}: {one}" for one in found[:20]]
        return "\n".join(lines)


async def audit(storm: Storm, seed: int, began: float) -> Verdict:
    """Waits for every case to close, then judges."""
    plant = storm.plant
    still = await _all_closed(plant)
    records, rows = _journal(plant.folder / "journal.db")
    updates = await plant.counted("update_success")
    taken_in = {p.name: updates.get(p.name, 0) - plant.before.get(p.name, 0) for p in plant.fleet.pools}
    wrong = [f"{name} is still open after {CLOSED_WITHIN_S:.0f} s" for name in still]
    wrong += judge.never_made(rows, taken_in) + judge.forbidden(rows)
    wrong += await _world(plant) + await _replays(plant) + _secrets(plant.folder)
    return Verdict(
        seed=seed,
        accepted=len(storm.accepted),
        lost=tuple(judge.lost(storm.accepted, records, storm.resolved, storm.seen)),
        twice=tuple(judge.twice(rows, taken_in)),
        wrong=tuple(wrong),
        acts=len(judge.acts(rows)),
        records=len(records),
        kills={k: one.kills for k, one in plant.kept.items()} | ({"ill": storm.ills} if storm.ills else {}),
        ended={k: one.ended for k, one in plant.kept.items() if one.ended},
        hangs=dict(Counter(r["outcome"] for r in records if "/endpoint/" in r["workflow_id"])),
        refused=storm.refused,
        seconds=time.monotonic() - began,
    )


async def _all_closed(plant: Plant) -> list[str]:
    """Waits; ids of the cases that are still open at the deadline."""
    end = time.monotonic() + CLOSED_WITHIN_S
    query = 'WorkflowType = "Remediation" AND ExecutionStatus = "Running"'
    names = ["not asked yet"]
    while names and time.monotonic() < end:
        try:
            names = [w.id async for w in plant.client.list_workflows(query)]
        except RPCError:
            names = ["Temporal did not answer"]
        await asyncio.sleep(0.5)
    return names


def _journal(path: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Closed records, and the rows of receipts, oldest first."""
    with closing(sqlite3.connect(path)) as db:
        db.row_factory = sqlite3.Row
        records = [json.loads(r["record"]) for r in db.execute("SELECT record FROM cases ORDER BY seq")]
        rows = [dict(r) for r in db.execute("SELECT * FROM receipts ORDER BY seq")]
    for row in rows:
        row["receipt"] = json.loads(row["receipt"])
    return records, rows


async def _world(plant: Plant) -> list[str]:
    """Invariants 4 and 5 at the actuator: never fewer than two of three, all back at the end, and no lock held."""
    wrong = [
        f"{pool}: {count} of {PER_POOL} endpoints were in rotation at one moment"
        for pool, count in plant.lowest.items()
        if count < PER_POOL - 1
    ]
    wrong += [f"{p}: {n} of {PER_POOL} are in rotation" for p, n in (await plant.rotation()).items() if n != PER_POOL]
    for domain in plant.domains:
        view = await _view(plant, domain)
        if view.holder is not None or view.standing:
            wrong.append(f"the Guard of {domain}: holder {view.holder}, {len(view.standing)} standing")
    return wrong


async def _view(plant: Plant, domain: str) -> GuardView:
    """The Guard's own word, as soon as it can say."""
    end = time.monotonic() + CLOSED_WITHIN_S
    while True:
        try:
            found: GuardView = await plant.client.get_workflow_handle(guard_id(domain)).query(
                "view", result_type=GuardView
            )
        except (RPCError, WorkflowQueryFailedError):
            if time.monotonic() > end:
                raise
            await asyncio.sleep(0.5)
        else:
            return found


async def _replays(plant: Plant) -> list[str]:
    """What acted was decided by what a replay has as well: else the next worker could not have gone on with it."""
    wrong, replayer = [], Replayer(workflows=[], plugins=[interlock_plugin()])
    async for run in plant.client.list_workflows('WorkflowType = "Remediation"'):
        if "/endpoint/" in run.id:
            history = await plant.client.get_workflow_handle(run.id, run_id=run.run_id).fetch_history()
            found = await replayer.replay_workflow(history, raise_on_replay_failure=False)
            wrong += [f"the history of {run.id} does not replay: {found.replay_failure}"] * bool(found.replay_failure)
    return wrong


def _secrets(folder: Path) -> list[str]:
    """Invariant 7: the detectors' token is in its own file and nowhere else."""
    kept = [p for p in folder.glob("*") if p.is_file() and p.name != "token"]
    return [f"{p.name} holds the detectors' token" for p in kept if TOKEN.encode() in p.read_bytes()]
