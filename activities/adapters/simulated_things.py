"""What stands in a simulated cluster: nodes, replicas, workloads, and the templates that they run."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from runbooks.base import digest


@dataclass
class SimNode:
    """One machine. `up_at`: when it is back from a reboot. `sick`: what its agent finds wrong, by GPU index; `lost`: GPUs
    that it does not see; `resets`: how often it has reset each."""

    name: str
    gpus: int
    boot_id: str
    cordoned: bool = False
    failed: str = ""
    failed_at: datetime | None = None
    up_at: datetime | None = None
    sick: dict[int, str] = field(default_factory=dict)
    lost: set[int] = field(default_factory=set)
    resets: dict[int, int] = field(default_factory=dict)
    boots: int = 1


@dataclass(frozen=True)
class Template:
    """What a revision runs."""

    image: str
    env: tuple[tuple[str, str], ...] = ()

    @property
    def hash(self) -> str:
        """As the control plane names it."""
        return digest({"image": self.image, "env": dict(self.env)})[:10]


@dataclass
class SimPod:
    """One replica; a check replica belongs to no workload. `began_at`: when its process was last started. `held`: it cannot
    come up as things are."""

    name: str
    uid: str
    pool: str
    template: Template
    address: str
    gpus: int
    created_at: datetime
    node: str | None = None
    began_at: datetime | None = None
    deleted_at: datetime | None = None
    check: bool = False
    held: bool = False
    gpus_at: tuple[int, ...] = ()
    restarts: int = 0


@dataclass
class Flip:
    """A rollout at its own pace that never has a replica less: the next one runs the template at `next_at`."""

    template: Template
    every_s: float
    next_at: datetime


@dataclass
class SimWorkload:
    """One Deployment, with its disruption budget and autoscaler. Rolls over with `surge` replicas more and `unavailable`
    less. `start_s`: its replicas' own time to start; None: the world's."""

    pool: str
    desired: int
    gpus: int
    revisions: list[tuple[Template, datetime]]
    min_available: int | None = None
    autoscaler_max: int | None = None
    behaviour: str = ""
    behaviour_before_freeze: str | None = None
    paused: bool = False
    generation: int = 1
    rolled: Template | None = None
    start_s: float | None = None
    surge: int = 1
    unavailable: int = 0
    flip: Flip | None = None

    @property
    def present(self) -> Template:
        """The newest revision."""
        return self.revisions[-1][0]

    @property
    def frozen(self) -> bool:
        """Its autoscaler may not scale."""
        return self.behaviour == "disabled"

    def set_template(self, template: Template, now: datetime) -> None:
        """The newest revision from now on; one that was there before keeps the time of its birth."""
        born = next((at for one, at in self.revisions if one == template), now)
        self.revisions = [r for r in self.revisions if r[0] != template] + [(template, born)]
