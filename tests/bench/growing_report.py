"""The tables of the growing measures, as Markdown and JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Rows = Sequence[dict[str, Any]]


def write(folder: Path, told: dict[str, Any]) -> None:
    """table.md and results.json. `told`: part → its machine and its rows, as `growing.py` collects them."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(told, indent=1))
    tables = {"approval": waiting, "people": waiting, "closing": closing, "storm": storm}
    parts = [_part(told[name], make(told[name]["rows"])) for name, make in tables.items() if name in told]
    (folder / "table.md").write_text("\n\n".join(parts) + "\n")


def waiting(rows: Rows) -> list[list[str]]:
    """Cases that wait; the slope is against the row with none, in the same processes."""
    none = rows[0]
    head = [
        "cases asked for",
        f"wait for {none['waits']}",
        "worker RSS / PSS MiB",
        "RSS per case KiB",
        "server RSS MiB",
    ]
    head += ["in the cache (evicted)", "events, kB a case", "workflow tasks/s", "activities/s"]
    head += ["worker CPU, cores", "opened in s"]
    out = [head]
    for row in rows:
        grown = (row["worker"]["rss"] - none["worker"]["rss"]) * 1024
        out.append(
            [
                f"{row['asked']}",
                f"{row['waiting']}" + (f" of {row['open']} open" if row["open"] != row["waiting"] else ""),
                f"{row['worker']['rss']:.0f} / {row['worker']['pss']:.0f}",
                f"{grown / row['waiting']:.0f}" if row["waiting"] else "–",
                f"{row['server']['rss']:.0f}",
                f"{row['cached']:.0f} ({row['evicted'] - none['evicted']:.0f})",
                f"{row['events']}, {row['bytes'] / 1000:.0f}",
                f"{row['workflow_tasks']:.1f}",
                f"{row['activities']:.1f}",
                f"{row['worker_cpu']:.2f}",
                f"{row['took_s']:.0f}",
            ]
        )
    return out


def closing(rows: Rows) -> list[list[str]]:
    """Cases that close, by the number of workers."""
    out = [["workers", "closed", "in s", "closed/s", "× one worker", "workers' CPU, cores", "server CPU, cores"]]
    for row in rows:
        out.append(
            [
                f"{row['workers']}",
                f"{row['closed']} of {row['asked']}",
                f"{row['took_s']:.0f}",
                f"{row['per_s']:.1f}",
                f"{row['per_s'] / rows[0]['per_s']:.2f}",
                f"{row['workers_cpu']:.2f}",
                f"{row['server_cpu']:.2f}",
            ]
        )
    return out


def storm(rows: Rows) -> list[list[str]]:
    """Storms through the intake."""
    head = ["alerts over targets", "in a group", "accepted/s", "answer p50 / p99 ms", "refused, sent again"]
    head += ["intake RSS before → peak MiB", "signals a target, median / most", "found in histories, in records"]
    out = [[*head, "all closed after s"]]
    for row in rows:
        still = f", {row['still_open']} still open" if row["still_open"] else ""
        out.append(
            [
                f"{row['alerts']} over {row['targets']}",
                f"{row['size']}",
                f"{row['accepted_per_s']:.0f} ({row['accepted']} in {row['took_s']:.0f} s)",
                f"{row['answer']['p50']:.0f} / {row['answer']['p99']:.0f}",
                f"{row['refused']}",
                f"{row['intake_before']:.0f} → {row['intake_peak']:.0f}",
                f"{row['signals_median']:g} / {row['signals_most']}",
                f"{row['in_histories']}, {row['in_records']}",
                f"{row['closed_s']:.0f}{still}",
            ]
        )
    return out


def _part(part: dict[str, Any], table: list[list[str]]) -> str:
    lines = ["| " + " | ".join(line) + " |" for line in table]
    lines.insert(1, "|" + "---|" * len(table[0]))
    about = ", ".join(f"{k} {v}" for k, v in part["machine"].items() if k != "beside")
    return "\n".join([*lines, "", f"{about}. Beside it on the machine: {part['machine']['beside']}."])
