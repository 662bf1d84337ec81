"""What a replay asks of a simulated site, beside the ports that Interlock's activities reach."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from activities.ports import Actuator, Cluster, Metrics, Notify, Prober, Traffic
from runbooks.detection import Target
from runbooks.fleet import Fleet


class Site(Protocol):
    """A fleet behind all ports, whose time is the clock that it was given. `watched`: what is asked before an act."""

    fleet: Fleet
    traffic: Traffic
    cluster: Cluster
    metrics: Metrics
    prober: Prober
    watched: Prober

    @property
    def notify(self) -> Notify:
        """People."""
        ...

    def node(self, name: str) -> Actuator:
        """The hands of one node."""
        ...

    def advance(self, now: datetime) -> None:
        """Whatever happens by itself until then."""
        ...

    def well(self, target: Target) -> bool | None:
        """Whether a detector that looks at this target now finds nothing wrong. None: it sees nothing."""
        ...
