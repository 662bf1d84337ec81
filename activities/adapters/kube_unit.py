"""One object that a change writes: looked at afresh, judged, and written by compare-and-set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from activities.adapters.kube_errors import Json
from activities.adapters.kube_keys import DEPLOYMENT, Key
from activities.errors import Refused
from runbooks.facts import Settings

EPOCH, PERMIT = "interlock.dev/epoch", "interlock.dev/permit"


@dataclass(frozen=True)
class Look:
    """The object as it is now; `settings` are those of the unit's keys that it has: none when it is not there.

    `generation` rises with every change of the specification, by whomever. `thing` and `sets` are for the writer alone.
    """

    settings: Settings = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)
    generation: int = 0
    thing: Json | None = None
    sets: tuple[Json, ...] = ()

    def stamp(self) -> tuple[int, str]:
        """Epoch and permit of our last write. Refused: mangled, so nobody can say whether a later permit wrote it."""
        epoch = self.notes.get(EPOCH, "0")
        if not epoch.isdigit():
            raise Refused(f"the annotation {EPOCH} is {epoch!r}: set it to the domain's highest epoch")
        return int(epoch), self.notes.get(PERMIT, "")


@dataclass(frozen=True)
class Unit:
    """`kind` is node, deployment, scale, autoscaler or pod. All its keys are written in one request."""

    kind: str
    owner: str
    keys: tuple[Key, ...]

    @property
    def role(self) -> str:
        """The manifest in docs/rbac that allows its writes."""
        return self.keys[0].role

    @property
    def stamped(self) -> bool:
        """True when what we write carries our epoch and permit: not through the scale subresource, nor by eviction."""
        return self.kind in {"node", "deployment", "autoscaler"}


def units(keys: Sequence[Key]) -> list[Unit]:
    """The keys by object, in a fixed order."""
    found: dict[tuple[str, str, str], list[Key]] = {}
    for key in sorted(keys, key=lambda k: k.text):
        kind = {"cordon": "node", "boot": "node", "gpu": "node", "replicas": "scale", "autoscale": "autoscaler"}.get(
            key.family, "deployment" if key.family in DEPLOYMENT else "pod"
        )
        found.setdefault((kind, key.owner, key.name if kind == "pod" else ""), []).append(key)
    return [Unit(kind, owner, tuple(some)) for (kind, owner, _), some in sorted(found.items())]
