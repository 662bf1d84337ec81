"""A whole site behind the ports, played by the fluid model from an incident file. docs/simulated-fleet.md says how."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import datetime

from activities.adapters.fluid_account import Account
from activities.adapters.fluid_world import FluidWorld
from activities.adapters.simulated_clusters import SimulatedClusters
from activities.adapters.simulated_health import Health
from activities.adapters.simulated_metrics import SimulatedMetrics
from activities.adapters.simulated_node import SimulatedNode
from activities.adapters.simulated_notify import SimulatedNotify
from activities.adapters.simulated_prober import TIMEOUT_S, SimulatedProber
from activities.adapters.simulated_traffic import SimulatedTraffic
from activities.adapters.simulated_view import View
from activities.ports import Actuator, Cluster, Metrics, Prober, Traffic
from runbooks.detection import Target
from runbooks.facts import Value
from runbooks.incident import Incident

GRID_S = 0.5
"""Ports see the model at whole multiples of this: what they say must not hang on how fast the machine is that asks."""


class SimulatedSite:
    """All ports on one fleet. `clock` gives the virtual time, which never goes back; every call of a port first brings the
    fleet to it.

    `fleet` is the inventory for Interlock. `prober` asks anew; `watched` calls an engine busy that gives tokens to others.
    `account` is what happened to users. `world` is the model itself: looks of `fluid_look.py` tell what it does.
    `minimum`: fewest replicas of a pool that must answer, as a share of its replicas. `probe_s`: how long a probe waits.
    """

    def __init__(
        self,
        incident: Incident,
        clock: Callable[[], datetime],
        *,
        minimum: float = 0.5,
        probe_s: float = TIMEOUT_S,
    ) -> None:
        self.incident = incident
        self.world = FluidWorld(incident, minimum)
        self.fleet = self.world.fleet
        self.account: Account = self.world.account
        self._clock = clock
        self._view = View(self.world, clock)
        self._health = Health(self._view)
        prober = SimulatedProber(self._view, self._present, timeout_s=probe_s)
        patient = SimulatedProber(self._view, self._present, patient=True, timeout_s=probe_s)
        clusters = SimulatedClusters(self._view, clock, self._present)
        self.traffic: Traffic = SimulatedTraffic(self._view, clock, self._present)
        self.cluster: Cluster = clusters
        self.metrics: Metrics = SimulatedMetrics(self._view, clusters, prober, patient, clock, self._present)
        self.prober: Prober = prober
        self.watched: Prober = patient
        self.notify = SimulatedNotify(clock)

    def node(self, name: str) -> Actuator:
        """The hands of one node. ValueError: the fleet has none of this name."""
        if self.fleet.node(name) is None:
            raise ValueError(f"the fleet of {self.incident.incident} has no node {name!r}")
        return SimulatedNode(name, self._view, self._clock, self._present)

    def advance(self, now: datetime) -> None:
        """Whatever happens by itself until then. An earlier moment than the last: nothing."""
        to = self.world.seconds_of(now)
        if to > self.world.t:
            self.world.advance(to)

    def set_by_hand(self, settings: Mapping[str, Value]) -> None:
        """Whoever asks neither fence nor permit. ValueError: there is no such setting."""
        self._present()
        self.world.hand(settings, "by hand")
        self.world.settle()

    def well(self, target: Target) -> bool | None:
        """Whether what a detector of this target watches is well now. None: it sees nothing, or the fleet has no such one."""
        self._present()
        return self._health.well(target)

    def _present(self) -> None:
        to = math.floor(self.world.seconds_of(self._clock()) / GRID_S) * GRID_S
        if to > self.world.t:
            self.world.advance(to)
