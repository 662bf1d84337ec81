"""What happened in a play, for the page: bars and marks on the time axis, and one table of events. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from runbooks.incident import Incident
from runbooks.incident_faults import Fault
from runbooks.plan import GateVerdict
from runbooks.record import CaseRecord
from worker.replay_detectors import Said
from worker.replay_play import Played
from worker.replay_result import Refused
from worker.replay_svg import Bar
from worker.replay_watch import Checked

MOST_ROWS = 200
"""Rows of an incident's table; a storm has thousands, of which the first tell enough."""
WHERE = ("pool", "pools", "route", "node", "cluster", "name", "of", "by")
"""Fields of a fault that say where, the first that it has."""


def refused(played: Played) -> list[Refused]:
    """Each lever that a gate, the planner, the Guard or people kept from being done, once per gate and target."""
    found: dict[tuple[str, str, str], Refused] = {}
    for one in played.checks:
        for lever, gate, why in _against(one):
            target = one.request.target.id
            found.setdefault((lever, gate, target), Refused(lever, gate, why, target))
    for record in played.records:
        target = record.target.id if record.target is not None else ""
        for step in record.steps:
            if step.end in ("rejected", "expired"):
                why = "people rejected it" if step.end == "rejected" else "nobody approved it in time"
                found.setdefault((step.lever, "people", target), Refused(step.lever, "people", why, target))
    return list(found.values())


def _against(one: Checked) -> Iterator[tuple[str, str, str]]:
    if one.request.purpose != "act":
        return
    lever, result = one.request.step.step.lever, one.result
    for gate in result.verdict.gates:
        if gate.outcome in ("deny", "hold"):
            yield lever, gate.gate, gate.reason
            if _by_planner(one, gate):
                yield lever, "planner", gate.reason
    # "Not yet" (the domain settles, others are first) is asked again in a moment, and no refusal.
    if result.guard in ("halted", "correlated") or (result.guard == "refused" and result.retry_after_s <= 0):
        yield lever, "guard", result.guard_why


def _by_planner(one: Checked, gate: GateVerdict) -> bool:
    """G8 passes on what the planner says when it finds no change that would be safe."""
    return gate.gate == "G8" and not gate.unknown and one.result.change is None and not one.result.complete


def given_bars(incident: Incident, said: Sequence[Said], end: float) -> list[Bar]:
    """What went wrong, and what detectors said of it. `end`: seconds after the start."""
    return [*_faults(incident, end), *_alerts(incident, said, end)]


def _faults(incident: Incident, end: float) -> Iterator[Bar]:
    for fault in incident.timeline.faults:
        ends = incident.seconds(fault.ends) if fault.ends is not None else end
        lasts = fault.fault != "by_hand"
        yield Bar(
            lane="what went wrong",
            kind="fault" if lasts else "hand",
            starts=incident.seconds(fault.at),
            ends=ends if lasts else None,
            text=fault_words(fault),
        )


def _alerts(incident: Incident, said: Sequence[Said], end: float) -> Iterator[Bar]:
    since: dict[str, float] = {}
    names = {s.detection.key: f"{s.detection.alert} {s.detection.target.id}" for s in said}
    for one in said:
        key, at = one.detection.key, round((one.at - incident.starts).total_seconds(), 1)
        if one.detection.status == "firing":
            since.setdefault(key, at)
        elif key in since:
            yield Bar(lane="alerts", kind="alert", starts=since.pop(key), ends=at, text=names[key])
    for key, starts in since.items():
        yield Bar(lane="alerts", kind="alert", starts=starts, ends=end, text=names[key])


