"""A domain's policy that stops nothing: for tests of something else than budgets, breaker and correlation."""

from __future__ import annotations

from runbooks.policy import DomainPolicy

UNBOUNDED = DomainPolicy(
    endpoints_per_hour=10**6,
    endpoints_per_hour_in_pool=10**6,
    nodes_per_hour=10**6,
    gpus_per_hour=10**6,
    share_per_hour=10**6,
    breaker_acts=10**6,
    breaker_bad=10**6,
    correlate_targets=10**6,
)
