"""What every actuator of a cluster refuses alike, real or simulated, before and after it has looked."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from pydantic import Field

from activities.adapters.kube_keys import DEPLOYMENT, NODE_AGENT, Key, domain_of, parse
from activities.errors import Refused
from runbooks.base import Model
from runbooks.change import GONE, Change, Permit, one_way
from runbooks.fleet import Fleet

APART = (("template", {"image", "env"}), ("replicas", DEPLOYMENT))
"""What cannot be set in one change of one pool: a template and a part of it; two requests to one object."""


class Mark(Model):
    """Who went through the domain's fence last. `marks`: generations before the act, of what bears no annotation."""

    epoch: int
    permit_id: str
    marks: dict[str, int] = Field(default_factory=dict)

    def of(self, permit: Permit) -> bool:
        """True when this very permit has raised it."""
        return (self.epoch, self.permit_id) == (permit.epoch, permit.id)


def checked(fleet: Fleet, change: Change, permit: Permit, families: Collection[str]) -> list[Key]:
    """The keys, sorted: what can be refused without looking at the world."""
    if set(change.before) != set(change.after) or not change.after:
        raise Refused("the change does not name the same settings before and after, or names none")
    if permit.change_digest != change.digest:
        raise Refused(f"permit {permit.id} is for another change ({permit.change_digest}, not {change.digest})")
    if not permit.id:
        raise Refused("the permit has no id")
    found = []
    for text in sorted(change.after):
        key = parse(text)
        if key is not None and key.family in NODE_AGENT and key.family not in families:
            raise Refused(f"{text} is done by the agent of node {key.owner}, not by the API server")
        if key is None or key.family not in families or (home := domain_of(fleet, key)) is None:
            raise Refused(f"{text}: no such setting in the fleet that this actuator serves")
        if home != permit.domain:
            raise Refused(f"{text} is in {home}, and permit {permit.id} is for {permit.domain}")
        if key.family == "pod" and change.after[text] != GONE:
            raise Refused(f"{text}: a pod can only be evicted, its next uid is not ours to choose")
        if change.before[text] == GONE and one_way(text):
            raise Refused(f"{text}: nothing brings back what is gone")
        for value in (change.before[text], change.after[text]):
            if problem := key.problem(value):
                raise Refused(problem)
        found.append(key)
    for one, others in APART:
        both = {k.owner for k in found if k.family == one} & {k.owner for k in found if k.family in others}
        if both:
            raise Refused(f"{', '.join(sorted(both))}: {one} and {' or '.join(sorted(others))} need two changes")
    return found


def fenced(mark: Mark | None, permit: Permit) -> bool:
    """True when this very permit went through before. Refused: a higher epoch, or another permit of this epoch, has."""
    if mark is None or mark.epoch < permit.epoch:
        return False
    if mark.of(permit):
        return True
    raise Refused(
        f"fenced: {permit.domain} is at epoch {mark.epoch} (permit {mark.permit_id}), "
        f"permit {permit.id} has epoch {permit.epoch}"
    )


def in_time(permit: Permit, now: datetime) -> None:
    """Refused when the permit has expired."""
    if now >= permit.act_before:
        raise Refused(f"permit {permit.id} expired at {permit.act_before.isoformat()}, it is {now.isoformat()}")