class Story:
    """`zero`: what the axis counts from."""

    def __init__(self, incident: Incident, played: Played, turned_down: list[Refused]) -> None:
        self._incident, self._played, self._refused = incident, played, turned_down
        self._zero, self._end = played.starts, (played.ended - played.starts).total_seconds()

    def _s(self, at: datetime) -> float:
        return round((at - self._zero).total_seconds(), 1)

    def bars(self) -> list[Bar]:
        """By lane, in the order in which they are drawn."""
        first = given_bars(self._incident, self._played.said, self._end)
        return [*first, *self._held(), *self._asked(), *self._acts(), *self._told()]

    def _held(self) -> Iterator[Bar]:
        """One mark for a lever that was refused at one moment, with all the gates that were against it."""
        seen: set[tuple[str, str]] = set()
        for one in self._played.checks:
            against = list(_against(one))
            fresh = [(lever, gate, why) for lever, gate, why in against if (lever, gate) not in seen]
            if not fresh:
                continue
            seen |= {(lever, gate) for lever, gate, _ in fresh}
            gates = ", ".join(gate for _, gate, _ in fresh)
            yield Bar(
                lane="held back",
                kind="refused",
                starts=self._s(one.at),
                text=f"{fresh[0][0]}: {gates}",
                full="\n".join(f"{lever} by {gate}: {why}" for lever, gate, why in fresh),
            )

    def _asked(self) -> Iterator[Bar]:
        for record in self._played.records:
            open_since: float | None = None
            for row in record.timeline:
                if row.what == "approval asked":
                    open_since = self._s(row.at)
                elif open_since is not None and row.what.split(" ")[0] in ("approved", "rejected", "gates:", "people"):
                    if row.what.startswith("people"):
                        continue
                    yield Bar(lane="people", kind="asked", starts=open_since, ends=self._s(row.at), text="asked")
                    open_since = None
        for word in self._played.words:
            kind = "said" if word.counted else "unheard"
            text = f"{word.who}: {word.says}" + ("" if word.counted else " (did not count)")
            yield Bar(lane="people", kind=kind, starts=self._s(word.at), text=text, full=f"{text}\n{word.why}")

    def _acts(self) -> Iterator[Bar]:
        """How long each step's change stood, and each proof."""
        for record in self._played.records:
            for step in record.steps:
                if step.receipts:
                    first, last = step.receipts[0].acted_at, step.receipts[-1].acted_at
                    stands = step.standing is not None or len(step.receipts) == 1
                    until = record.closed_at or self._played.ended
                    yield Bar(
                        lane="Interlock",
                        kind="act" if step.back == "restorable" else "final",
                        starts=self._s(first),
                        ends=self._s(until if stands else last) if step.back == "restorable" else None,
                        text=f"{step.lever} {_short_target(record)}",
                        full=f"{step.lever} on {', '.join(step.targets)}: {step.end or 'under way'}",
                    )
        for proof in self._played.proofs:
            outcome = proof.effect.outcome
            yield Bar(
                lane="Interlock",
                kind=outcome,
                starts=self._s(proof.at),
                text="" if outcome == "better" else outcome.replace("_", " "),
                full=f"{outcome.replace('_', ' ')}: {proof.effect.why}",
            )

    def _told(self) -> Iterator[Bar]:
        for page in self._played.pages:
            if page.matters:
                yield Bar(
                    lane="people told",
                    kind="page",
                    starts=self._s(page.at),
                    text=page.request.title,
                    full=page.request.body,
                )

    def rows(self) -> list[dict[str, str | float]]:
        """Everything that happened, by time."""
        found: list[dict[str, str | float]] = [
            {"at": self._incident.seconds(f.at), "what": "fault", "text": fault_words(f), "case": ""}
            for f in self._incident.timeline.faults
        ]
        for record in self._played.records:
            for row in record.timeline:
                found.append({"at": self._s(row.at), "what": row.what, "text": row.text, "case": _short_target(record)})
        found.sort(key=lambda r: (float(r["at"]), str(r["case"])))
        if len(found) > MOST_ROWS:
            left = len(found) - MOST_ROWS
            found[MOST_ROWS:] = [{"at": self._end, "what": "…", "text": f"{left} more rows", "case": ""}]
        return found

    def people(self) -> dict[str, float]:
        """How often they were asked, what they answered, and how long that took in all, seconds."""
        counts = {"asked": 0.0, "approved": 0.0, "rejected": 0.0, "expired": 0.0, "waited_s": 0.0}
        for record in self._played.records:
            counts["asked"] += sum(e.what == "approval asked" for e in record.timeline)
            counts["approved"] += sum(d.action == "decide" and d.accepted and d.approve for d in record.decisions)
            counts["rejected"] += sum(s.end == "rejected" for s in record.steps)
            counts["expired"] += sum(s.end == "expired" for s in record.steps)
        counts["waited_s"] = sum((b.ends or b.starts) - b.starts for b in self._asked() if b.kind == "asked")
        return counts


def fault_words(fault: Fault) -> str:
    """`hang of pool-a`, `by_hand: weight/chat/a = 0`."""
    data: Mapping[str, object] = fault.model_dump()
    if fault.fault == "by_hand":
        return f"{fault.by}: " + ", ".join(f"{k} = {v}" for k, v in fault.sets.items())
    where = next((data[f] for f in WHERE if data.get(f)), "")
    named = ", ".join(map(str, where)) if isinstance(where, tuple) else str(where)
    return f"{fault.fault.replace('_', ' ')} {named}".strip()


def _short_target(record: CaseRecord) -> str:
    target = record.target
    if target is None:
        return "?"
    if target.gpu is not None:
        return f"{target.node} gpu {target.gpu}"
    return target.endpoint or target.node or target.service or target.cluster
