"""Where the milliseconds of one alert go: the spans that Interlock exports by OpenTelemetry, drawn from send to act.

    python -m tests.bench.trace --out .bench/results [--production] [--samples 20]

Sends paced alerts, takes the one with the median latency, prints its timeline and writes it as trace.svg and trace.txt.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from html import escape
from pathlib import Path

from tests.bench.contestant import SinkView
from tests.bench.interlock import Interlock
from tests.bench.report import machine
from tests.bench.sender import send
from tests.bench.wire import Connection
from tests.e2e.otlp import Sink as Exported
from tests.e2e.otlp import otlp_sink
from worker.demo.processes import ProcessTree, free_ports
from worker.leave import leave

WIDTH, LEFT, RIGHT, ROW, TOP = 980, 330, 70, 24, 62
COLOURS = {"interlock": "#0b6e4f", "interlock-worker": "#0b6e4f", "interlock-intake": "#2b6cb0", "harness": "#8a5a00"}


@dataclass(frozen=True)
class Bar:
    """One span: milliseconds since the alert was sent. `depth`: how deep it is in the tree."""

    name: str
    begins: float
    ends: float
    depth: int
    who: str


async def traced(production: bool, samples: int, folder: Path, domains: int) -> tuple[list[float], list[Bar], float]:
    """Latencies of all samples in ms, and the bars and the latency of the median one."""
    with ExitStack() as stack:
        exported = stack.enter_context(otlp_sink())
        tree = stack.enter_context(ProcessTree(folder))
        who = Interlock(tree, production=production, domains=domains, otlp=exported.url)
        port = free_ports(1)[0]
        child = tree.start("sink", [sys.executable, "-m", "tests.bench.sink", "--port", str(port)])
        view = SinkView(port)

        async def up() -> bool:
            try:
                return len(await view.acts()) == 0
            except OSError:
                return False

        await tree.ready(child, up)
        await who.start(port)
        found: list[tuple[float, float]] = []  # latency in seconds, and when it was sent (Unix time)
        offset = time.time() - time.monotonic()
        async with Connection("127.0.0.1", who.door.port) as connection:
            for n in range(samples + 2):
                target = await who.next()
                alert = target.alert()
                sent = await send(connection, who.door, alert)
                at = await view.first(who.act_of(alert), sent.left, 30)
                if at is not None and n >= 2:
                    found.append((at - sent.left, sent.left + offset))
                await who.over(target, alert)
                await asyncio.sleep(1.0)
        await asyncio.sleep(6.0)  # spans are exported every five seconds
        middle = sorted(found)[(len(found) - 1) // 2]
        return [1000 * s for s, _ in found], bars(exported, *middle), 1000 * middle[0]


def bars(exported: Exported, took_s: float, left: float) -> list[Bar]:
    """The spans of the trace whose request came right after `left`, up to the act, in the order in which they began."""
    spans = exported.spans
    roots = [s for _, s in spans if s.name.startswith("POST /v1/alerts") and s.start_time_unix_nano / 1e9 >= left]
    root = min(roots, key=lambda s: s.start_time_unix_nano)
    mine = [(who, s) for who, s in spans if s.trace_id == root.trace_id]
    parents = {s.span_id: s.parent_span_id for _, s in mine}

    def depth(span_id: bytes) -> int:
        found = 0
        while (span_id := parents.get(span_id, b"")) in parents:
            found += 1
        return found

    out = [Bar("alert sent → act at the sink", 0.0, 1000 * took_s, 0, "harness")]
    for who, s in sorted(mine, key=lambda p: (p[1].start_time_unix_nano, -p[1].end_time_unix_nano)):
        begins, ends = (1000 * (t / 1e9 - left) for t in (s.start_time_unix_nano, s.end_time_unix_nano))
        if begins <= 1000 * took_s:
            out.append(Bar(s.name, begins, ends, depth(s.span_id) + 1, who))
    return out


def text(found: Sequence[Bar]) -> str:
    """One line per span; one that goes on after the act has no end here."""
    until = found[0].ends
    lines = [f"{'begins':>7} {'ends':>7} {'ms':>6}  span"]
    for bar in found:
        open_end = bar.ends > until + 0.05
        ends, took = ("   …   ", "   …  ") if open_end else (f"{bar.ends:7.1f}", f"{bar.ends - bar.begins:6.1f}")
        lines.append(f"{bar.begins:7.1f} {ends} {took}  {'  ' * bar.depth}{bar.name}")
    return "\n".join(lines)


def draw(found: Sequence[Bar], title: str) -> str:
    """SVG text."""
    until = found[0].ends
    height = TOP + ROW * len(found) + 34

    def x(ms: float) -> float:
        return LEFT + min(ms, until) / until * (WIDTH - LEFT - RIGHT)

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="12" y="24" font-size="15" font-weight="bold" fill="#1f2933">{escape(title)}</text>',
        '<text x="12" y="44" fill="#7b8794">milliseconds since the alert was sent; faded: goes on after the act</text>',
    ]
    step = next(s for s in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 5000) if until / s <= 12)
    for tick in range(0, int(until) + 1, step):
        out.append(f'<line x1="{x(tick):.1f}" y1="{TOP - 6}" x2="{x(tick):.1f}" y2="{height - 26}" stroke="#e4e7eb"/>')
        out.append(f'<text x="{x(tick):.1f}" y="{height - 10}" text-anchor="middle" fill="#7b8794">{tick}</text>')
    for n, bar in enumerate(found):
        y = TOP + ROW * n
        name = escape(bar.name.replace("StartUpdateWithStartWorkflow", "StartUpdateWithStart"))
        out.append(f'<text x="{12 + 10 * bar.depth}" y="{y + 14}" fill="#1f2933">{name}</text>')
        colour, faded = COLOURS.get(bar.who, "#0b6e4f"), 0.35 if bar.ends > until + 0.05 else 0.9
        wide = max(1.5, x(bar.ends) - x(bar.begins))
        box = f'x="{x(bar.begins):.1f}" y="{y + 3}" width="{wide:.1f}" height="14" rx="2"'
        out.append(f'<rect {box} fill="{colour}" opacity="{faded}"/>')
        if bar.ends <= until + 0.05:
            out.append(
                f'<text x="{x(bar.ends) + 4:.1f}" y="{y + 14}" fill="#7b8794">{bar.ends - bar.begins:.1f}</text>'
            )
    return "\n".join([*out, "</svg>"]) + "\n"


def main() -> None:
    """Runs it, prints and writes."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.trace", description=__doc__)
    parser.add_argument("--production", action="store_true")
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--domains", type=int, default=6)
    parser.add_argument("--out", type=Path, default=Path(".bench/results"))
    told = parser.parse_args()
    folder = told.out.absolute().parent / "runs" / "trace"
    shutil.rmtree(folder, ignore_errors=True)
    all_ms, found, middle = asyncio.run(traced(told.production, told.samples, folder, told.domains))
    profile = "production" if told.production else "embedded"
    about = f"Interlock, {profile}: one alert, {middle:.1f} ms (median of {len(all_ms)})"
    told.out.mkdir(parents=True, exist_ok=True)
    (told.out / f"trace-{profile}.svg").write_text(draw(found, about))
    under = ", ".join(f"{k} {v}" for k, v in machine().items())
    lines = [about, f"all, ms: {', '.join(f'{m:.0f}' for m in sorted(all_ms))}; median {statistics.median(all_ms):.1f}"]
    (told.out / f"trace-{profile}.txt").write_text("\n".join([*lines, text(found), under]) + "\n")
    print("\n".join([*lines, text(found), under]), flush=True)


if __name__ == "__main__":
    leave(main)
