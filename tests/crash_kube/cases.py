"""The levers on clusters as cases: a small cluster, a runbook of one step, and the writes that the API server must see.

The fault is a lamp: a node without GPUs or pods that is NotReady while the fault holds. What is tested is the spine
under SIGKILL, on the real control plane; that the levers mend real faults is tested elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from runbooks.indicators import Indicator
from runbooks.library import Library, load_library
from runbooks.policy import ClassPolicy, LeverPolicy, Policy, Timing
from runbooks.schema import Criterion, RestoreRule, Runbook, StepSpec, Verify
from tests.kube.cluster import PoolSpec
from tests.unbounded import UNBOUNDED

SERVES = Criterion(indicator="replicas_serving", above=1.0)
ROLLED = Criterion(indicator="rolled_out", above=1.0)


@dataclass(frozen=True)
class Story:
    """A case of one lever. `writes` is what the API server must have taken in all, in the words of `tally.said`.

    `stays` are settings that differ at the end from the beginning, in the words of `Lane.world`: for good.
    `nodes`: number of the node → GPUs. `objects`: how many the first increment writes.
    """

    lever: str
    failure_class: str
    alert: str
    outcome: str
    writes: tuple[str, ...]
    parameters: dict[str, Any]
    pools: tuple[PoolSpec, ...]
    nodes: dict[int, int]
    on: str = "service"
    proof: Criterion = SERVES
    receipts: int = 0
    objects: int = 1
    stays: dict[str, Any] = field(default_factory=dict)

    @property
    def by_node(self) -> bool:
        """True when the node's own worker acts."""
        return self.lever in ("reset_gpu", "reboot_node")


def _pool(name: str, replicas: int = 1) -> PoolSpec:
    return PoolSpec(name, replicas=replicas, budget=min(1, replicas - 1), slots=replicas + 2)


STORIES = (
    Story(
        lever="rebalance_nodes",
        failure_class="infra.node_down",
        alert="NodeNotReady",
        outcome="restored",
        writes=("cordon 1 on", "evict a", "try", "end try", "cordon 1 off"),
        parameters={"node": "{{ node }}"},
        pools=(_pool("a", 2),),
        nodes={1: 1, 2: 2},
        on="node",
        receipts=3,
    ),
    Story(
        lever="restart_engine",
        failure_class="engine.timeout",
        alert="EngineTimeouts",
        outcome="fixed",
        writes=("evict a", "evict a"),
        parameters={"pool": "{{ pool }}", "older_than": "{{ now }}"},
        pools=(_pool("a", 2),),
        nodes={1: 3},
        receipts=2,
    ),
    Story(
        lever="increase_capacity",
        failure_class="engine.exhaustion",
        alert="EngineExhausted",
        outcome="restored",
        writes=("replicas a 2", "replicas a 3", "replicas a 1"),
        parameters={"pool": "{{ pool }}", "by": 2},
        pools=(_pool("a"),),
        nodes={1: 3},
        receipts=3,
    ),
    Story(
        lever="rollout_hotfix",
        failure_class="engine.bad_output",
        alert="EngineBadOutput",
        outcome="fixed",
        writes=("image a engine:v2", "image b engine:v2"),
        parameters={"rings": [["a"], ["b"]], "image": "engine:v2"},
        pools=(_pool("a"), _pool("b")),
        nodes={1: 3},
        proof=ROLLED,
        receipts=2,
        stays={"a image": "engine:v2", "b image": "engine:v2"},
    ),
    Story(
        lever="rollback_change",
        failure_class="engine.latency_spike",
        alert="EngineLatency",
        outcome="fixed",
        writes=("template a",),
        parameters={"pool": "{{ pool }}", "fault_began": "{{ began }}"},
        pools=(_pool("a"),),
        nodes={1: 2},
        proof=ROLLED,
        receipts=1,
        stays={"a image": "engine:v1"},
    ),
    Story(
        lever="freeze_changes",
        failure_class="infra.control_plane",
        alert="KubeAPIDown",
        outcome="restored",
        writes=("autoscale a off", "paused a on", "paused b on", "autoscale a on", "paused a off", "paused b off"),
        objects=3,
        parameters={"cluster": "{{ cluster }}"},
        pools=(_pool("a"), _pool("b")),
        nodes={1: 2},
        receipts=2,
    ),
    Story(
        lever="reset_gpu",
        failure_class="infra.gpu_fault",
        alert="GpuRowRemapPending",
        outcome="fixed",
        writes=("resets 1 1",),
        parameters={"node": "{{ node }}", "gpu": "{{ gpu }}"},
        pools=(_pool("a"),),
        nodes={1: 0, 2: 1},
        on="gpu",
        receipts=1,
    ),
    Story(
        lever="reboot_node",
        failure_class="infra.gpu_fault",  # its kubelet answers, which triage sees
        alert="GpuRowRemapPending",
        outcome="fixed",
        writes=(),
        parameters={"node": "{{ node }}"},
        pools=(_pool("a"),),
        nodes={1: 0, 2: 1},
        on="node",
        receipts=1,
    ),
)
BY_LEVER = {story.lever: story for story in STORIES}


def library(story: Story) -> Library:
    """The shipped catalogue with one runbook, of one acting step, for the story's class."""
    shipped = load_library(None)
    lamp = Indicator(
        source="cluster", query="node_ready", scope="{{ cluster }}-lamp", unit="share", better="higher", mark="I: tests"
    )
    dialect = shipped.dialects["vllm"]
    dialect = dialect.model_copy(update={"indicators": {**dialect.indicators, "lamp": lamp}})
    # The machine is busy with many lanes: much time to prove it, and little to hold it.
    verify = Verify(criteria=(story.proof,), soak_s=1.0, every_s=1.0, deadline_s=60.0, min_samples=2)
    step = StepSpec.model_validate(
        {
            "lever": story.lever,
            "with": story.parameters,
            "verify": verify.model_dump(exclude_none=True),
            "restore": RestoreRule(clear_for_s=1.0, every_s=0.5).model_dump(),
        }
    )
    page = StepSpec.model_validate({"lever": "page", "with": {"summary": "it did not help"}})
    book = Runbook.model_validate(
        {
            "class": story.failure_class,
            "title": f"{story.lever} under SIGKILL",
            "applies_to": [story.on],
            "steps": [
                step.model_dump(by_alias=True, exclude_none=True),
                page.model_dump(by_alias=True, exclude_none=True),
            ],
            "healthy": {"indicator": "lamp", "above": 1.0},
            "source": "tests",
        }
    )
    return shipped.model_copy(update={"dialects": {"vllm": dialect}, "runbooks": {"only.yaml": book}})


def policy() -> Policy:
    """Everything by itself; a worker that is dead for half a minute must not use up the time that a step may be held."""
    loose = LeverPolicy(largest_increment=1.0, max_acts_per_hour=1000, attempts=1000, unattended=True)
    return Policy(
        name="lab",
        default=ClassPolicy(mode="auto"),
        levers={story.lever: loose for story in STORIES},
        min_answering=0.34,
        domain=UNBOUNDED,
        timing=Timing(scrape_period_s=5.0, permit_ttl_s=10.0, settle_s=0.2, hold_s=0.5, hold_limit_s=180, linger_s=0),
    )
