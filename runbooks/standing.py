"""How what stands is counted: a step's increments as one receipt, and that receipt in the Guard's book. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from runbooks.change import Blast, Receipt, one_way
from runbooks.facts import Settings, StandingReceipt


def merged(first: Receipt | None, latest: Receipt) -> Receipt:
    """Two increments of a step as one receipt: before the first, after the last, their blasts together.

    `restarting` and `changed` are of the moment of an act, and are not summed up.
    """
    if first is None:
        return latest
    a, b = first.blast, latest.blast
    blast = Blast(
        endpoints_down={
            k: a.endpoints_down.get(k, 0) + b.endpoints_down.get(k, 0)
            for k in _keys(a.endpoints_down, b.endpoints_down)
        },
        share_moved={
            k: a.share_moved.get(k, 0.0) + b.share_moved.get(k, 0.0) for k in _keys(a.share_moved, b.share_moved)
        },
        refused_share=a.refused_share + b.refused_share,
        reserved_tps={
            k: a.reserved_tps.get(k, 0.0) + b.reserved_tps.get(k, 0.0) for k in _keys(a.reserved_tps, b.reserved_tps)
        },
        nodes=tuple(_keys(a.nodes, b.nodes)),
        gpus=a.gpus + b.gpus,
    )
    return latest.model_copy(
        update={"before": {**latest.before, **first.before}, "after": {**first.after, **latest.after}, "blast": blast}
    )


def counted(rid: str, receipt: Receipt, under_way: bool = False) -> StandingReceipt:
    """How the Guard counts it. `under_way`: further increments of its step follow."""
    settings = moved(receipt.before, receipt.after)
    found = counted_as(rid, receipt.blast, receipt.case, receipt.lever, receipt.target_id, receipt.acted_at, settings)
    return found.model_copy(update={"under_way": under_way})


def moved(before: Settings, after: Settings) -> tuple[str, ...]:
    """The settings that differ and can be put back."""
    return tuple(k for k, value in after.items() if value != before.get(k) and not one_way(k))


def counted_as(
    rid: str, blast: Blast, case: str, lever: str, target_id: str, since: datetime, settings: tuple[str, ...]
) -> StandingReceipt:
    """The same for an act that may have no receipt: nobody knows whether it was applied."""
    return StandingReceipt(
        receipt_id=rid,
        case=case,
        lever=lever,
        target_id=target_id,
        endpoints_down=blast.endpoints_down,
        share_moved=blast.share_moved,
        reserved_tps=blast.reserved_tps,
        nodes=blast.nodes,
        gpus=blast.gpus,
        since=since,
        settings=settings,
    )


def is_of(rid: str, step: str) -> bool:
    """True for an id under which a step (`case/step`) stands: its own, of which it may have several, and what nobody knows
    the end of."""
    return rid == step or rid.startswith((f"{step}/uncertain", f"{step}~"))


def _keys(a: Iterable[str], b: Iterable[str]) -> list[str]:
    return list(dict.fromkeys([*a, *b]))
