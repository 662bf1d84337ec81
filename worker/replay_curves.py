"""What a simulated site measured, thinned out for a picture. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from activities.adapters.fluid_account import Account, Row
from worker.replay_svg import Curves

MOST_POINTS = 240
T = TypeVar("T")


def curves(account: Account, alone: Account) -> Curves:
    """Of this run; `alone`: of the one in which nobody did anything."""
    if not account.series:
        return Curves()
    rows = _parts(account.series, -(-len(account.series) // MOST_POINTS))
    at = tuple(round(part[-1].t_s, 1) for part in rows)
    pools = account.series[0].pools
    return Curves(
        at=at,
        load={p: tuple(_mean(part, lambda r, p=p: r.pools[p].load_tps) for part in rows) for p in pools},  # type: ignore[misc]
        capacity={p: tuple(_mean(part, lambda r, p=p: r.pools[p].capacity_tps) for part in rows) for p in pools},  # type: ignore[misc]
        failed=tuple(_mean(part, failing) for part in rows),
        refused=tuple(_mean(part, refused) for part in rows),
        nothing=tuple(_near(alone.series, at)),
    )


def bad(row: Row) -> float:
    """Requests/s of users that got no right answer."""
    return failing(row) + refused(row)


def failing(row: Row) -> float:
    """Those that failed or were answered wrongly."""
    return sum(sum(u.failed.values()) + u.wrong for u in row.routes.values())


def refused(row: Row) -> float:
    """Those that an act refused."""
    return sum(sum(u.refused.values()) for u in row.routes.values())


def _parts(rows: Sequence[T], size: int) -> list[Sequence[T]]:
    return [rows[n : n + size] for n in range(0, len(rows), size)]


def _mean(rows: Sequence[Row], value: Callable[[Row], float]) -> float:
    return float(f"{sum(map(value, rows)) / len(rows):.4g}")


def _near(rows: Sequence[Row], at: Sequence[float]) -> list[float]:
    """Means of the same spans of time of another run."""
    found: list[float] = []
    n = 0
    for end in at:
        part: list[Row] = []
        while n < len(rows) and rows[n].t_s <= end + 1e-6:
            part.append(rows[n])
            n += 1
        found.append(_mean(part, bad) if part else found[-1] if found else 0.0)
    return found
