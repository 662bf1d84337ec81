"""What tells whether a service is well, named once per engine dialect: a runbook says `error_rate` for any engine."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from runbooks.base import Model, Name
from runbooks.plan import IndicatorQuery
from runbooks.templates import Context, RenderError, render

SHARES = (
    "error_rate",
    "timeout_share",
    "connect_fail_share",
    "client_error_share",
    "http_400_share",
    "http_415_share",
    "http_422_share",
    "http_429_share",
)
SCRAPED = (*SHARES, "requests_per_second", "tokens_per_second", "queue", "kv_used")
PROBED = ("ok", "seconds")
OF_CLUSTER = (
    "replicas_serving",
    "rolled_out",
    "unschedulable",
    "replicas_left",
    "node_ready",
    "gpu_ok",
    "paused_share",
)


class Indicator(Model):
    """One measurement. `query` and `scope` are templates."""

    source: Literal["prometheus", "scrape", "probe", "cluster"] = Field(
        description="prometheus: PromQL. scrape: read from the proxy or engine directly. probe: a real generation. "
        "cluster: the control plane's word on a pool or node, with real generations where it says serving."
    )
    query: str = Field(
        min_length=1,
        description=f"PromQL; or one of {SCRAPED}; for a probe one of {PROBED}; for a cluster one of {OF_CLUSTER}.",
    )
    scope: str = Field(
        default="",
        description="scrape: route/NAME or a pool. probe: route/NAME or an endpoint address. cluster: a pool or a node.",
    )
    unit: str = Field(min_length=1)
    better: Literal["lower", "higher"]
    mark: str = Field(
        min_length=1, description="Where this definition comes from: R read, M measured, K known, I inferred."
    )

    @model_validator(mode="after")
    def _askable(self) -> Indicator:
        names = {"scrape": SCRAPED, "probe": PROBED, "cluster": OF_CLUSTER}.get(self.source)
        if names is None:
            return self
        if self.query not in names:
            raise ValueError(f"query: a {self.source} has {', '.join(names)}; there is no {self.query!r}")
        if not self.scope:
            raise ValueError(f"scope: a {self.source} needs one, for example route/{{{{ route }}}}")
        return self


class Dialect(Model):
    """All indicators of one engine."""

    dialect: Literal["vllm", "llamacpp"]
    indicators: dict[Name, Indicator]

    def query(self, name: str, context: Context, field: tuple[int | str, ...]) -> IndicatorQuery:
        """The indicator rendered for one case. Raises RenderError when it is not defined or cannot be rendered."""
        found = self.indicators.get(name)
        if found is None:
            known = ", ".join(sorted(self.indicators))
            raise RenderError(field, f"indicator {name!r} is not defined for {self.dialect}; there are {known}")
        where = (*field, f"indicator {name}")
        return IndicatorQuery(
            name=name,
            source=found.source,
            query=render(found.query, context, where, promql=found.source == "prometheus"),
            unit=found.unit,
            scope=render(found.scope, context, where),
        )
