"""Alert rules that sites have, over what they can measure. Written from public rule sets, and blind to how Interlock classifies.

Names: kube-prometheus and kube-state-metrics (Kube…), rules that people publish for vLLM, Envoy and DCGM, and plain names that a
team gives its own. Thresholds and durations are drawn per site between the given ends. Measures are named as Interlock's
indicators where there is one, else in the field's words; `synthetic_sight.py` says how each is measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["service", "endpoint", "node", "cluster"]


@dataclass(frozen=True)
class Rule:
    """Fires while `measure` is above (or `below`) its threshold; `of_normal`: a multiple of what is normal there.

    `names`: by a site's style: public rules, a team's own, terse. `also`: what a rich site sends beside it. `quick`: it has no
    `for`.
    """

    key: str
    names: tuple[str, str, str]
    kind: Kind
    measure: str
    threshold: tuple[float, float]
    below: bool = False
    of_normal: bool = False
    also: tuple[str, ...] = ()
    severity: Literal["info", "warning", "critical"] = "warning"
    quick: bool = False


_ERRORS = ("error_rate", "http_500_share", "http_408_share", "http_503_share", "http_504_share", "timeout_share")
_ENGINE = (
    "latency_p99",
    "ttft_p99",
    "queue",
    "kv_used",
    "tokens_per_second",
    "requests_per_second",
    "arrival_of_normal",
)
_REPLICAS = ("replicas_ready", "replicas_desired", "replicas_serving", "restarts_10m")
_CLIENTS = ("client_error_share", "http_400_share", "http_415_share", "http_422_share", "http_429_share")

RULES: tuple[Rule, ...] = (
    Rule("errors", ("EnvoyHighErrorRate", "ModelErrorRateHigh", "HTTP5xx"),
         "service", "error_rate", (0.02, 0.1),
         also=(*_ERRORS, *_ENGINE, *_REPLICAS), severity="critical"),
    Rule("timeouts", ("EnvoyUpstreamRequestTimeouts", "InferenceTimeouts", "TimeoutRate"),
         "service", "timeout_share", (0.01, 0.05),
         also=(*_ERRORS, *_ENGINE, "replicas_serving"), severity="critical"),
    Rule("queue", ("VLLMHighQueueWait", "InferenceQueueBuildingUp", "QueueDepth"),
         "service", "queue", (10.0, 40.0),
         also=(*_ENGINE, "error_rate", "replicas_serving")),
    Rule("kv", ("VLLMKVCacheUsageHigh", "KVCachePressure", "KVCache"),
         "service", "kv_used", (0.85, 0.95),
         also=(*_ENGINE, "error_rate")),
    Rule("ttft", ("VLLMTimeToFirstTokenHigh", "SlowFirstToken", "TTFT"),
         "service", "ttft_p99", (1.4, 4.0), of_normal=True,
         also=(*_ENGINE, "error_rate")),
    Rule("latency", ("EnvoyHighRequestLatency", "InferenceLatencyHigh", "LatencyP99"),
         "service", "latency_p99", (1.25, 2.2), of_normal=True,
         also=(*_ENGINE, "error_rate", "timeout_share")),
    Rule("client_errors", ("EnvoyHigh4xxRate", "ModelRejectsRequests", "HTTP4xx"),
         "service", "client_error_share", (0.03, 0.1),
         also=(*_CLIENTS, "error_rate", "requests_per_second")),
    Rule("limited", ("RateLimitedRequestsHigh", "TooManyRequests", "HTTP429"),
         "service", "http_429_share", (0.03, 0.1),
         also=(*_CLIENTS, "error_rate", "queue", "kv_used")),
    Rule("replicas", ("KubeDeploymentReplicasMismatch", "ModelReplicasMissing", "ReplicasLow"),
         "service", "replicas_ready", (0.8, 0.99),
         below=True, of_normal=True, also=(*_REPLICAS, "unschedulable", "error_rate")),
    Rule("restarts", ("KubePodCrashLooping", "EnginesRestart", "CrashLoop"),
         "service", "restarts_10m", (0.5, 2.5),
         also=(*_REPLICAS, "error_rate", "last_terminated_reason"), severity="critical"),
    Rule("rollout", ("KubeDeploymentRolloutStuck", "RolloutDoesNotProgress", "RolloutStuck"),
         "service", "rollout_stuck_s", (120.0, 300.0),
         also=(*_REPLICAS, "error_rate")),
    Rule("pending", ("KubePodNotScheduled", "ReplicasPendingForGpus", "PendingPods"),
         "service", "unschedulable", (0.5, 0.5),
         also=(*_REPLICAS, "queue", "arrival_of_normal")),
    Rule("empty", ("EnvoyNoHealthyUpstream", "PoolHasNoEngine", "PoolEmpty"),
         "service", "replicas_serving", (0.05, 0.3), below=True,
         also=(*_REPLICAS, "error_rate"), severity="critical", quick=True),
    Rule("canary", ("CanaryPromptFailed", "AnswerQualityLow", "EvalCanary"),
         "service", "canary_pass", (0.8, 0.95), below=True,
         also=("error_rate", "latency_p99", "requests_per_second")),
    Rule("spread", ("QueueSpreadHigh", "HotReplica", "Imbalance"),
         "service", "queue_spread", (3.0, 6.0),
         also=("queue", "error_rate", "replicas_serving")),
    Rule("share", ("BackendTrafficShareDrift", "PoolGetsTooMuch", "TrafficShare"),
         "service", "traffic_share_of_weight", (1.3, 1.8),
         also=("queue", "error_rate", "requests_per_second", "weight_changes_10m")),
    Rule("surge", ("RequestRateSurge", "TrafficAboveForecast", "Surge"),
         "service", "arrival_of_normal", (1.4, 1.8),
         also=(*_ENGINE, "error_rate")),
    Rule("connect", ("EnvoyUpstreamConnectFailures", "EnginesUnreachable", "ConnectFail"),
         "service", "connect_fail_share", (0.03, 0.15),
         also=("error_rate", "replicas_ready", "replicas_serving", "nodes_not_ready_share")),
    Rule("stalled", ("VLLMEngineStalled", "EngineMakesNoTokens", "NoTokens"),
         "endpoint", "stalled_s", (60.0, 150.0),
         also=("running", "tokens_per_second", "health_ok"), severity="critical", quick=True),
    Rule("no_data", ("TargetDown", "PoolMetricsAbsent", "NoData"), "service", "metrics_absent_s", (60.0, 180.0), quick=True),
    Rule("flat", ("MetricsStale", "FiguresStandStill", "StaleData"), "service", "metrics_flat_s", (120.0, 300.0), quick=True),
    Rule("acts", ("ActuatorChangesPerHour", "WeightsChangeTooOften", "ChangeRate"),
         "service", "weight_changes_10m", (2.5, 4.5),
         also=("error_rate",), quick=True),
    Rule("node", ("KubeNodeNotReady", "GpuNodeNotReady", "NodeDown"),
         "node", "node_ready", (0.5, 0.5), below=True,
         also=("gpus_lost", "nodes_not_ready_share"), severity="critical"),
    Rule("nodes", ("KubeNodesNotReadyMany", "ManyNodesLost", "NodesDown"),
         "cluster", "nodes_not_ready_share", (0.15, 0.3),
         also=("nodes_not_ready", "connect_fail_share", "apiserver_error_share"), severity="critical"),
    Rule("api", ("KubeAPIErrorBudgetBurn", "ApiServerSick", "APIServer"),
         "cluster", "apiserver_error_share", (0.05, 0.2),
         also=("apiserver_latency_p99", "apiserver_load", "nodes_not_ready_share"), severity="critical"),
    Rule("api_latency", ("KubeAPILatencyHigh", "ApiServerSlow", "APILatency"),
         "cluster", "apiserver_latency_p99", (1.0, 4.0),
         also=("apiserver_error_share", "nodes_not_ready_share")),
    Rule("names", ("CoreDNSErrorsHigh", "NameResolutionFails", "DNS"),
         "cluster", "dns_error_share", (0.02, 0.1),
         also=("apiserver_error_share", "apiserver_latency_p99")),
)  # fmt: skip
CHANGE_MARKS = ("minutes_since_change", "change")
"""What a site with change markers adds to every alert of a pool that was changed within the last hour."""
