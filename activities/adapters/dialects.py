"""Names of the same measurement in vLLM and in llama.cpp. None: the engine does not have it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Dialect:
    """`progress`: counters that rise while the engine generates; any of them rising proves that it is not hung."""

    tokens: str
    progress: tuple[str, ...]
    running: str
    waiting: str
    kv: str | None
    ttft: str | None
    latency: str | None


DIALECTS = {
    "vllm": Dialect(
        tokens="vllm:generation_tokens_total",
        progress=("vllm:generation_tokens_total",),
        running="vllm:num_requests_running",
        waiting="vllm:num_requests_waiting",
        kv="vllm:kv_cache_usage_perc",
        ttft="vllm:time_to_first_token_seconds",
        latency="vllm:e2e_request_latency_seconds",
    ),
    "llamacpp": Dialect(
        tokens="llamacpp:tokens_predicted_total",
        # llama.cpp counts tokens when a request ends, and its decode calls as they happen.
        progress=("llamacpp:tokens_predicted_total", "llamacpp:n_decode_total"),
        running="llamacpp:requests_processing",
        waiting="llamacpp:requests_deferred",
        kv=None,
        ttft=None,
        latency=None,
    ),
}
