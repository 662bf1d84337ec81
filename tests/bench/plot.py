"""The plot: paced latency of every contestant on one logarithmic axis, p50 to p99, with its ratio to Robusta's p50."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Any

WIDTH, LEFT, RIGHT, ROW, TOP = 860, 190, 150, 46, 64
INK, SOFT, OURS, THEIRS = "#1f2933", "#7b8794", "#0b6e4f", "#8a5a00"


def draw(rows: Sequence[Any], base: float | None) -> str:
    """SVG text. A contestant without a figure has its reason instead of a bar."""
    shown = [r.paced.act for r in rows if r.paced and r.paced.act]
    low, high = 1.0, max([100.0, *(a.p99 for a in shown)])
    top = 10 ** math.ceil(math.log10(high))

    def x(ms: float) -> float:
        share = math.log10(max(ms, low) / low) / math.log10(top / low)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    height = TOP + ROW * len(rows) + 42
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="16" y="26" font-size="16" font-weight="bold" fill="{INK}">Alert sent → first actuator call, paced</text>',
        f'<text x="16" y="46" fill="{SOFT}">bar p50 to p99, tick p95, milliseconds, logarithmic; × is p50 against Robusta</text>',
    ]
    bottom = TOP + ROW * len(rows)
    mark = low
    while mark <= top:
        out.append(f'<line x1="{x(mark):.1f}" y1="{TOP}" x2="{x(mark):.1f}" y2="{bottom}" stroke="#e4e7eb"/>')
        out.append(f'<text x="{x(mark):.1f}" y="{bottom + 18}" text-anchor="middle" fill="{SOFT}">{mark:,.0f}</text>')
        mark *= 10
    for n, row in enumerate(rows):
        y = TOP + ROW * n + ROW / 2
        out.append(f'<text x="16" y="{y + 4}" fill="{INK}">{escape(row.name)}</text>')
        act = row.paced.act if row.paced else None
        if act is None:
            why = row.cannot or "not measured"
            out.append(f'<text x="{LEFT}" y="{y + 4}" fill="{SOFT}">{escape(why[:90])}</text>')
            continue
        colour = OURS if row.name.startswith("Interlock") else THEIRS
        wide = max(3.0, x(act.p99) - x(act.p50))
        out.append(
            f'<rect x="{x(act.p50):.1f}" y="{y - 9}" width="{wide:.1f}" height="18" rx="3" fill="{colour}" opacity="0.85"/>'
        )
        out.append(f'<line x1="{x(act.p95):.1f}" y1="{y - 12}" x2="{x(act.p95):.1f}" y2="{y + 12}" stroke="{INK}"/>')
        ratio = f" ×{act.p50 / base:.2f}" if base else ""
        label = f"{act.p50:,.0f} … {act.p99:,.0f}{ratio}"
        out.append(f'<text x="{x(act.p99) + 8:.1f}" y="{y + 4}" fill="{INK}">{label}</text>')
    return "\n".join([*out, "</svg>"]) + "\n"
