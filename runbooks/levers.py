"""Every lever as a typed, rendered Step: a closed union. A new lever starts here, and mypy then names what is missing."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal, assert_never

from pydantic import Field

from runbooks.base import Model, Name, Seconds, Share


class Kind(StrEnum):
    """What back to normal means for a lever."""

    RESTORABLE = "restorable"
    PERMANENT = "permanent"
    IRREVERSIBLE = "irreversible"
    HARMLESS = "harmless"


class RerouteTraffic(Model):
    """Moves weight of a route away from one pool, in increments, to pools that have room for it."""

    lever: Literal["reroute_traffic"] = "reroute_traffic"
    route: Name
    away_from: Name
    keep: Share = Field(default=0.0, description="Share of the route's weight that stays on the pool in the end.")
    increment: Share = Field(default=0.25, gt=0, description="Largest share of the route moved before the next verify.")


class IsolateEndpoint(Model):
    """Takes one replica's endpoint out of rotation and closes its connections."""

    lever: Literal["isolate_endpoint"] = "isolate_endpoint"
    pool: Name
    endpoint: Name


class RecycleConnections(Model):
    """Drops upstream connections of a pool and tightens keep-alive (our reading of *connection liveness*)."""

    lever: Literal["recycle_connections"] = "recycle_connections"
    pool: Name
    max_connection_s: Seconds = Field(default=10.0, ge=1, description="Longest life of an upstream connection, s.")


class ShedLoad(Model):
    """Lowers the limit of one tier so that it cannot starve others (our reading of *per-endpoint isolation*)."""

    lever: Literal["shed_load"] = "shed_load"
    route: Name
    tier: Name
    admit: Share = Field(default=0.0, description="Share of the tier's requests still admitted in the end.")
    increment: Share = Field(default=0.5, gt=0, description="Largest share refused more before the next verify.")


class Page(Model):
    """Tells people, deduplicated. Needs no permit and no approval."""

    lever: Literal["page"] = "page"
    summary: str = Field(min_length=1, max_length=500)


Step = Annotated[RerouteTraffic | IsolateEndpoint | RecycleConnections | ShedLoad | Page, Field(discriminator="lever")]
ActingStep = Annotated[RerouteTraffic | IsolateEndpoint | RecycleConnections | ShedLoad, Field(discriminator="lever")]
LEVERS: tuple[str, ...] = ("reroute_traffic", "isolate_endpoint", "recycle_connections", "shed_load", "page")


def kind(step: Step) -> Kind:
    """Whether the step can be restored, must stand, or cannot be taken back."""
    match step:
        case RerouteTraffic() | IsolateEndpoint() | RecycleConnections() | ShedLoad():
            return Kind.RESTORABLE
        case Page():
            return Kind.HARMLESS
    assert_never(step)


def direction(step: Step) -> str:
    """What the approval covers, in one phrase: a change the other way is outside of the envelope."""
    match step:
        case RerouteTraffic():
            return f"moves traffic of route {step.route} away from {step.away_from}"
        case IsolateEndpoint():
            return f"takes {step.endpoint} out of rotation in {step.pool}"
        case RecycleConnections():
            return f"closes the connections of {step.pool} and bounds their life"
        case ShedLoad():
            return f"refuses requests of tier {step.tier} on route {step.route}"
        case Page():
            return "tells people"
    assert_never(step)
