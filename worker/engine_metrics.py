"""Renders the simulated engine's counters in the Prometheus text format, under vLLM's or llama.cpp's own names."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from worker.engine_core import Simulation

Dialect = Literal["vllm", "llamacpp"]


class Histogram:
    """Counts by upper bound, as Prometheus wants them."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def add(self, value: float) -> None:
        """One observation."""
        self._counts[bisect_left(self.bounds, value)] += 1
        self._sum += value

    def lines(self, name: str, label: str) -> list[str]:
        """The cumulative buckets, the sum and the count."""
        lines, seen = [f"# TYPE {name} histogram"], 0
        for bound, count in zip((*map(str, self.bounds), "+Inf"), self._counts, strict=True):
            seen += count
            lines.append(f'{name}_bucket{{{label},le="{bound}"}} {seen}')
        return [*lines, f"{name}_sum{{{label}}} {self._sum}", f"{name}_count{{{label}}} {seen}"]


def render(engine: Simulation, model: str, dialect: Dialect) -> str:
    """The whole of /metrics. llama.cpp has no labels, no KV gauge and no histograms; neither has this then."""
    if dialect == "llamacpp":
        plain = [
            ("prompt_tokens_total", "counter", engine.prompt_tokens),
            ("tokens_predicted_total", "counter", engine.generated),
            ("requests_processing", "gauge", engine.running),
            ("requests_deferred", "gauge", engine.waiting),
        ]
        lines = [line for n, t, v in plain for line in (f"# TYPE llamacpp:{n} {t}", f"llamacpp:{n} {v}")]
        return "\n".join(lines) + "\n"
    label = f'engine="0",model_name="{model}"'
    values = [
        ("num_requests_running", "gauge", "", float(engine.running)),
        ("num_requests_waiting", "gauge", "", float(engine.waiting)),
        ("kv_cache_usage_perc", "gauge", "", engine.kv_used),
        ("prompt_tokens_total", "counter", "", float(engine.prompt_tokens)),
        ("generation_tokens_total", "counter", "", float(engine.generated)),
        ("request_success_total", "counter", ',finished_reason="length"', float(engine.finished)),
    ]
    lines = []
    for name, kind, more, value in values:
        lines += [f"# TYPE vllm:{name} {kind}", f"vllm:{name}{{{label}{more}}} {value}"]
    lines += engine.first_token_s.lines("vllm:time_to_first_token_seconds", label)
    lines += engine.request_s.lines("vllm:e2e_request_latency_seconds", label)
    lines += engine.iteration_tokens.lines("vllm:iteration_tokens_total", label)
    return "\n".join(lines) + "\n"
