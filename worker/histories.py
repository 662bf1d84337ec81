"""Replays histories with today's workflows and says every difference: of the commands, of what is in them, of verdicts.

The SDK's Replayer sees another order of commands, and nothing of what is in them (docs/adr/0016).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from google.protobuf.json_format import ParseError
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer

from worker.histories_asked import Asked
from worker.histories_beside import ENDING, BadHistory, Beside
from worker.histories_compare import LOCAL, Checked, compare
from worker.histories_diff import is_hash
from worker.histories_held import held
from worker.histories_judge import judge_again
from worker.histories_shape import Decision
from worker.plugin import interlock_plugin

_EVENT = re.compile(r"HistoryEvent\(id: (\d+)")
_MESSAGE = re.compile(r'message: "(.*?)", source: ')


def files_of(given: Iterable[Path]) -> list[Path]:
    """The histories of files and folders. BadHistory for what is not there, and when there is none at all."""
    found: list[Path] = []
    for path in given:
        if not path.exists():
            raise BadHistory(f"{path}: there is no such file or folder")
        inside = sorted(path.glob("*.json")) if path.is_dir() else [path]
        found += [p for p in inside if not p.name.endswith(ENDING)]
    if not found:
        raise BadHistory("there is no history: name a JSON file of one, or a folder that has some")
    return found


def read(path: Path) -> WorkflowHistory:
    """BadHistory when it is none."""
    try:
        return parsed(path.read_text())
    except (OSError, ValueError, KeyError, IndexError, TypeError, ParseError) as error:
        why = f"{type(error).__name__}: {str(error)[:120]}"
        raise BadHistory(f"{path}: this is no workflow history in JSON ({why})") from None


def parsed(text: str) -> WorkflowHistory:
    """The history under its own id: a case under another id would forward its detection."""
    started = json.loads(text)["events"][0]["workflowExecutionStartedEventAttributes"]
    return WorkflowHistory.from_json(started["workflowId"], text)


async def check(name: str, history: WorkflowHistory, beside: Beside | None = None) -> Checked:
    """One history, under `name`, with what stands beside it."""
    beside = beside or Beside()
    asked = Asked()
    replayer = Replayer(workflows=[], plugins=[interlock_plugin(), asked.plugin()])
    result = await replayer.replay_workflow(history, raise_on_replay_failure=False)
    found = Checked(name, history.events, held(history.events))
    own_queue = history.events[0].workflow_execution_started_event_attributes.task_queue.name
    now = asked.decisions(own_queue)
    upto = len(history.events) + 1
    if result.replay_failure is not None:
        text = str(result.replay_failure)
        # After it nothing is in its place any more: one line, and not one for each thing that follows.
        upto = _broken_at(text, found.then, now, max((at for at, _ in asked.tasks), default=0))
        message = _MESSAGE.search(text)
        found.differs(upto, f"the replay breaks off: {message[1] if message else text}")
    compare(found, now, beside, upto)
    judge_again(found, beside, upto)
    found.differences.sort(key=lambda d: d.event)
    return found


def _broken_at(text: str, then: Sequence[Decision], now: Sequence[Decision], task: int) -> int:
    """The event that the SDK names; else the first one of the last task, or after it, that is something else now."""
    if named := _EVENT.search(text):
        return int(named[1])
    names = {d.key: d.name for d in now}
    return next((d.event for d in then if d.event > task and names.get(d.key) != d.name), task)


def accepted(found: Checked, beside: Beside, *, everything: bool = False) -> Beside:
    """What stands beside it from now on: its local activities, the policies and the fleet of its verdicts, and whatever is
    not as the history has it: `everything`, or where only the SDK's clock ran otherwise (docs/adr/0016)."""
    clocked = {d.event for d in found.differences} - {d.event for d in found.differences if not d.of_clock}
    if not any(d.of_clock and isinstance(d.then, str) and not is_hash(d.then) for d in found.differences):
        clocked = set()  # hashes alone follow from nothing
    differ = {d.event for d in found.differences} if everything else clocked
    judged = {d.event for d in found.differences if d.what.startswith("verdict")} & differ
    keep = {d.event for d in found.then if d.key[0] == LOCAL} | set(beside.asked) | differ
    return Beside(
        asked={e: fields for e, fields in found.asked.items() if e in keep},
        verdicts={e: v for e, v in found.verdicts.items() if e in judged | set(beside.verdicts)},
        policies={ref: policy for ref, policy in beside.policies.items() if ref in found.policies},
        fleet=beside.fleet if found.policies else None,
    )
